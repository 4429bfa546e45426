//! Asymmetric Namespace Access (base specification 2.0 §8.1): how each listener reaches the groups
//! of namespaces, and what hosts are told of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_nvme_spec::identify::IdentifyController;
use basalt_nvme_spec::{
    AdminOpcode, AnaGroup, AnaHeader, AnaState, Command, FeatureId, NSID_ALL, Status,
};
use basalt_reactor::Local;
use zerocopy::IntoBytes;

use super::configure::ConfigError;
use super::controller::Controller;
use super::subsystem::{Listener, Namespace, Subsystem};
use super::{State, Target};
use crate::group::{Affected, Origin, PollGroup, drained};

/// How long a change of state may take (ANATT).
const TRANSITION_TIME_S: u8 = 10;
/// How long commands that were let in before may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What has changed in a controller's ANA log page since its last reset.
#[derive(Default)]
pub(super) struct AnaChanges {
    count: u64,
    /// The count when a group changed last, from group 1; as far as groups have changed.
    groups: Vec<u64>,
}

impl AnaChanges {
    /// One change, of all of `groups`.
    pub(super) fn note(&mut self, groups: &[u32]) {
        if groups.is_empty() {
            return;
        }
        self.count += 1;
        for &group in groups {
            let at = group as usize - 1;
            self.groups.resize(self.groups.len().max(at + 1), 0);
            self.groups[at] = self.count;
        }
    }

    /// The count when `group` changed last; 0 if it has not.
    fn last(&self, group: u32) -> u64 {
        self.groups.get(group as usize - 1).copied().unwrap_or(0)
    }
}

impl Target {
    /// Has the listener of a subsystem reach one ANA group, or all of them, as `ana` says. Once
    /// this is done no core goes by the old state, and no command is at a bdev that the new one
    /// would have refused.
    pub async fn set_ana_state(
        &self,
        nqn: &str,
        listener: Listener,
        ana: AnaState,
        group: Option<u32>,
    ) -> Result<(), ConfigError> {
        let (affected, groups) =
            self.state.borrow_mut().set_ana_state(nqn, listener, ana, group)?;
        self.spread(affected.subsystem).await?;
        self.ana_changed(&mut self.state.borrow_mut(), &affected.from, &groups, ana);
        match ana.refusal() {
            Some(_) => self.drain(affected).await,
            None => Ok(()),
        }
    }

    /// Moves a namespace to another ANA group.
    pub async fn set_ns_ana_group(
        &self,
        nqn: &str,
        nsid: u32,
        anagrpid: u32,
    ) -> Result<(), ConfigError> {
        let (id, groups) = {
            let state = &mut *self.state.borrow_mut();
            let subsystem = state.edit(nqn)?;
            subsystem.check_reporting()?;
            subsystem.check_group(anagrpid)?;
            let namespace = subsystem.namespaces.get_mut(&nsid);
            let namespace = namespace.ok_or(ConfigError::NoSuchNamespace)?;
            let old = core::mem::replace(&mut namespace.anagrpid, anagrpid);
            if old == anagrpid {
                return Ok(());
            }
            subsystem.version += 1;
            (subsystem.id, [old, anagrpid])
        };
        self.spread(id).await?;
        self.ana_group_changed(&mut self.state.borrow_mut(), id, nsid, &groups);
        let refusing = self.state.borrow().refusing(id, nsid);
        for listener in refusing {
            let from = Origin::Listener(listener);
            self.drain(Affected { subsystem: id, nsids: Vec::from([nsid]), from }).await?;
        }
        Ok(())
    }

    /// How the listeners of a subsystem reach ANA groups 1 and up; nothing where all access is
    /// symmetric.
    pub fn ana_states(&self, nqn: &str) -> Vec<(Listener, Vec<AnaState>)> {
        let state = self.state.borrow();
        let subsystem = state.named(nqn).filter(|subsystem| subsystem.options.ana_reporting);
        let listeners = subsystem.map_or(&[][..], |subsystem| &subsystem.listeners);
        listeners.iter().map(|listener| (listener.at, listener.ana.clone())).collect()
    }

    /// Hands a changed subsystem to all cores and waits until each has taken it over.
    pub(super) async fn spread(&self, subsystem: u32) -> Result<(), ConfigError> {
        let (view, members) = {
            let state = self.state.borrow();
            let Some(subsystem) = state.subsystem(subsystem) else { return Ok(()) };
            (subsystem.view(), state.members.clone())
        };
        for core in members {
            let view = Arc::clone(&view);
            let refresh = move |local: &Local| {
                if let Some(group) = local.service::<PollGroup>() {
                    group.refresh(&view);
                }
            };
            self.local.call(core, refresh).await.map_err(|_| ConfigError::CoreSilent)?;
        }
        Ok(())
    }

    /// Waits for affected commands that were let in before.
    pub(super) async fn drain(&self, affected: Affected) -> Result<(), ConfigError> {
        let members = self.state.borrow().members.clone();
        for core in members {
            let affected = affected.clone();
            let wait =
                |local: Local| async move { drained(&local, &affected, DRAIN_TIMEOUT).await };
            match self.local.run_on(core, wait).await {
                Ok(true) => {}
                Ok(false) => return Err(ConfigError::Busy),
                Err(_) => return Err(ConfigError::CoreSilent),
            }
        }
        Ok(())
    }
}

impl State {
    fn set_ana_state(
        &mut self,
        nqn: &str,
        at: Listener,
        ana: AnaState,
        group: Option<u32>,
    ) -> Result<(Affected, Vec<u32>), ConfigError> {
        let subsystem = self.edit(nqn)?;
        subsystem.check_reporting()?;
        if let Some(group) = group {
            subsystem.check_group(group)?;
        }
        let listener = subsystem.listeners.iter_mut().find(|listener| listener.at == at);
        let listener = listener.ok_or(ConfigError::NoSuchListener)?;
        let wanted = |number: u32| group.is_none_or(|group| group == number);
        let states = (1..).zip(&mut listener.ana).filter(|(number, _)| wanted(*number));
        let changing: Vec<_> = states.filter(|(_, state)| **state != ana).collect();
        if changing.iter().any(|(_, state)| **state == AnaState::PersistentLoss) {
            return Err(ConfigError::AnaLost);
        }
        let mut groups = Vec::new();
        for (number, state) in changing {
            *state = ana;
            groups.push(number);
        }
        let from = Origin::Listener(listener.id);
        subsystem.version += 1;
        let members = subsystem.namespaces.iter();
        let members = members.filter(|(_, namespace)| wanted(namespace.anagrpid));
        let nsids = members.map(|(nsid, _)| *nsid).collect();
        Ok((Affected { subsystem: subsystem.id, nsids, from }, groups))
    }

    /// The listeners by which a namespace is not accessible.
    fn refusing(&self, subsystem: u32, nsid: u32) -> Vec<u32> {
        let Some(subsystem) = self.subsystem(subsystem) else { return Vec::new() };
        let Some(namespace) = subsystem.namespaces.get(&nsid) else { return Vec::new() };
        let refuses =
            |listener: &u32| subsystem.ana_state(*listener, namespace).refusal().is_some();
        subsystem.listeners.iter().map(|listener| listener.id).filter(refuses).collect()
    }

    /// Why an admin command of the controller at index `at` is not carried out for the sake of a
    /// namespace's state (§8.1.4). Whatever does not name namespaces is; so is
    /// Identify, which tells less. As no log page here is of a namespace, that leaves features.
    pub(super) fn ana_refusal(&self, at: usize, command: &Command) -> Option<Status> {
        let controller = &self.controllers[at];
        let subsystem = self.subsystem(controller.subsystem?)?;
        let opcode = AdminOpcode(command.opcode);
        let is_set = opcode == AdminOpcode::SET_FEATURES;
        if !is_set && opcode != AdminOpcode::GET_FEATURES {
            return None;
        }
        let refusal = |namespace| subsystem.state_for(controller, namespace).refusal();
        let nsid = command.nsid.get();
        if nsid == NSID_ALL && is_set {
            let mut seen = subsystem.namespaces_for(controller);
            return seen.find_map(|(_, namespace)| refusal(namespace));
        }
        let status = subsystem.namespace_for(controller, nsid).and_then(refusal)?;
        let is_lost = is_set && status == Status::ANA_PERSISTENT_LOSS;
        let is_unavailable = UNAVAILABLE.contains(&FeatureId(command.cdw10.get() as u8));
        (is_lost || is_unavailable).then_some(status)
    }
}

/// Features that go with a namespace: those of reservations, and those of the NVM command set.
const UNAVAILABLE: [FeatureId; 5] = [
    FeatureId(0x03),
    FeatureId::ERROR_RECOVERY,
    FeatureId::WRITE_ATOMICITY,
    FeatureId::RESERVATION_NOTIFICATION_MASK,
    FeatureId::RESERVATION_PERSISTENCE,
];

impl Subsystem {
    /// Checks that hosts are told of asymmetric access at all.
    fn check_reporting(&self) -> Result<(), ConfigError> {
        if self.options.ana_reporting { Ok(()) } else { Err(ConfigError::AnaDisabled) }
    }

    /// Checks that there can be an ANA group `anagrpid`.
    pub(super) fn check_group(&self, anagrpid: u32) -> Result<(), ConfigError> {
        match (1..=self.options.namespaces_max).contains(&anagrpid) {
            true => Ok(()),
            false => Err(ConfigError::BadAnaGroup),
        }
    }

    /// A namespace's ANA group as hosts are told it: none where all access is symmetric.
    pub(super) fn anagrpid(&self, namespace: &Namespace) -> u32 {
        if self.options.ana_reporting { namespace.anagrpid } else { 0 }
    }

    /// How `listener` reaches a namespace.
    fn ana_state(&self, listener: u32, namespace: &Namespace) -> AnaState {
        if !self.options.ana_reporting {
            return AnaState::Optimized;
        }
        let listener = self.listeners.iter().find(|other| other.id == listener);
        let state = listener.and_then(|found| found.ana.get(namespace.anagrpid as usize - 1));
        state.copied().unwrap_or(AnaState::Inaccessible)
    }

    /// How a controller reaches a namespace.
    pub(super) fn state_for(&self, controller: &Controller, namespace: &Namespace) -> AnaState {
        match controller.listener {
            Some(listener) => self.ana_state(listener, namespace),
            None => AnaState::Inaccessible,
        }
    }

    /// Fills in what an I/O controller is able to tell of asymmetric access.
    pub(super) fn describe_ana(&self, identify: &mut IdentifyController) {
        const ANA_REPORTING: u8 = 1 << 3;
        // Every state may be reported, and a namespace may change its group.
        const CAPABILITIES: u8 = 0b0001_1111;
        if !self.options.ana_reporting {
            return;
        }
        identify.cmic |= ANA_REPORTING;
        identify.oaes = (identify.oaes.get() | super::events::WANT_ANA).into();
        identify.anatt = TRANSITION_TIME_S;
        identify.anacap = CAPABILITIES;
        identify.anagrpmax = self.options.namespaces_max.into();
        identify.nanagrpid = self.options.namespaces_max.into();
    }
}

/// The Asymmetric Namespace Access log page (§5.16.1.13): the groups that have namespaces, with
/// those or, if only groups are to be returned, without.
pub(super) fn log_page(
    subsystem: &Subsystem,
    controller: &Controller,
    command: &Command,
) -> Vec<u8> {
    const RETURN_GROUPS_ONLY: u32 = 1 << 8;
    let groups_only = command.cdw10.get() & RETURN_GROUPS_ONLY != 0;
    let mut members = alloc::vec![0_u32; subsystem.options.namespaces_max as usize];
    for (_, namespace) in subsystem.namespaces_for(controller) {
        members[namespace.anagrpid as usize - 1] += 1;
    }
    let changes = &controller.ana_changes;
    let groups = (1_u32..).zip(members).filter(|(_, members)| *members != 0);
    let header = AnaHeader {
        change_count: changes.count.into(),
        groups: (groups.clone().count() as u16).into(),
        ..AnaHeader::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    for (anagrpid, members) in groups {
        let of_group = |(_, namespace): &(u32, &Namespace)| namespace.anagrpid == anagrpid;
        let mut namespaces = subsystem.namespaces_for(controller).filter(of_group).peekable();
        let state = namespaces.peek().map(|(_, first)| subsystem.state_for(controller, first));
        let group = AnaGroup {
            anagrpid: anagrpid.into(),
            nsids: if groups_only { 0 } else { members }.into(),
            change_count: changes.last(anagrpid).into(),
            state: state.unwrap_or_default() as u8,
            ..AnaGroup::default()
        };
        bytes.extend_from_slice(group.as_bytes());
        if !groups_only {
            namespaces.for_each(|(nsid, _)| bytes.extend_from_slice(&nsid.to_le_bytes()));
        }
    }
    bytes
}
