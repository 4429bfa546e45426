use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use basalt_nvme_spec::fabrics::{DISCOVERY_NQN, NQN_LEN_MAX};
use basalt_reactor::{CallError, Local};

use super::subsystem::{CNTLID_MAX, Listener, Namespace, SeenBy, Subsystem, SubsystemOptions};
use super::{DuplicateHosts, NSID_MAX, State, Target};
use crate::config::TransportConfig;
use crate::connection::{ConnectionId, QueueInfo};
use crate::group::{GroupStats, PollGroup};
use crate::health::Health;

/// Why the configuration cannot be changed like that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The qualified name is malformed or reserved.
    BadNqn,
    /// The serial or model number is too long or not printable ASCII.
    BadText,
    /// The range of namespace or controller identifiers is empty or too large.
    BadRange,
    /// There is such a subsystem already.
    Exists,
    /// There are as many subsystems as there may be.
    TooMany,
    /// There is no such subsystem.
    NoSuchSubsystem,
    /// There is no such listener.
    NoSuchListener,
    /// There is such a referral already.
    ReferralExists,
    /// There is no such referral.
    NoSuchReferral,
    /// There is no such namespace.
    NoSuchNamespace,
    /// The namespace identifier is 0, too large or in use.
    BadNsid,
    /// The ANA group identifier is 0 or too large.
    BadAnaGroup,
    /// Every host sees the namespace.
    AutoVisible,
    /// The subsystem does not report asymmetric access.
    AnaDisabled,
    /// A lost path stays lost.
    AnaLost,
    /// The bdev's block size is not 512 to 4096 bytes.
    BadBlockSize,
    /// The bdev has zones and does not take NVMe commands.
    Zoned,
    /// A core cannot listen on the port.
    PortUnavailable,
    /// A core does not answer.
    CoreSilent,
    /// It is done, but commands from before are still at a bdev.
    Busy,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadNqn => "the qualified name is malformed or reserved",
            Self::BadText => "serial and model number are at most 20 and 40 printable characters",
            Self::BadRange => "namespaces are at most 1024, controller identifiers from 1 to 65519",
            Self::Exists => "there is a subsystem of that name already",
            Self::TooMany => "there are as many subsystems as nvmf_set_max_subsystems allows",
            Self::NoSuchSubsystem => "there is no subsystem of that name",
            Self::NoSuchListener => "the subsystem does not listen there",
            Self::ReferralExists => "there is a referral to that service there already",
            Self::NoSuchReferral => "there is no referral to that service there",
            Self::NoSuchNamespace => "there is no such namespace in the subsystem",
            Self::BadNsid => "the namespace identifier is 0, too large or in use",
            Self::BadBlockSize => "only block sizes from 512 to 4096 bytes can be exported",
            Self::Zoned => "a bdev with zones that takes no NVMe commands cannot be exported",
            Self::PortUnavailable => "the port cannot be listened on",
            Self::BadAnaGroup => "the ANA group is 0 or above the subsystem's max_namespaces",
            Self::AutoVisible => "every host sees the namespace; add it with no_auto_visible",
            Self::AnaDisabled => "ANA reporting is disabled; create the subsystem with it",
            Self::AnaLost => "a path in persistent loss stays so; remove the listener",
            Self::CoreSilent => "a core does not answer",
            Self::Busy => "done, but commands from before are still at a bdev; check its state",
        })
    }
}

/// A namespace in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceInfo {
    /// Its identifier.
    pub nsid: u32,
    /// The bdev behind it.
    pub bdev: String,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its globally unique identifier; zeroes if it has none.
    pub nguid: [u8; 16],
    /// Its ANA group.
    pub anagrpid: u32,
    /// The hosts that see it; `None` if every host does.
    pub hosts: Option<Vec<String>>,
}

/// A subsystem in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubsystemInfo {
    /// Its qualified name.
    pub nqn: String,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Whether any host may connect.
    pub allow_any_host: bool,
    /// Hosts that may connect in any case.
    pub hosts: Vec<String>,
    /// Largest namespace identifier.
    pub namespaces_max: u32,
    /// Smallest and largest controller identifier.
    pub cntlids: (u16, u16),
    /// Whether hosts are told of asymmetric access.
    pub ana_reporting: bool,
    /// Where hosts reach it, in the order of addition.
    pub listeners: Vec<Listener>,
    /// The TCP ports of the listeners, each once, ascending.
    pub ports: Vec<u16>,
    /// Its namespaces, ascending.
    pub namespaces: Vec<NamespaceInfo>,
}

/// A controller in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerInfo {
    /// Its identifier.
    pub cntlid: u16,
    /// Name of its subsystem.
    pub nqn: String,
    /// Name of its host.
    pub hostnqn: String,
    /// The host's identifier.
    pub hostid: [u8; 16],
    /// Whether it is enabled and ready.
    pub is_ready: bool,
    /// Keep-alive timeout, milliseconds; 0 for none.
    pub kato_ms: u32,
    /// Its queues and the connections behind them, the admin queue (0) first.
    pub queues: Vec<(u16, ConnectionId)>,
}

/// Configuration, as the RPC layer and start-up use it.
impl Target {
    /// Makes an empty subsystem that admits no host and listens nowhere.
    pub fn create_subsystem(
        &self,
        nqn: &str,
        options: SubsystemOptions,
    ) -> Result<(), ConfigError> {
        if !is_nqn(nqn) || nqn == DISCOVERY_NQN {
            return Err(ConfigError::BadNqn);
        }
        if !is_text(&options.serial, 20) || !is_text(&options.model, 40) {
            return Err(ConfigError::BadText);
        }
        let cntlids = (1..=options.cntlid_max).contains(&options.cntlid_min);
        if !(1..=NSID_MAX).contains(&options.namespaces_max)
            || !cntlids
            || options.cntlid_max > CNTLID_MAX
        {
            return Err(ConfigError::BadRange);
        }
        let mut state = self.state.borrow_mut();
        if state.named(nqn).is_some() {
            return Err(ConfigError::Exists);
        }
        // One is the discovery subsystem.
        if state.subsystems.len() + 1 >= state.subsystems_max as usize {
            return Err(ConfigError::TooMany);
        }
        state.subsystem_last += 1;
        let id = state.subsystem_last;
        state.subsystems.push(Subsystem {
            id,
            nqn: String::from(nqn),
            options,
            any_host: false,
            hosts: Vec::new(),
            listeners: Vec::new(),
            namespaces: BTreeMap::new(),
            version: 1,
            was_reset: false,
            health: Arc::new(Health::new(self.local.cores())),
        });
        Ok(())
    }

    /// Removes a subsystem; its controllers end.
    pub fn delete_subsystem(&self, nqn: &str) -> Result<(), ConfigError> {
        let state = &mut *self.state.borrow_mut();
        let at = state.subsystems.iter().position(|subsystem| subsystem.nqn == nqn);
        let mut subsystem = state.subsystems.remove(at.ok_or(ConfigError::NoSuchSubsystem)?);
        subsystem.namespaces.clear();
        subsystem.version += 1;
        self.publish(state, &subsystem);
        for controller in state.controllers.iter().filter(|c| c.subsystem == Some(subsystem.id)) {
            self.end_controller(controller);
        }
        self.close_ports(state, &subsystem.ports());
        self.discovery_changed(state);
        Ok(())
    }

    /// The transport's options.
    pub fn transport(&self) -> TransportConfig {
        self.config.get()
    }

    /// Sets the transport's options on every core, each brought into its range. Meant for before
    /// the first listener: connections that are there keep theirs in part.
    pub async fn set_transport(&self, config: TransportConfig) -> Result<(), CallError> {
        let config = config.clamped();
        self.config.set(config);
        let members = self.state.borrow().members.clone();
        for core in members {
            let configure = move |local: &Local| {
                if let Some(group) = local.service::<PollGroup>() {
                    group.configure(config);
                }
            };
            self.local.call(core, configure).await?;
        }
        self.discovery_changed(&mut self.state.borrow_mut());
        Ok(())
    }

    /// Whether hosts may have several controllers of a subsystem by one listener; those that are
    /// there stay.
    pub fn set_duplicate_hosts(&self, duplicates: DuplicateHosts) {
        self.state.borrow_mut().duplicates = duplicates;
    }

    /// How many subsystems there may be, the discovery subsystem among them; those that are there
    /// stay.
    pub fn set_subsystems_max(&self, subsystems_max: NonZeroU32) {
        self.state.borrow_mut().subsystems_max = subsystems_max.get();
    }

    /// How long hosts are to wait before they try again what could not be done (CRDT1 to CRDT3),
    /// in units of 100 ms; 0 for not at all. Controllers that are there are told as before.
    pub fn set_crdt(&self, crdt: [u16; 3]) {
        self.state.borrow_mut().crdt = crdt;
    }

    /// Lets the host named `hostnqn` connect.
    pub fn add_host(&self, nqn: &str, hostnqn: &str) -> Result<(), ConfigError> {
        if !is_nqn(hostnqn) {
            return Err(ConfigError::BadNqn);
        }
        let state = &mut *self.state.borrow_mut();
        let hosts = &mut state.edit(nqn)?.hosts;
        if !hosts.iter().any(|host| host == hostnqn) {
            hosts.push(String::from(hostnqn));
            self.discovery_changed(state);
        }
        Ok(())
    }

    /// Lets the host named `hostnqn` connect no longer, and ends its controllers.
    pub fn remove_host(&self, nqn: &str, hostnqn: &str) -> Result<(), ConfigError> {
        let state = &mut *self.state.borrow_mut();
        let subsystem = state.edit(nqn)?;
        subsystem.hosts.retain(|host| host != hostnqn);
        self.end_uninvited(state, nqn);
        self.discovery_changed(state);
        Ok(())
    }

    /// Lets any host connect, or only those of the list; controllers of others end.
    pub fn allow_any_host(&self, nqn: &str, policy: HostPolicy) -> Result<(), ConfigError> {
        let state = &mut *self.state.borrow_mut();
        state.edit(nqn)?.any_host = policy == HostPolicy::Any;
        self.end_uninvited(state, nqn);
        self.discovery_changed(state);
        Ok(())
    }

    /// The subsystems as they are now.
    pub fn subsystems(&self) -> Vec<SubsystemInfo> {
        self.state.borrow().subsystems.iter().map(Subsystem::info).collect()
    }

    /// The controllers as they are now, discovery controllers included.
    pub fn controllers(&self) -> Vec<ControllerInfo> {
        let state = self.state.borrow();
        let info = |controller: &super::Controller| {
            let subsystem = controller.subsystem.and_then(|id| state.subsystem(id));
            let io = controller.queues.iter().map(|queue| (queue.qid, queue.connection));
            ControllerInfo {
                cntlid: controller.cntlid,
                nqn: String::from(subsystem.map_or(DISCOVERY_NQN, |s| s.nqn.as_str())),
                hostnqn: controller.hostnqn.clone(),
                hostid: controller.hostid,
                is_ready: controller.is_ready(),
                kato_ms: controller.features.kato_ms,
                queues: [(0, controller.admin)].into_iter().chain(io).collect(),
            }
        };
        state.controllers.iter().map(info).collect()
    }

    /// Counters and queues of every core with a poll group.
    pub async fn groups(&self) -> Vec<(basalt_env::CoreId, GroupStats, Vec<QueueInfo>)> {
        let members = self.state.borrow().members.clone();
        let mut groups = Vec::new();
        for core in members {
            let look = |local: &Local| {
                local.service::<PollGroup>().map(|group| (group.stats(), group.queues()))
            };
            if let Ok(Some((stats, queues))) = self.local.call(core, look).await {
                groups.push((core, stats, queues));
            }
        }
        groups
    }

    fn end_uninvited(&self, state: &State, nqn: &str) {
        let Some(subsystem) = state.named(nqn) else { return };
        for controller in &state.controllers {
            let ours = controller.subsystem == Some(subsystem.id);
            if ours && !subsystem.admits(&controller.hostnqn) {
                self.end_controller(controller);
            }
        }
    }
}

/// Who may connect to a subsystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostPolicy {
    /// Any host.
    Any,
    /// Only hosts that were added.
    Listed,
}

impl State {
    pub(super) fn edit(&mut self, nqn: &str) -> Result<&mut Subsystem, ConfigError> {
        let found = self.subsystems.iter_mut().find(|subsystem| subsystem.nqn == nqn);
        found.ok_or(ConfigError::NoSuchSubsystem)
    }
}

impl Subsystem {
    fn info(&self) -> SubsystemInfo {
        let info = |(nsid, namespace): (&u32, &Namespace)| NamespaceInfo {
            nsid: *nsid,
            bdev: namespace.bdev.info().name.clone(),
            uuid: namespace.uuid,
            nguid: namespace.nguid,
            anagrpid: namespace.anagrpid,
            hosts: match &namespace.seen_by {
                SeenBy::Every => None,
                SeenBy::Hosts(hosts) => Some(hosts.clone()),
            },
        };
        SubsystemInfo {
            nqn: self.nqn.clone(),
            serial: self.options.serial.clone(),
            model: self.options.model.clone(),
            allow_any_host: self.any_host,
            hosts: self.hosts.clone(),
            namespaces_max: self.options.namespaces_max,
            cntlids: (self.options.cntlid_min, self.options.cntlid_max),
            ana_reporting: self.options.ana_reporting,
            listeners: self.listeners.iter().map(|listener| listener.at).collect(),
            ports: self.ports(),
            namespaces: self.namespaces.iter().map(info).collect(),
        }
    }
}

/// Whether `name` can be a qualified name: `nqn.`, a date, a reversed domain, at most 223 bytes.
pub(super) fn is_nqn(name: &str) -> bool {
    let rest = name.strip_prefix("nqn.").unwrap_or_default().as_bytes();
    let dated = matches!(
        rest,
        [y1, y2, y3, y4, b'-', m1, m2, b'.', _, ..]
            if [y1, y2, y3, y4, m1, m2].iter().all(|digit| digit.is_ascii_digit())
    );
    dated && name.len() <= NQN_LEN_MAX && !name.contains('\0')
}

fn is_text(text: &str, len_max: usize) -> bool {
    text.len() <= len_max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
