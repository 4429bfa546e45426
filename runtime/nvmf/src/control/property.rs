use core::time::Duration;

use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::registers::{self, Cap, Cc, Csts, Shutdown, Version};
use basalt_nvme_spec::{Command, Status};

use super::controller::Controller;
use super::subsystem::SubsystemReset;
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
    /// All controllers of the subsystem are to be reset.
    ResetSubsystem,
}

/// Property Get (§6.6).
pub(super) fn get(
    controller: &Controller,
    command: &Command,
    config: &TransportConfig,
    nssr: SubsystemReset,
) -> Result<u64, Status> {
    let property = command.as_property();
    let size = property.size().ok_or(Status::INVALID_FIELD.with_dnr())?;
    match (property.offset.get() as usize, size) {
        (registers::CAP, 8) => {
            let cap = Cap::build(u32::from(config.queue_size_max), READY_TIMEOUT, 4);
            let cap = cap.with_ready_with_media();
            // Discovery controllers have no I/O commands to choose from.
            let cap = if controller.is_discovery() { cap } else { cap.with_io_command_sets() };
            Ok(if nssr == SubsystemReset::Supported { cap.with_subsystem_reset() } else { cap }.0)
        }
        (registers::VS, 4) => Ok(u64::from(Version::V2_0.0)),
        (registers::CC, 4) => Ok(u64::from(controller.cc.0)),
        (registers::CSTS, 4) => Ok(u64::from(controller.csts.bits())),
        // Only written to.
        (registers::NSSR, 4) => Ok(0),
        // Units of 500 ms; the upper half is for a mode not supported.
        (registers::CRTO, 4) => Ok(READY_TIMEOUT.as_millis() as u64 / 500),
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// Property Set (§6.7).
pub(super) fn set(
    controller: &mut Controller,
    property: &Property,
    nssr: SubsystemReset,
) -> Result<Aftermath, Status> {
    let value = property.value.get() as u32;
    let has_reset = nssr == SubsystemReset::Supported;
    match (property.offset.get() as usize, property.size()) {
        (registers::CC, Some(4)) => configure(controller, Cc(value)),
        (registers::NSSR, Some(4)) if has_reset => Ok(match value {
            registers::NSSR_KEY => Aftermath::ResetSubsystem,
            _ => Aftermath::Nothing,
        }),
        // Nothing else there can be written.
        (registers::CSTS, Some(4)) if has_reset => {
            controller.csts -= Csts::from_bits_retain(value) & Csts::SUBSYSTEM_RESET;
            Ok(Aftermath::Nothing)
        }
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// Controller configuration (§3.1.3.5).
fn configure(controller: &mut Controller, new: Cc) -> Result<Aftermath, Status> {
    let old = controller.cc;
    if new.enable() && !(acceptable(controller, new) && may_follow(old, new)) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    if old.enable() && !new.enable() {
        controller.reset();
        if new.shutdown() != Shutdown::NONE {
            controller.csts = controller.csts.with_shutdown(Shutdown::COMPLETE);
        }
        return Ok(Aftermath::EndQueues);
    }
    controller.cc = new;
    if new.enable() && !old.enable() {
        controller.csts |= Csts::READY;
    }
    if new.shutdown() == Shutdown::NONE || old.shutdown() != Shutdown::NONE {
        return Ok(Aftermath::Nothing);
    }
    controller.csts = controller.csts.with_shutdown(Shutdown::COMPLETE);
    Ok(Aftermath::EndQueues)
}

/// Whether `new` may be written over `old`: command set, page size and arbitration are fixed while
/// the controller is enabled (§3.1.3.5).
fn may_follow(old: Cc, new: Cc) -> bool {
    let fixed = |cc: Cc| (cc.css(), cc.page_size(), cc.arbitration());
    !old.enable() || fixed(old) == fixed(new)
}

/// Whether the controller can be enabled like this: NVM command set or, on an I/O controller, all
/// that there are, 4 KiB pages, round robin, and entry sizes that are right or, on a discovery
/// controller, not said.
fn acceptable(controller: &Controller, cc: Cc) -> bool {
    const PAGE: u64 = 4096;
    let sizes = (cc.iosqes(), cc.iocqes());
    let sized = sizes == (6, 4) || sizes == (0, 0) && controller.is_discovery();
    let all = cc.css() == Cc::CSS_ALL && !controller.is_discovery();
    let selected = cc.css() == Cc::CSS_NVM || all;
    selected && cc.arbitration() == 0 && cc.page_size() == PAGE && sized
}
