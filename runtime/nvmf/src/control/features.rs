use alloc::vec::Vec;

use basalt_nvme_spec::{FeatureId, NSID_ALL, QueueCounts, Status};

use super::controller::{Controller, KEEP_ALIVE_UNIT};
use super::{Target, events};
use crate::behavior::{self, Delays, HostBehavior};
use crate::command::Outcome;
use crate::config::TransportConfig;
use crate::connection::AdminRequest;

/// A controller's settings, as Set Features changes them (§5.27).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Features {
    arbitration: u32,
    power: u32,
    /// Composite temperature at which it is too warm, and too cold, kelvin.
    too_warm_k: u16,
    too_cold_k: u16,
    error_recovery: u32,
    write_atomicity: u32,
    /// Asynchronous event configuration: which events the host wants.
    pub(super) events: u32,
    /// Keep-alive timeout, milliseconds; 0 for none.
    pub(super) kato_ms: u32,
    /// I/O queues granted, if asked.
    queues: Option<u16>,
}

/// The composite temperature: there is no sensor, so it is that of a room.
pub(super) const TEMPERATURE_K: u16 = 273 + 25;

/// SV of Set Features: the value is to be saved.
pub(super) const SAVE: u32 = 1 << 31;

/// Features of an I/O controller. None can be saved.
const IO: [FeatureId; 14] = [
    FeatureId::ARBITRATION,
    FeatureId::POWER_MANAGEMENT,
    FeatureId::TEMPERATURE_THRESHOLD,
    FeatureId::ERROR_RECOVERY,
    FeatureId::VOLATILE_WRITE_CACHE,
    FeatureId::NUMBER_OF_QUEUES,
    FeatureId::WRITE_ATOMICITY,
    FeatureId::ASYNC_EVENT_CONFIG,
    FeatureId::KEEP_ALIVE_TIMER,
    FeatureId::COMMAND_SET_PROFILE,
    FeatureId::HOST_BEHAVIOR,
    FeatureId::HOST_IDENTIFIER,
    FeatureId::RESERVATION_NOTIFICATION_MASK,
    FeatureId::RESERVATION_PERSISTENCE,
];
/// Features of a discovery controller (§3.1.2.3).
const DISCOVERY: [FeatureId; 2] = [FeatureId::ASYNC_EVENT_CONFIG, FeatureId::KEEP_ALIVE_TIMER];

/// The features `controller` has.
pub(super) const fn supported(controller: &Controller) -> &'static [FeatureId] {
    if controller.is_discovery() { &DISCOVERY } else { &IO }
}

impl Features {
    pub(super) fn new(kato_ms: u32) -> Self {
        Self {
            arbitration: 0,
            power: 0,
            too_warm_k: u16::MAX,
            too_cold_k: 0,
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

    /// Whether the temperature is beyond one of the thresholds.
    pub(super) const fn temperature_warning(&self) -> bool {
        TEMPERATURE_K >= self.too_warm_k || TEMPERATURE_K <= self.too_cold_k
    }

    /// How many I/O queues there may be.
    pub(super) fn queues_granted(&self, config: &TransportConfig) -> u16 {
        self.queues.unwrap_or(config.io_queues_max)
    }

    fn value(&self, feature: FeatureId, cdw11: u32, config: &TransportConfig) -> Option<u32> {
        Some(match feature {
            FeatureId::ARBITRATION => self.arbitration,
            FeatureId::POWER_MANAGEMENT => self.power,
            FeatureId::TEMPERATURE_THRESHOLD => u32::from(match Threshold::parse(cdw11)? {
                Threshold::TooWarm => self.too_warm_k,
                Threshold::TooCold => self.too_cold_k,
            }),
            FeatureId::ERROR_RECOVERY => self.error_recovery,
            FeatureId::VOLATILE_WRITE_CACHE => 1,
            FeatureId::WRITE_ATOMICITY => self.write_atomicity,
            FeatureId::NUMBER_OF_QUEUES => {
                QueueCounts::pairs(self.queues_granted(config)).to_dword()
            }
            FeatureId::ASYNC_EVENT_CONFIG => self.events,
            FeatureId::KEEP_ALIVE_TIMER => self.kato_ms,
            FeatureId::COMMAND_SET_PROFILE => 0,
            _ => return None,
        })
    }
}

/// Which threshold a dword 11 of the temperature feature is about (§5.27.1.4).
enum Threshold {
    TooWarm,
    TooCold,
}

impl Threshold {
    /// `None` for a sensor or a type there is not: there is the composite temperature (0), which
    /// is also all temperatures (1111b).
    fn parse(cdw11: u32) -> Option<Self> {
        if !matches!(cdw11 >> 16 & 0xf, 0 | 0xf) {
            return None;
        }
        match cdw11 >> 20 & 3 {
            0 => Some(Self::TooWarm),
            1 => Some(Self::TooCold),
            _ => None,
        }
    }
}

/// Keep-alive timeouts are counted in units.
fn round_up(ms: u32) -> u32 {
    ms.checked_next_multiple_of(KEEP_ALIVE_UNIT.as_millis() as u32).unwrap_or(u32::MAX)
}

/// Set Features (§5.27).
fn set(
    controller: &mut Controller,
    request: &AdminRequest,
    config: &TransportConfig,
) -> Result<u64, Status> {
    let command = &request.command;
    let (value, nsid) = (command.cdw11.get(), command.nsid.get());
    let feature = FeatureId(command.cdw10.get() as u8);
    if !supported(controller).contains(&feature) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    if command.cdw10.get() & SAVE != 0 {
        return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
    }
    if !matches!(nsid, 0 | NSID_ALL) && feature != FeatureId::ERROR_RECOVERY {
        return Err(Status::FEATURE_NOT_PER_NAMESPACE.with_dnr());
    }
    let has_queues = !controller.queues.is_empty();
    let events = value & events::supported(controller);
    let features = &mut controller.features;
    match feature {
        FeatureId::ARBITRATION => features.arbitration = value,
        FeatureId::POWER_MANAGEMENT if value & 0x1f != 0 => {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        FeatureId::POWER_MANAGEMENT => features.power = value,
        FeatureId::TEMPERATURE_THRESHOLD => match Threshold::parse(value) {
            Some(Threshold::TooWarm) => features.too_warm_k = value as u16,
            Some(Threshold::TooCold) => features.too_cold_k = value as u16,
            None => return Err(Status::INVALID_FIELD.with_dnr()),
        },
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
        FeatureId::ASYNC_EVENT_CONFIG => features.events = events,
        FeatureId::KEEP_ALIVE_TIMER => features.kato_ms = round_up(config.kato(value)),
        // The first combination is the only one (§5.27.1.21).
        FeatureId::COMMAND_SET_PROFILE if value & 0x1ff != 0 => {
            return Err(Status::COMBINATION_REJECTED.with_dnr());
        }
        FeatureId::COMMAND_SET_PROFILE => {}
        FeatureId::HOST_BEHAVIOR => controller.behavior.set(&request.data)?,
        // Given by Connect, once and for all.
        _ => return Err(Status::SEQUENCE_ERROR.with_dnr()),
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
    request: &AdminRequest,
    config: &TransportConfig,
) -> (Outcome, Vec<u8>) {
    let command = &request.command;
    let feature = FeatureId(command.cdw10.get() as u8);
    let invalid = (Status::INVALID_FIELD.with_dnr().into(), Vec::new());
    if !supported(controller).contains(&feature) {
        return invalid;
    }
    let select = command.cdw10.get() >> 8 & 7;
    let features = match select {
        0 => controller.features,
        // What cannot be saved has its default as the saved value.
        1 | 2 => Features::new(0),
        3 => return (Outcome::value(u64::from(capabilities(feature))), Vec::new()),
        _ => return invalid,
    };
    if feature == FeatureId::HOST_IDENTIFIER {
        return host_identifier(controller, request);
    }
    if feature == FeatureId::HOST_BEHAVIOR {
        return host_behavior(controller, request, select);
    }
    match features.value(feature, command.cdw11.get(), config) {
        Some(value) => (Outcome::value(u64::from(value)), Vec::new()),
        None => invalid,
    }
}

/// Fabrics have the 128-bit form only (§5.27.1.25).
fn host_identifier(controller: &Controller, request: &AdminRequest) -> (Outcome, Vec<u8>) {
    const EXTENDED: u32 = 1;
    if request.command.cdw11.get() & EXTENDED == 0 {
        return (Status::HOST_ID_INCONSISTENT.with_dnr().into(), Vec::new());
    }
    if request.len_max < size_of_val(&controller.hostid) as u32 {
        return (Status::SGL_LENGTH_INVALID.with_dnr().into(), Vec::new());
    }
    (Outcome::OK, controller.hostid.to_vec())
}

/// The data of the current value (SEL 0), or of the default.
fn host_behavior(
    controller: &Controller,
    request: &AdminRequest,
    select: u32,
) -> (Outcome, Vec<u8>) {
    if (request.len_max as usize) < behavior::LEN {
        return (Status::SGL_LENGTH_INVALID.with_dnr().into(), Vec::new());
    }
    let default = HostBehavior::new(Delays::None);
    let chosen = if select == 0 { &*controller.behavior } else { &default };
    (Outcome::OK, chosen.data().to_vec())
}

/// What can be done with a feature, as Get Features tells it (§5.15, SEL 011b).
pub(super) const fn capabilities(feature: FeatureId) -> u32 {
    const PER_NAMESPACE: u32 = 1 << 1;
    const CHANGEABLE: u32 = 1 << 2;
    match feature {
        FeatureId::VOLATILE_WRITE_CACHE | FeatureId::HOST_IDENTIFIER => 0,
        FeatureId::RESERVATION_PERSISTENCE => PER_NAMESPACE,
        FeatureId::ERROR_RECOVERY | FeatureId::RESERVATION_NOTIFICATION_MASK => {
            PER_NAMESPACE | CHANGEABLE
        }
        _ => CHANGEABLE,
    }
}

impl Target {
    /// Set Features on behalf of a controller.
    pub(super) fn set_features(
        &self,
        controller: &mut Controller,
        request: &AdminRequest,
    ) -> Outcome {
        let outcome = set(controller, request, &self.config.get());
        if outcome.is_ok() {
            self.events_configured(controller);
        }
        outcome.into()
    }
}
