use core::time::Duration;

use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::registers::{self, Cap, Cc, Csts, Shutdown, Version};
use basalt_nvme_spec::{Command, Status};

use super::controller::Controller;
use crate::config::TransportConfig;

/// Longest time to become ready that is announced (CAP.TO).
const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// What a Property Set asks the target to do beyond the controller's own state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aftermath {
    /// Nothing.
    Nothing,
    /// The controller was reset or shut down: its I/O queues end.
    EndQueues,
}

/// Property Get (§6.6).
pub(super) fn get(
    controller: &Controller,
    command: &Command,
    config: &TransportConfig,
) -> Result<u64, Status> {
    let property = command.as_property();
    let size = property.size().ok_or(Status::INVALID_FIELD.with_dnr())?;
    match (property.offset.get() as usize, size) {
        (registers::CAP, 8) => Ok(Cap::build(u32::from(config.queue_size_max), READY_TIMEOUT, 4).0),
        (registers::VS, 4) => Ok(u64::from(Version::V2_0.0)),
        (registers::CC, 4) => Ok(u64::from(controller.cc.0)),
        (registers::CSTS, 4) => Ok(u64::from(controller.csts.bits())),
        // NVM subsystem reset is not supported, so its register reads as zero.
        (registers::NSSR, 4) => Ok(0),
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// Property Set (§6.7).
pub(super) fn set(controller: &mut Controller, property: &Property) -> Result<Aftermath, Status> {
    if property.offset.get() as usize != registers::CC || property.size() != Some(4) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let old = controller.cc;
    let new = Cc(property.value.get() as u32);
    let starts = new.enable() && !old.enable();
    if starts && !acceptable(controller, new) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    controller.cc = new;
    let mut aftermath = Aftermath::Nothing;
    if starts {
        controller.csts = Csts::READY;
    }
    if new.shutdown() != Shutdown::NONE && old.shutdown() == Shutdown::NONE {
        controller.csts = controller.csts.with_shutdown(Shutdown::COMPLETE);
        aftermath = Aftermath::EndQueues;
    }
    if !new.enable() && old.enable() {
        controller.csts.remove(Csts::READY);
        controller.cc = Cc(new.0 & !(3 << 14));
        controller.csts = controller.csts.with_shutdown(Shutdown::NONE);
        if new.shutdown() != Shutdown::NONE {
            controller.csts = controller.csts.with_shutdown(Shutdown::COMPLETE);
        }
        controller.features.reset();
        aftermath = Aftermath::EndQueues;
    }
    Ok(aftermath)
}

/// Whether the controller can be enabled like this: NVM command set, 4 KiB pages, and entry sizes
/// that are right or, on a discovery controller, not said.
fn acceptable(controller: &Controller, cc: Cc) -> bool {
    const PAGE: u64 = 4096;
    let sizes = (cc.iosqes(), cc.iocqes());
    let sized = sizes == (6, 4) || sizes == (0, 0) && controller.is_discovery();
    cc.css() == Cc::CSS_NVM && cc.page_size() == PAGE && sized
}
