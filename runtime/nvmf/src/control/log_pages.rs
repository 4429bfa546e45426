use alloc::vec::Vec;

use basalt_env::Instant;
use basalt_nvme_spec::identify::NamespaceList;
use basalt_nvme_spec::log_page::{CommandEffects, ErrorEntry, FirmwareSlots, SmartHealth};
use basalt_nvme_spec::{
    AdminOpcode, Command, LogPageId, NSID_ALL, NvmOpcode, Status, set_ascii_field,
};
use zerocopy::IntoBytes;

use super::controller::Controller;
use super::{State, discovery, events};
use crate::config::TransportConfig;
use crate::connection::AdminRequest;

/// Get Log Page (§5.16) for the controller at index `at`: the part the host asked for.
pub(super) fn get(
    state: &mut State,
    at: usize,
    request: &AdminRequest,
    config: &TransportConfig,
    now: Instant,
) -> Result<Vec<u8>, Status> {
    let command = &request.command;
    let page = LogPageId(command.cdw10.get() as u8);
    let (offset, len) = (command.log_offset(), command.log_bytes());
    if len > u64::from(request.len_max) || len > u64::from(config.io_len_max) {
        return Err(Status::SGL_LENGTH_INVALID.with_dnr());
    }
    if !offset.is_multiple_of(4) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let mut bytes = whole(state, at, page, command, now)?;
    if offset > bytes.len() as u64 {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    bytes.drain(..offset as usize);
    bytes.resize(len as usize, 0);
    let controller = &mut state.controllers[at];
    const RETAIN_EVENT: u32 = 1 << 15;
    if command.cdw10.get() & RETAIN_EVENT == 0 {
        events::unmask(controller, page);
        if page == LogPageId::CHANGED_NAMESPACES {
            controller.changed_namespaces.clear();
        }
    }
    Ok(bytes)
}

fn whole(
    state: &State,
    at: usize,
    page: LogPageId,
    command: &Command,
    now: Instant,
) -> Result<Vec<u8>, Status> {
    let controller = &state.controllers[at];
    let bytes = match page {
        LogPageId::DISCOVERY if controller.is_discovery() => {
            return Ok(discovery::log_page(state, controller));
        }
        LogPageId::SUPPORTED_LOG_PAGES => return Ok(supported(controller)),
        _ if controller.is_discovery() => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
        // No errors are kept: a failed command says all there is in its status.
        LogPageId::ERROR_INFORMATION => ErrorEntry::default().as_bytes().to_vec(),
        LogPageId::SMART_HEALTH => smart(controller, command, now)?,
        LogPageId::FIRMWARE_SLOT => firmware(),
        LogPageId::CHANGED_NAMESPACES => changed(controller),
        LogPageId::COMMANDS_SUPPORTED => effects(),
        _ => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
    };
    Ok(bytes)
}

/// Log page 0 (§5.16.1.1): a dword per page, bit 0 says that it is supported.
fn supported(controller: &Controller) -> Vec<u8> {
    const IO: [LogPageId; 6] = [
        LogPageId::SUPPORTED_LOG_PAGES,
        LogPageId::ERROR_INFORMATION,
        LogPageId::SMART_HEALTH,
        LogPageId::FIRMWARE_SLOT,
        LogPageId::CHANGED_NAMESPACES,
        LogPageId::COMMANDS_SUPPORTED,
    ];
    const DISCOVERY: [LogPageId; 2] = [LogPageId::SUPPORTED_LOG_PAGES, LogPageId::DISCOVERY];
    let pages: &[LogPageId] = if controller.is_discovery() { &DISCOVERY } else { &IO };
    let mut bytes = Vec::from([0; 1024]);
    for page in pages {
        bytes[usize::from(page.0) * 4] = 1;
    }
    bytes
}

fn smart(controller: &Controller, command: &Command, now: Instant) -> Result<Vec<u8>, Status> {
    const ROOM_TEMPERATURE_K: u16 = 273 + 25;
    let nsid = command.nsid.get();
    if nsid != 0 && nsid != NSID_ALL {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let hours = now.since(controller.created).as_secs() / 3600;
    let health = SmartHealth {
        temperature_k: ROOM_TEMPERATURE_K.into(),
        available_spare: 100,
        available_spare_threshold: 10,
        power_cycles: 1.into(),
        power_on_hours: u128::from(hours).into(),
        ..SmartHealth::default()
    };
    Ok(health.as_bytes().to_vec())
}

fn firmware() -> Vec<u8> {
    let mut slots = FirmwareSlots { active: 1, ..FirmwareSlots::default() };
    set_ascii_field(&mut slots.revision[0], env!("CARGO_PKG_VERSION"));
    slots.as_bytes().to_vec()
}

fn changed(controller: &Controller) -> Vec<u8> {
    let mut list = NamespaceList::default();
    let capacity = list.nsid.len();
    if controller.changed_namespaces.len() > capacity {
        list.nsid[0] = NSID_ALL.into();
    } else {
        for (place, nsid) in list.nsid.iter_mut().zip(&controller.changed_namespaces) {
            *place = (*nsid).into();
        }
    }
    list.as_bytes().to_vec()
}

fn effects() -> Vec<u8> {
    const ADMIN: [AdminOpcode; 7] = [
        AdminOpcode::GET_LOG_PAGE,
        AdminOpcode::IDENTIFY,
        AdminOpcode::ABORT,
        AdminOpcode::SET_FEATURES,
        AdminOpcode::GET_FEATURES,
        AdminOpcode::ASYNC_EVENT_REQUEST,
        AdminOpcode::KEEP_ALIVE,
    ];
    const READS: [NvmOpcode; 2] = [NvmOpcode::READ, NvmOpcode::FLUSH];
    const WRITES: [NvmOpcode; 3] =
        [NvmOpcode::WRITE, NvmOpcode::WRITE_ZEROES, NvmOpcode::DATASET_MANAGEMENT];
    let mut effects = CommandEffects::default();
    for opcode in ADMIN {
        effects.admin[usize::from(opcode.0)] = CommandEffects::SUPPORTED.into();
    }
    for opcode in READS {
        effects.io[usize::from(opcode.0)] = CommandEffects::SUPPORTED.into();
    }
    for opcode in WRITES {
        let changes = CommandEffects::SUPPORTED | CommandEffects::LOGICAL_BLOCKS_CHANGE;
        effects.io[usize::from(opcode.0)] = changes.into();
    }
    effects.as_bytes().to_vec()
}
