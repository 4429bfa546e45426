use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_bdev::Descriptor;

use crate::group::SubsystemView;

/// What a subsystem is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubsystemOptions {
    /// Serial number, up to 20 ASCII characters.
    pub serial: String,
    /// Model number, up to 40 ASCII characters.
    pub model: String,
}

impl Default for SubsystemOptions {
    fn default() -> Self {
        Self {
            serial: String::from("BASALT00000000000001"),
            model: String::from("Basalt bdev Controller"),
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
}

/// A bdev as part of a subsystem.
pub(super) struct Namespace {
    pub(super) bdev: Descriptor,
    pub(super) uuid: [u8; 16],
    pub(super) nguid: [u8; 16],
}

pub(super) struct Subsystem {
    pub(super) id: u32,
    pub(super) nqn: String,
    pub(super) options: SubsystemOptions,
    pub(super) any_host: bool,
    pub(super) hosts: Vec<String>,
    pub(super) ports: Vec<u16>,
    pub(super) namespaces: BTreeMap<u32, Namespace>,
    /// Grows with every change of the namespaces.
    pub(super) version: u64,
}

impl Subsystem {
    /// Whether the host named `hostnqn` may connect.
    pub(super) fn admits(&self, hostnqn: &str) -> bool {
        self.any_host || self.hosts.iter().any(|host| host == hostnqn)
    }

    /// The namespaces for the cores.
    pub(super) fn view(&self) -> SubsystemView {
        let behind = |(nsid, namespace): (&u32, &Namespace)| (*nsid, namespace.bdev.clone());
        SubsystemView {
            subsystem: self.id,
            version: self.version,
            namespaces: self.namespaces.iter().map(behind).collect(),
        }
    }
}
