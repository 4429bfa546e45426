use alloc::vec::Vec;

use basalt_nvme_spec::{Command, FeatureId, QueueCounts, Status};

use super::Target;
use super::controller::{Controller, KEEP_ALIVE_UNIT};
use crate::command::Outcome;
use crate::config::TransportConfig;

/// A controller's settings, as Set Features changes them (§5.27).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Features {
    arbitration: u32,
    power: u32,
    temperature: u32,
    error_recovery: u32,
    write_atomicity: u32,
    /// Asynchronous event configuration: which events the host wants.
    pub(super) events: u32,
    /// Keep-alive timeout, milliseconds; 0 for none.
    pub(super) kato_ms: u32,
    /// I/O queues granted, if asked.
    queues: Option<u16>,
}

/// Temperature threshold after reset: none, so no event.
const TEMPERATURE_NEVER: u32 = 0xffff;

impl Features {
    pub(super) fn new(kato_ms: u32) -> Self {
        Self {
            arbitration: 0,
            power: 0,
            temperature: TEMPERATURE_NEVER,
            error_recovery: 0,
            write_atomicity: 0,
            events: 0,
            kato_ms: round_up(kato_ms),
            queues: None,
        }
    }

    /// Back to the defaults, as by a controller reset; the keep-alive timer runs on.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.kato_ms);
    }
}

/// Keep-alive timeouts are counted in units.
fn round_up(ms: u32) -> u32 {
    ms.checked_next_multiple_of(KEEP_ALIVE_UNIT.as_millis() as u32).unwrap_or(u32::MAX)
}

/// Set Features (§5.27).
pub(super) fn set(
    controller: &mut Controller,
    command: &Command,
    config: &TransportConfig,
) -> Result<u64, Status> {
    const SAVE: u32 = 1 << 31;
    let value = command.cdw11.get();
    if command.cdw10.get() & SAVE != 0 {
        return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
    }
    let feature = FeatureId(command.cdw10.get() as u8);
    if controller.is_discovery() && !in_discovery(feature) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let has_queues = !controller.queues.is_empty();
    let features = &mut controller.features;
    match feature {
        FeatureId::ARBITRATION => features.arbitration = value,
        FeatureId::POWER_MANAGEMENT if value & 0x1f != 0 => {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        FeatureId::POWER_MANAGEMENT => features.power = value,
        FeatureId::TEMPERATURE_THRESHOLD => features.temperature = value,
        FeatureId::ERROR_RECOVERY => features.error_recovery = value,
        // The cache is the bdev's; turning it off is not possible, keeping it on is.
        FeatureId::VOLATILE_WRITE_CACHE if value & 1 == 0 => {
            return Err(Status::FEATURE_NOT_CHANGEABLE.with_dnr());
        }
        FeatureId::VOLATILE_WRITE_CACHE => {}
        FeatureId::WRITE_ATOMICITY => features.write_atomicity = value,
        FeatureId::NUMBER_OF_QUEUES if has_queues => {
            return Err(Status::SEQUENCE_ERROR.with_dnr());
        }
        FeatureId::NUMBER_OF_QUEUES => return number_of_queues(features, value, config),
        FeatureId::ASYNC_EVENT_CONFIG => features.events = value,
        FeatureId::KEEP_ALIVE_TIMER => features.kato_ms = round_up(value),
        // Given by Connect, once and for all.
        FeatureId::HOST_IDENTIFIER => return Err(Status::SEQUENCE_ERROR.with_dnr()),
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    }
    Ok(0)
}

fn number_of_queues(
    features: &mut Features,
    value: u32,
    config: &TransportConfig,
) -> Result<u64, Status> {
    const NOT_ALLOWED: u32 = 0xffff;
    if value & 0xffff == NOT_ALLOWED || value >> 16 == NOT_ALLOWED {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let granted = QueueCounts::from_dword(value).min().min(config.io_queues_max);
    features.queues = Some(granted);
    Ok(u64::from(QueueCounts::pairs(granted).to_dword()))
}

/// Get Features (§5.15): the value, and data for the features that have some.
pub(super) fn get(
    controller: &Controller,
    command: &Command,
    config: &TransportConfig,
) -> (Outcome, Vec<u8>) {
    const EXTENDED_HOST_ID: u32 = 1;
    let features = &controller.features;
    let feature = FeatureId(command.cdw10.get() as u8);
    if controller.is_discovery() && !in_discovery(feature) {
        return (Status::INVALID_FIELD.with_dnr().into(), Vec::new());
    }
    let value = match feature {
        FeatureId::ARBITRATION => features.arbitration,
        FeatureId::POWER_MANAGEMENT => features.power,
        FeatureId::TEMPERATURE_THRESHOLD => features.temperature,
        FeatureId::ERROR_RECOVERY => features.error_recovery,
        FeatureId::VOLATILE_WRITE_CACHE => 1,
        FeatureId::WRITE_ATOMICITY => features.write_atomicity,
        FeatureId::NUMBER_OF_QUEUES => {
            QueueCounts::pairs(features.queues.unwrap_or(config.io_queues_max)).to_dword()
        }
        FeatureId::ASYNC_EVENT_CONFIG => features.events,
        FeatureId::KEEP_ALIVE_TIMER => features.kato_ms,
        // Fabrics have the 128-bit form only (§5.27.1.25).
        FeatureId::HOST_IDENTIFIER if command.cdw11.get() & EXTENDED_HOST_ID != 0 => {
            return (Outcome::OK, controller.hostid.to_vec());
        }
        FeatureId::HOST_IDENTIFIER => {
            return (Status::HOST_ID_INCONSISTENT.with_dnr().into(), Vec::new());
        }
        _ => return (Status::INVALID_FIELD.with_dnr().into(), Vec::new()),
    };
    (Outcome::value(u64::from(value)), Vec::new())
}

/// Features a discovery controller has (§3.1.2.3).
const fn in_discovery(feature: FeatureId) -> bool {
    matches!(feature, FeatureId::ASYNC_EVENT_CONFIG | FeatureId::KEEP_ALIVE_TIMER)
}

impl Target {
    /// Set Features on behalf of a controller.
    pub(super) fn set_features(&self, controller: &mut Controller, command: &Command) -> Outcome {
        set(controller, command, &self.config.get()).into()
    }
}
