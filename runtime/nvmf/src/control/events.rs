use alloc::vec::Vec;

use basalt_nvme_spec::{AsyncEvent, LogPageId, Status};

use super::controller::{AER_MAX, Controller, HeldRequest};
use super::{State, Target};
use crate::command::Outcome;
use crate::connection::{AdminReply, AdminRequest};

/// Bit of the event configuration and of OAES: namespace attributes changed.
pub(super) const WANT_NAMESPACE: u32 = 1 << 8;
/// Bit of the event configuration and of OAES: the discovery log changed.
pub(super) const WANT_DISCOVERY: u32 = 1 << 31;

/// Bit of the event configuration: the critical warning about the temperature.
const WANT_TEMPERATURE: u32 = 1 << 1;
/// Bits of the event configuration: all critical warnings.
const WANT_WARNINGS: u32 = 0x3f;

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
/// The discovery log changed.
const DISCOVERY_CHANGED: AsyncEvent =
    AsyncEvent::new(AsyncEvent::TYPE_NOTICE, AsyncEvent::NOTICE_DISCOVERY, LogPageId::DISCOVERY.0);

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

    /// Tells the hosts of `subsystem` that namespace `nsid` came, went or changed.
    pub(super) fn namespace_changed(&self, state: &mut State, subsystem: u32, nsid: u32) {
        for controller in &mut state.controllers {
            if controller.subsystem == Some(subsystem) {
                controller.changed_namespaces.insert(nsid);
                self.raise(controller, NAMESPACE_CHANGED, WANT_NAMESPACE);
            }
        }
    }

    /// The discovery log has changed.
    pub(super) fn discovery_changed(&self, state: &mut State) {
        state.genctr += 1;
        for controller in state.controllers.iter_mut().filter(|c| c.is_discovery()) {
            self.raise(controller, DISCOVERY_CHANGED, WANT_DISCOVERY);
        }
    }

    /// The host has changed what it wants to hear of, or a threshold.
    pub(super) fn events_configured(&self, controller: &mut Controller) {
        let wanted = controller.features.events;
        controller.pending.retain(|(_, bit)| wanted & bit != 0);
        if controller.features.temperature_warning() {
            self.raise(controller, TEMPERATURE, WANT_TEMPERATURE);
        }
    }

    fn raise(&self, controller: &mut Controller, event: AsyncEvent, wanted: u32) {
        let pending = controller.pending.iter().any(|(other, _)| *other == event);
        let known = pending || controller.masked.contains(&event);
        if controller.features.events & wanted == 0 || known {
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
    if controller.is_discovery() { WANT_DISCOVERY } else { WANT_NAMESPACE | WANT_WARNINGS }
}

/// The host has read log page `page`: its events are cleared and may be sent again.
pub(super) fn clear(controller: &mut Controller, page: LogPageId) {
    controller.masked.retain(|event| event.log_page() != page.0);
    controller.pending.retain(|(event, _)| event.log_page() != page.0);
}
