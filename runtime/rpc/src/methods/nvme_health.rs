//! How an NVMe drive is, by its own account.

use alloc::string::{String, ToString};

use basalt_bdev::NvmePassthru;
use serde_json::{Map, Value};

use super::bdev::no_such_device;
use super::nvme::NvmeControl;
use super::nvme_command::buffer;
use super::nvme_remote;
use crate::{Context, Outcome, Params, RpcError, errno};

/// Get Log Page, SMART / Health Information (NVMe base specification 2.0 §5.16.1.3), of the whole
/// controller.
const GET_LOG_PAGE: u32 = 0x02;
const SMART_HEALTH: u32 = 0x02;
const ALL_NAMESPACES: u32 = u32::MAX;
const LEN: usize = 512;

/// 0 °C, in kelvin as drives count them.
const ZERO_CELSIUS: i64 = 273;

pub(super) async fn get_controller_health_info(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    if nvme_remote::has(&cx, &name) {
        let message = format_args!("{name} is of another machine: ask there");
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    }
    let control = cx.service::<NvmeControl>().map_err(|_| no_such_device(&name))?;
    let state = control.list().into_iter().find(|state| state.name == name);
    let state = state.ok_or_else(|| no_such_device(&name))?;
    let mut command = [0; 16];
    command[0] = GET_LOG_PAGE;
    command[1] = ALL_NAMESPACES;
    command[10] = SMART_HEALTH | (LEN as u32 / 4 - 1) << 16;
    let data = buffer(&cx, &[], LEN)?;
    let (answer, status) = control.admin(name, NvmePassthru { command, data, result: 0 }).await;
    status.map_err(|error| RpcError::errno(errno::EIO, error))?;
    let data = answer.data.ok_or_else(|| RpcError::errno(errno::EIO, "there is no data"))?;
    let log = Log(data.as_slice());
    let mut health = Map::new();
    for (name, at, len) in FIELDS {
        health.insert(name.into(), log.number(at, len).into());
    }
    let celsius = log.number(1, 2) as i64 - ZERO_CELSIUS;
    health.insert("temperature_celsius".into(), celsius.into());
    for (name, text) in [
        ("model_number", state.model),
        ("serial_number", state.serial),
        ("firmware_revision", state.firmware),
        ("traddr", state.address.to_string()),
    ] {
        health.insert(name.into(), text.into());
    }
    Ok(Value::Object(health))
}

/// Numbers of the log page by SPDK's names, where they begin and how many bytes they have.
const FIELDS: [(&str, usize, usize); 16] = [
    ("critical_warning", 0, 1),
    ("available_spare_percentage", 3, 1),
    ("available_spare_threshold_percentage", 4, 1),
    ("percentage_used", 5, 1),
    ("data_units_read", 32, 16),
    ("data_units_written", 48, 16),
    ("host_read_commands", 64, 16),
    ("host_write_commands", 80, 16),
    ("controller_busy_time", 96, 16),
    ("power_cycles", 112, 16),
    ("power_on_hours", 128, 16),
    ("unsafe_shutdowns", 144, 16),
    ("media_errors", 160, 16),
    ("num_err_log_entries", 176, 16),
    ("warning_temperature_time_minutes", 192, 4),
    ("critical_composite_temperature_time_minutes", 196, 4),
];

/// The log page.
struct Log<'a>(&'a [u8]);

impl Log<'_> {
    /// The number of so many bytes at that offset, or the largest that JSON has for sure.
    fn number(&self, at: usize, len: usize) -> u64 {
        let bytes = self.0.get(at..at + len).unwrap_or_default();
        let number =
            bytes.iter().rev().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        u64::try_from(number).unwrap_or(u64::MAX)
    }
}
