//! Errors that are injected into the commands of NVMe controllers.

use alloc::string::String;
use core::time::Duration;

use basalt_nvme_spec::{ErrorChange, Fate, InjectedError, QueueKind, Status};

use super::nvme::NvmeSwitch;
use crate::{Params, RpcError};

/// The largest status code type: it has 3 bits.
const SCT_MAX: u8 = 7;

/// Reads what `bdev_nvme_add_error_injection` is about.
pub(super) fn read_add(params: &mut Params) -> Result<NvmeSwitch, RpcError> {
    let (queues, opcode) = read_target(params)?;
    let held: Option<bool> = params.optional("do_not_submit")?;
    let after_us: Option<u64> = params.optional("timeout_in_us")?;
    let count: Option<u32> = params.optional("err_count")?;
    let sct: u8 = params.optional("sct")?.unwrap_or(0);
    let sc: Option<u8> = params.optional("sc")?;
    if sct > SCT_MAX {
        params.refuse(format_args!("sct"), format_args!("it is at most {SCT_MAX}"))?;
    }
    let after = Duration::from_micros(after_us.unwrap_or(0));
    let fate = if held == Some(true) { Fate::Held(after) } else { Fate::Submitted };
    let status = Status::new(sct, sc.unwrap_or(0));
    let error = InjectedError { opcode, fate, count: count.unwrap_or(1), status };
    Ok(NvmeSwitch::Errors(queues, ErrorChange::Add(error)))
}

/// Reads what `bdev_nvme_remove_error_injection` is about.
pub(super) fn read_remove(params: &mut Params) -> Result<NvmeSwitch, RpcError> {
    let (queues, opcode) = read_target(params)?;
    Ok(NvmeSwitch::Errors(queues, ErrorChange::Remove(opcode)))
}

/// Which commands are meant.
fn read_target(params: &mut Params) -> Result<(QueueKind, u8), RpcError> {
    let cmd_type: String = params.required("cmd_type")?;
    let queues = match cmd_type.as_str() {
        "io" => QueueKind::Io,
        "admin" => QueueKind::Admin,
        _ => {
            params.refuse(format_args!("cmd_type"), format_args!("it is admin or io"))?;
            QueueKind::Admin
        }
    };
    Ok((queues, params.required("opc")?))
}
