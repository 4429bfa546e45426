use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use core::net::Ipv4Addr;

use basalt_bdev::Descriptor;
use basalt_net::{Endpoint, IpAddress};
use basalt_nvme_spec::{AnaState, Csi};

use super::NSID_MAX;
use super::controller::Controller;
use super::reservations::Reservations;
use crate::group::{SharedNamespace, SubsystemView, command_set};
use crate::health::Health;

/// Largest identifier a controller of the dynamic model may have (base specification §4.2).
pub(super) const CNTLID_MAX: u16 = 0xffef;

/// Whether a host may reset a subsystem with all of its controllers, those of other hosts included
/// (NSSR).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubsystemReset {
    /// It may.
    Supported,
    /// It may not.
    Unsupported,
}

/// What a subsystem is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubsystemOptions {
    /// Serial number, up to 20 ASCII characters.
    pub serial: String,
    /// Model number, up to 40 ASCII characters.
    pub model: String,
    /// Largest namespace identifier, 1 to 1024.
    pub namespaces_max: u32,
    /// Smallest controller identifier, 1 to 65519.
    pub cntlid_min: u16,
    /// Largest controller identifier, not below the smallest and at most 65519.
    pub cntlid_max: u16,
    /// Whether hosts are told how well each listener reaches the namespaces (base §8.1).
    pub ana_reporting: bool,
    /// Whether hosts may reset it.
    pub nssr: SubsystemReset,
}

impl Default for SubsystemOptions {
    fn default() -> Self {
        Self {
            serial: String::from("BASALT00000000000001"),
            model: String::from("Basalt bdev Controller"),
            namespaces_max: NSID_MAX,
            cntlid_min: 1,
            cntlid_max: CNTLID_MAX,
            ana_reporting: false,
            nssr: SubsystemReset::Unsupported,
        }
    }
}

/// How a namespace is to be named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NamespaceOptions {
    /// Its identifier; the lowest free one if not given.
    pub nsid: Option<u32>,
    /// Its UUID; the bdev's if not given.
    pub uuid: Option<[u8; 16]>,
    /// Its globally unique identifier, if it has one.
    pub nguid: Option<[u8; 16]>,
    /// Its ANA group, 1 to the largest namespace identifier; as its own identifier if not given.
    pub anagrpid: Option<u32>,
    /// Whether only hosts see it that are added to it; every host of the subsystem if not.
    pub no_auto_visible: bool,
}

/// Where hosts reach a subsystem. A port is opened at every address of the machine; a Connect by
/// another address than the listener's is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The address, or the unspecified one for all.
    pub address: IpAddress,
    /// The TCP port.
    pub port: u16,
}

impl Listener {
    /// Whether a host that reached us at `at` came this way.
    pub(super) fn accepts(&self, at: &Endpoint) -> bool {
        self.port == at.port() && (self.address.is_unspecified() || self.address == at.ip())
    }
}

/// The port at every address.
impl From<u16> for Listener {
    fn from(port: u16) -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), port }
    }
}

/// A listener that a subsystem has.
pub(super) struct SubsystemListener {
    /// Never given to another.
    pub(super) id: u32,
    pub(super) at: Listener,
    /// How it reaches the ANA groups, from group 1.
    pub(super) ana: Vec<AnaState>,
}

/// The ports of `listeners`, each once, ascending.
pub(super) fn ports<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> Vec<u16> {
    let mut ports: Vec<u16> = listeners.into_iter().map(|listener| listener.port).collect();
    basalt_env::sort_few_by_key(&mut ports, |port| *port);
    ports.dedup();
    ports
}

/// A bdev as part of a subsystem.
pub(super) struct Namespace {
    pub(super) bdev: Descriptor,
    pub(super) uuid: [u8; 16],
    pub(super) nguid: [u8; 16],
    pub(super) anagrpid: u32,
    pub(super) seen_by: SeenBy,
    pub(super) reservations: Reservations,
}

impl Namespace {
    /// Its I/O command set.
    pub(super) fn command_set(&self) -> Csi {
        command_set(&self.bdev)
    }

    /// Whether a controller's host sees it. It is not attached to one whose host has not selected
    /// its command set (base §3.1.3.5, CC.CSS).
    pub(super) fn is_seen_by(&self, controller: &Controller) -> bool {
        let is_seen = self.seen_by.includes(&controller.hostnqn);
        is_seen && controller.command_sets().include(self.command_set())
    }
}

/// Which hosts see a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SeenBy {
    /// All that the subsystem admits.
    Every,
    /// Only these.
    Hosts(Vec<String>),
}

impl SeenBy {
    /// Whether the host named `host` is one of them.
    pub(crate) fn includes(&self, host: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Hosts(hosts) => hosts.iter().any(|other| other == host),
        }
    }
}

pub(super) struct Subsystem {
    pub(super) id: u32,
    pub(super) nqn: String,
    pub(super) options: SubsystemOptions,
    pub(super) any_host: bool,
    pub(super) hosts: Vec<String>,
    pub(super) listeners: Vec<SubsystemListener>,
    pub(super) namespaces: BTreeMap<u32, Namespace>,
    /// Grows with every change of the namespaces or of the access to them.
    pub(super) version: u64,
    /// Whether it has been reset since the start.
    pub(super) was_reset: bool,
    pub(super) health: Arc<Health>,
}

impl Subsystem {
    /// Whether the host named `hostnqn` may connect.
    pub(super) fn admits(&self, hostnqn: &str) -> bool {
        self.any_host || self.hosts.iter().any(|host| host == hostnqn)
    }

    /// By which listener a host comes that reached us at `at`: one at that very address goes before
    /// one at all of them.
    pub(super) fn listener_at(&self, at: &Endpoint) -> Option<&SubsystemListener> {
        let accepts = |listener: &&SubsystemListener| listener.at.accepts(at);
        let matching = self.listeners.iter().filter(accepts);
        matching.min_by_key(|listener| listener.at.address.is_unspecified())
    }

    /// The namespaces that a controller's host sees.
    pub(super) fn namespaces_for(
        &self,
        controller: &Controller,
    ) -> impl Iterator<Item = (u32, &Namespace)> {
        let all = self.namespaces.iter().map(|(nsid, namespace)| (*nsid, namespace));
        all.filter(|(_, namespace)| namespace.is_seen_by(controller))
    }

    /// Namespace `nsid`, if a controller's host sees it.
    pub(super) fn namespace_for(&self, controller: &Controller, nsid: u32) -> Option<&Namespace> {
        let namespace = self.namespaces.get(&nsid)?;
        namespace.is_seen_by(controller).then_some(namespace)
    }

    /// The TCP ports of its listeners, each once, ascending.
    pub(super) fn ports(&self) -> Vec<u16> {
        ports(self.listeners.iter().map(|listener| &listener.at))
    }

    /// What the cores need to know.
    pub(super) fn view(&self) -> Arc<SubsystemView> {
        let shared = |(nsid, namespace): (&u32, &Namespace)| SharedNamespace {
            nsid: *nsid,
            bdev: namespace.bdev.clone(),
            anagrpid: namespace.anagrpid,
            seen_by: namespace.seen_by.clone(),
            guard: namespace.reservations.guard().cloned(),
        };
        let states = |listener: &SubsystemListener| (listener.id, listener.ana.clone());
        Arc::new(SubsystemView {
            subsystem: self.id,
            version: self.version,
            namespaces: self.namespaces.iter().map(shared).collect(),
            ana: self.options.ana_reporting.then(|| self.listeners.iter().map(states).collect()),
            health: Arc::clone(&self.health),
        })
    }
}
