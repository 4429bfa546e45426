use alloc::vec::Vec;

use basalt_nvme_spec::{AnaState, AsyncEvent, LogPageId, Status};

use super::controller::{AER_MAX, Controller, HeldRequest};
use super::discovery::{self, Told};
use super::namespaces::Changed;
use super::{State, Target};
use crate::command::Outcome;
use crate::connection::{AdminReply, AdminRequest};
use crate::group::Origin;

/// Bit of the event configuration and of OAES: namespace attributes changed.
pub(super) const WANT_NAMESPACE: u32 = 1 << 8;
/// Bit of the event configuration and of OAES: asymmetric namespace access changed.
pub(super) const WANT_ANA: u32 = 1 << 11;
/// Bit of the event configuration and of OAES: the discovery log changed.
pub(super) const WANT_DISCOVERY: u32 = 1 << 31;

/// Bit of the event configuration: the critical warning about the temperature.
const WANT_TEMPERATURE: u32 = 1 << 1;
/// Bits of the event configuration: all critical warnings.
const WANT_WARNINGS: u32 = 0x3f;

/// No bit of the event configuration: an event that is not turned off there.
const ALWAYS: u32 = 0;

/// A temperature threshold was crossed.
const TEMPERATURE: AsyncEvent = AsyncEvent::new(
    AsyncEvent::TYPE_HEALTH,
    AsyncEvent::HEALTH_TEMPERATURE,
    LogPageId::SMART_HEALTH.0,
);
/// The namespaces changed.
const NAMESPACE_CHANGED: AsyncEvent = AsyncEvent::new(
    AsyncEvent::TYPE_NOTICE,
    AsyncEvent::NOTICE_NAMESPACE,
    LogPageId::CHANGED_NAMESPACES.0,
);
/// How namespaces are reached changed.
const ANA_CHANGED: AsyncEvent = AsyncEvent::new(
    AsyncEvent::TYPE_NOTICE,
    AsyncEvent::NOTICE_ANA,
    LogPageId::ASYMMETRIC_NAMESPACE_ACCESS.0,
);
/// The discovery log changed.
const DISCOVERY_CHANGED: AsyncEvent =
    AsyncEvent::new(AsyncEvent::TYPE_NOTICE, AsyncEvent::NOTICE_DISCOVERY, LogPageId::DISCOVERY.0);
/// There is a reservation notification.
const RESERVATION: AsyncEvent = AsyncEvent::new(
    AsyncEvent::TYPE_COMMAND_SET,
    AsyncEvent::COMMAND_SET_RESERVATION,
    LogPageId::RESERVATION_NOTIFICATION.0,
);

impl Target {
    /// Asynchronous Event Request (§5.2): held until there is an event.
    pub(super) fn request_event(
        &self,
        controller: &mut Controller,
        request: &AdminRequest,
    ) -> AdminReply {
        if !controller.pending.is_empty() {
            let (event, _) = controller.pending.remove(0);
            controller.masked.push(event);
            return AdminReply::Done(Outcome::value(u64::from(event.0)), Vec::new());
        }
        if controller.requests.len() >= AER_MAX {
            return AdminReply::Done(Status::AER_LIMIT.with_dnr().into(), Vec::new());
        }
        let held = HeldRequest { cid: request.command.cid.get(), tag: request.tag };
        controller.requests.push(held);
        AdminReply::Held
    }

    /// A controller was reset: what it held is given up.
    pub(super) fn drop_requests(&self, controller: &mut Controller) {
        for held in core::mem::take(&mut controller.requests) {
            let aborted = AdminReply::Done(Status::ABORT_REQUESTED.into(), Vec::new());
            self.answer(controller.admin, held.tag, aborted);
        }
        controller.pending.clear();
        controller.masked.clear();
    }

    /// Tells the hosts of `subsystem` that see it that a namespace came, went or changed.
    pub(super) fn namespace_changed(&self, state: &mut State, subsystem: u32, changed: &Changed) {
        for controller in &mut state.controllers {
            let is_seen = changed.is_seen_by(controller);
            if controller.subsystem == Some(subsystem) && is_seen {
                controller.changed_namespaces.insert(changed.nsid);
                controller.ana_changes.note(&changed.groups);
                self.raise(controller, NAMESPACE_CHANGED, WANT_NAMESPACE);
            }
        }
    }

    /// Tells the hosts that came by a listener that it reaches `groups` as `ana` says from now on.
    /// Groups in which they see no namespaces are not their concern, and of a state that passes
    /// nobody is told (§8.1.3.6).
    pub(super) fn ana_changed(
        &self,
        state: &mut State,
        listener: &Origin,
        groups: &[u32],
        ana: AnaState,
    ) {
        let State { subsystems, controllers, .. } = state;
        for controller in controllers.iter_mut() {
            if controller.listener.map(Origin::Listener).as_ref() != Some(listener) {
                continue;
            }
            let subsystem = subsystems.iter().find(|other| Some(other.id) == controller.subsystem);
            let Some(subsystem) = subsystem else { continue };
            let mut seen: Vec<u32> = subsystem
                .namespaces_for(controller)
                .map(|(_, namespace)| namespace.anagrpid)
                .collect();
            seen.retain(|group| groups.contains(group));
            if seen.is_empty() {
                continue;
            }
            controller.ana_changes.note(&seen);
            if ana != AnaState::Change {
                self.raise(controller, ANA_CHANGED, WANT_ANA);
            }
        }
    }

    /// Tells the hosts of `subsystem` that see it that namespace `nsid` went from one of `groups`
    /// to the other.
    pub(super) fn ana_group_changed(
        &self,
        state: &mut State,
        subsystem: u32,
        nsid: u32,
        groups: &[u32],
    ) {
        let State { subsystems, controllers, .. } = state;
        let ours = subsystems.iter().find(|other| other.id == subsystem);
        let namespace = ours.and_then(|subsystem| subsystem.namespaces.get(&nsid));
        let Some(namespace) = namespace else { return };
        for controller in controllers.iter_mut() {
            let is_seen = namespace.is_seen_by(controller);
            if controller.subsystem == Some(subsystem) && is_seen {
                controller.ana_changes.note(groups);
                self.raise(controller, ANA_CHANGED, WANT_ANA);
            }
        }
    }

    /// What discovery logs hold may have changed: whose own has gets a new generation of it, and
    /// its host is told.
    pub(super) fn discovery_changed(&self, state: &mut State) {
        state.genctr += 1;
        let config = self.config.get();
        let entries = |controller: &Controller| {
            let is_discovery = controller.is_discovery();
            let reached = controller.reached_at;
            is_discovery.then(|| discovery::entries(state, &controller.hostnqn, reached, &config))
        };
        let fresh: Vec<_> = state.controllers.iter().map(entries).collect();
        let genctr = state.genctr;
        for (controller, entries) in state.controllers.iter_mut().zip(fresh) {
            if let Some(entries) = entries.filter(|entries| *entries != controller.told.entries) {
                controller.told = Told { genctr, entries };
                self.raise(controller, DISCOVERY_CHANGED, WANT_DISCOVERY);
            }
        }
    }

    /// The host has changed what it wants to hear of, or a threshold.
    pub(super) fn events_configured(&self, controller: &mut Controller) {
        let wanted = controller.features.events;
        controller.pending.retain(|(_, bit)| *bit == ALWAYS || wanted & bit != 0);
        if controller.features.temperature_warning() {
            self.raise(controller, TEMPERATURE, WANT_TEMPERATURE);
        }
    }

    /// There is a reservation notification; which of them there are is another feature's business.
    pub(super) fn raise_reservation(&self, controller: &mut Controller) {
        self.raise(controller, RESERVATION, ALWAYS);
    }

    fn raise(&self, controller: &mut Controller, event: AsyncEvent, wanted: u32) {
        let pending = controller.pending.iter().any(|(other, _)| *other == event);
        let known = pending || controller.masked.contains(&event);
        let unwanted = wanted != ALWAYS && controller.features.events & wanted == 0;
        if unwanted || known {
            return;
        }
        if controller.requests.is_empty() {
            return controller.pending.push((event, wanted));
        }
        let held = controller.requests.remove(0);
        controller.masked.push(event);
        let reply = AdminReply::Done(Outcome::value(u64::from(event.0)), Vec::new());
        self.answer(controller.admin, held.tag, reply);
    }
}

/// The bits of the event configuration that mean something to `controller`.
pub(super) const fn supported(controller: &Controller) -> u32 {
    match (controller.is_discovery(), controller.reports_ana) {
        (true, _) => WANT_DISCOVERY,
        (false, true) => WANT_NAMESPACE | WANT_WARNINGS | WANT_ANA,
        (false, false) => WANT_NAMESPACE | WANT_WARNINGS,
    }
}

/// The host has read log page `page`: its events are cleared and may be sent again.
pub(super) fn clear(controller: &mut Controller, page: LogPageId) {
    controller.masked.retain(|event| event.log_page() != page.0);
    controller.pending.retain(|(event, _)| event.log_page() != page.0);
}
