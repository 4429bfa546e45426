use alloc::vec::Vec;

use basalt_env::Instant;
use basalt_nvme_spec::identify::NamespaceList;
use basalt_nvme_spec::log_page::{CommandEffects, FirmwareSlots, SmartHealth};
use basalt_nvme_spec::{
    AdminOpcode, Command, Csi, FeatureId, LogPageId, NSID_ALL, NvmOpcode, Status, set_ascii_field,
};
use zerocopy::IntoBytes;

use super::controller::Controller;
use super::features::TEMPERATURE_K;
use super::{State, ana, discovery, events, features};
use crate::config::TransportConfig;
use crate::connection::AdminRequest;
use crate::group::CommandSets;

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
    // An offset that counts entries instead of bytes is for pages we do not have.
    const INDEX_OFFSET: u32 = 1 << 23;
    let indexed = command.cdw14.get() & INDEX_OFFSET != 0;
    if len > u64::from(config.io_len_max) || !offset.is_multiple_of(4) || indexed {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    if len > u64::from(request.len_max) {
        return Err(Status::SGL_LENGTH_INVALID.with_dnr());
    }
    let controller = &state.controllers[at];
    let part = match page {
        LogPageId::DISCOVERY if controller.is_discovery() => {
            discovery::log_page(&controller.told, offset, len as usize)
        }
        _ => {
            let bytes = whole(state, at, page, command, config, now)?;
            bytes.get(offset as usize..).map(<[u8]>::to_vec)
        }
    };
    let mut bytes = part.ok_or(Status::INVALID_FIELD.with_dnr())?;
    bytes.resize(len as usize, 0);
    let controller = &mut state.controllers[at];
    if !retains_event(command) {
        events::clear(controller, page);
        if page == LogPageId::CHANGED_NAMESPACES {
            controller.changed_namespaces.clear();
        }
        if page == LogPageId::RESERVATION_NOTIFICATION {
            controller.notifications.pop();
        }
    }
    Ok(bytes)
}

/// Whether reading the page does not clear its events (RAE).
pub(super) const fn retains_event(command: &Command) -> bool {
    const RETAIN_EVENT: u32 = 1 << 15;
    command.cdw10.get() & RETAIN_EVENT != 0
}

/// A log page other than that of discovery as a whole.
pub(super) fn whole(
    state: &State,
    at: usize,
    page: LogPageId,
    command: &Command,
    config: &TransportConfig,
    now: Instant,
) -> Result<Vec<u8>, Status> {
    let controller = &state.controllers[at];
    let bytes = match page {
        LogPageId::SUPPORTED_LOG_PAGES => return Ok(supported(controller)),
        _ if controller.is_discovery() => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
        LogPageId::ERROR_INFORMATION => controller.errors.page(),
        LogPageId::SMART_HEALTH => smart(state, controller, command, now)?,
        LogPageId::FIRMWARE_SLOT => firmware(),
        LogPageId::CHANGED_NAMESPACES => changed(controller),
        LogPageId::COMMANDS_SUPPORTED => {
            // The command set it is about (§5.16.1.6), for hosts that have selected several.
            let csi = Csi((command.cdw14.get() >> 24) as u8);
            match controller.command_sets() {
                CommandSets::Nvm => effects(config, Csi::NVM),
                CommandSets::All if csi == Csi::NVM || csi == Csi::ZONED => effects(config, csi),
                CommandSets::All => return Err(Status::INVALID_FIELD.with_dnr()),
            }
        }
        LogPageId::FEATURES_SUPPORTED => features(controller),
        LogPageId::ASYMMETRIC_NAMESPACE_ACCESS if controller.reports_ana => {
            let subsystem = controller.subsystem.and_then(|id| state.subsystem(id));
            ana::log_page(subsystem.ok_or(Status::INVALID_LOG_PAGE)?, controller, command)
        }
        LogPageId::RESERVATION_NOTIFICATION => controller.notifications.page(),
        _ => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
    };
    Ok(bytes)
}

/// Log page 0 (§5.16.1.1): a dword per page, bit 0 says that it is supported.
fn supported(controller: &Controller) -> Vec<u8> {
    const IO: [LogPageId; 8] = [
        LogPageId::SUPPORTED_LOG_PAGES,
        LogPageId::ERROR_INFORMATION,
        LogPageId::SMART_HEALTH,
        LogPageId::FIRMWARE_SLOT,
        LogPageId::CHANGED_NAMESPACES,
        LogPageId::COMMANDS_SUPPORTED,
        LogPageId::FEATURES_SUPPORTED,
        LogPageId::RESERVATION_NOTIFICATION,
    ];
    const DISCOVERY: [LogPageId; 2] = [LogPageId::SUPPORTED_LOG_PAGES, LogPageId::DISCOVERY];
    let pages: &[LogPageId] = if controller.is_discovery() { &DISCOVERY } else { &IO };
    let mut bytes = Vec::from([0; 1024]);
    let ana = controller.reports_ana.then_some(&LogPageId::ASYMMETRIC_NAMESPACE_ACCESS);
    for page in pages.iter().chain(ana) {
        bytes[usize::from(page.0) * 4] = 1;
    }
    bytes
}

fn smart(
    state: &State,
    controller: &Controller,
    command: &Command,
    now: Instant,
) -> Result<Vec<u8>, Status> {
    const DATA_UNIT: u64 = 512_000;
    const NS_PER_MINUTE: u64 = 60_000_000_000;
    const TEMPERATURE_WARNING: u8 = 1 << 1;
    let nsid = command.nsid.get();
    if nsid != 0 && nsid != NSID_ALL {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let subsystem = controller.subsystem.and_then(|id| state.subsystem(id));
    let totals = subsystem.map(|subsystem| subsystem.health.totals(now)).unwrap_or_default();
    let warm = controller.features.temperature_warning();
    let wide = |count: u64| u128::from(count).into();
    let health = SmartHealth {
        critical_warning: if warm { TEMPERATURE_WARNING } else { 0 },
        temperature_k: TEMPERATURE_K.into(),
        available_spare: 100,
        available_spare_threshold: 10,
        data_units_read: wide(totals.read.div_ceil(DATA_UNIT)),
        data_units_written: wide(totals.written.div_ceil(DATA_UNIT)),
        host_reads: wide(totals.reads),
        host_writes: wide(totals.writes),
        busy_minutes: wide(totals.busy_ns / NS_PER_MINUTE),
        power_cycles: wide(1),
        power_on_hours: wide(now.since(state.started).as_secs() / 3600),
        unsafe_shutdowns: wide(totals.unsafe_shutdowns),
        media_errors: wide(totals.media_errors),
        error_entries: wide(controller.errors.count()),
        ..SmartHealth::default()
    };
    Ok(health.as_bytes().to_vec())
}

/// Log page 12h (§5.16.1.17): a dword per feature, laid out like that of a command.
fn features(controller: &Controller) -> Vec<u8> {
    let mut bytes = Vec::from([0; 1024]);
    for feature in features::supported(controller) {
        let scope = match *feature {
            FeatureId::ERROR_RECOVERY
            | FeatureId::RESERVATION_NOTIFICATION_MASK
            | FeatureId::RESERVATION_PERSISTENCE => CommandEffects::SCOPE_NAMESPACE,
            _ => CommandEffects::SCOPE_CONTROLLER,
        };
        let at = usize::from(feature.0) * 4;
        bytes[at..at + 4].copy_from_slice(&(CommandEffects::SUPPORTED | scope).to_le_bytes());
    }
    bytes
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

fn effects(config: &TransportConfig, csi: Csi) -> Vec<u8> {
    const ADMIN: [AdminOpcode; 7] = [
        AdminOpcode::GET_LOG_PAGE,
        AdminOpcode::IDENTIFY,
        AdminOpcode::ABORT,
        AdminOpcode::SET_FEATURES,
        AdminOpcode::GET_FEATURES,
        AdminOpcode::ASYNC_EVENT_REQUEST,
        AdminOpcode::KEEP_ALIVE,
    ];
    const READS: [NvmOpcode; 9] = [
        NvmOpcode::READ,
        NvmOpcode::COMPARE,
        NvmOpcode::VERIFY,
        NvmOpcode::FLUSH,
        NvmOpcode::RESERVATION_REGISTER,
        NvmOpcode::RESERVATION_REPORT,
        NvmOpcode::RESERVATION_ACQUIRE,
        NvmOpcode::RESERVATION_RELEASE,
        NvmOpcode::ZONE_RECEIVE,
    ];
    const WRITES: [NvmOpcode; 6] = [
        NvmOpcode::WRITE,
        NvmOpcode::WRITE_ZEROES,
        NvmOpcode::DATASET_MANAGEMENT,
        NvmOpcode::COPY,
        NvmOpcode::ZONE_SEND,
        NvmOpcode::ZONE_APPEND,
    ];
    let mut effects = CommandEffects::default();
    for opcode in ADMIN {
        let supported = CommandEffects::SUPPORTED | CommandEffects::SCOPE_CONTROLLER;
        effects.admin[usize::from(opcode.0)] = supported.into();
    }
    let supported = CommandEffects::SUPPORTED | CommandEffects::SCOPE_NAMESPACE;
    let is_told = |opcode: &NvmOpcode| !config.masks(*opcode) && is_in(*opcode, csi);
    for opcode in READS.into_iter().filter(is_told) {
        effects.io[usize::from(opcode.0)] = supported.into();
    }
    for opcode in WRITES.into_iter().filter(is_told) {
        let changes = supported | CommandEffects::LOGICAL_BLOCKS_CHANGE;
        effects.io[usize::from(opcode.0)] = changes.into();
    }
    effects.as_bytes().to_vec()
}

/// Whether namespaces of a command set have a command. Bdevs with zones copy nothing.
const fn is_in(opcode: NvmOpcode, csi: Csi) -> bool {
    let is_zoned = csi.0 == Csi::ZONED.0;
    match opcode {
        NvmOpcode::ZONE_SEND | NvmOpcode::ZONE_RECEIVE | NvmOpcode::ZONE_APPEND => is_zoned,
        NvmOpcode::COPY => !is_zoned,
        _ => true,
    }
}
