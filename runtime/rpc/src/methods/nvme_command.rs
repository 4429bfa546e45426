//! NVMe commands that somebody else wrote: `bdev_nvme_send_cmd`.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use basalt_bdev::{
    Access, AsyncChannel, Io, IoError, IoStatus, NvmePassthru, Op, Registry, SgList,
};
use basalt_env::{DmaBuf, DmaPool};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::json;

use super::bdev::no_such_device;
use super::nvme::NvmeControl;
use crate::{Context, Outcome, Params, RpcError, errno};

/// Most bytes of data: the largest buffer.
const DATA_MAX: usize = 4 << 20;
/// Bytes of a command.
const COMMAND_LEN: usize = 64;
/// Dword 1 of a command is its namespace.
const NSID: usize = 1;

/// What is asked for.
struct Order {
    name: String,
    is_admin: bool,
    command: [u32; 16],
    data: Option<DmaBuf>,
    /// Whether the data goes to the controller.
    to_controller: bool,
}

pub(super) async fn send_cmd(cx: Context, params: Params) -> Outcome {
    let order = read_order(&cx, params)?;
    let control = cx.service::<NvmeControl>().map_err(|_| no_such_device(&order.name))?;
    if !control.has(&order.name) {
        return Err(no_such_device(&order.name));
    }
    let to_controller = order.to_controller;
    let passthru = NvmePassthru { command: order.command, data: order.data, result: 0 };
    let (passthru, status) = if order.is_admin {
        control.admin(order.name, passthru).await
    } else {
        send_io(&cx, &order.name, passthru).await?
    };
    let completion = completion(passthru.result, status)?;
    let data = passthru.data.filter(|_| !to_controller && status.is_ok());
    let data = data.map_or_else(String::new, |data| URL_SAFE.encode(data.as_slice()));
    Ok(json!({"cpl": URL_SAFE.encode(completion), "data": data, "metadata": ""}))
}

fn read_order(cx: &Context, mut params: Params) -> Result<Order, RpcError> {
    let name: String = params.required("name")?;
    let cmd_type: String = params.required("cmd_type")?;
    let direction: String = params.required("data_direction")?;
    let command: String = params.required("cmdbuf")?;
    let data: Option<String> = params.optional("data")?;
    let data_len: usize = params.optional("data_len")?.unwrap_or(0);
    let metadata: Option<String> = params.optional("metadata")?;
    let metadata_len: usize = params.optional("metadata_len")?.unwrap_or(0);
    // The controller's own limits hold.
    let _timeout_ms: Option<u64> = params.optional("timeout_ms")?;
    params.finish()?;
    let invalid = |message: &str| RpcError::errno(errno::EINVAL, message);
    let is_admin = match cmd_type.as_str() {
        "admin" => true,
        "io" => false,
        _ => return Err(invalid("'cmd_type' is admin or io")),
    };
    let to_controller = match direction.as_str() {
        "h2c" => true,
        "c2h" => false,
        _ => return Err(invalid("'data_direction' is h2c or c2h")),
    };
    if metadata.is_some() || metadata_len > 0 {
        return Err(RpcError::errno(errno::EOPNOTSUPP, "metadata is not supported"));
    }
    let command = decode("cmdbuf", &command)?;
    let command: [u8; COMMAND_LEN] =
        command.try_into().map_err(|_| invalid("'cmdbuf' is not 64 bytes long"))?;
    let bytes = data.map_or(Ok(Vec::new()), |data| decode("data", &data))?;
    if to_controller && data_len > 0 || !to_controller && !bytes.is_empty() {
        return Err(invalid("'data_len' is for data from the controller, 'data' for data to it"));
    }
    let len = if to_controller { bytes.len() } else { data_len };
    if len > DATA_MAX {
        return Err(invalid("there are at most 4 MiB of data"));
    }
    Ok(Order {
        name,
        is_admin,
        command: dwords(&command),
        data: buffer(cx, &bytes, len)?,
        to_controller,
    })
}

fn decode(name: &str, text: &str) -> Result<Vec<u8>, RpcError> {
    URL_SAFE.decode(text).map_err(|error| {
        RpcError::errno(errno::EINVAL, format!("'{name}' is no base64 (urlsafe): {error}"))
    })
}

fn dwords(command: &[u8; COMMAND_LEN]) -> [u32; 16] {
    let (dwords, _) = command.as_chunks::<4>();
    core::array::from_fn(|at| u32::from_le_bytes(dwords[at]))
}

/// A buffer of `len` bytes that begins with `bytes`, or none if it would be empty.
pub(super) fn buffer(cx: &Context, bytes: &[u8], len: usize) -> Result<Option<DmaBuf>, RpcError> {
    if len == 0 {
        return Ok(None);
    }
    let pool: Rc<DmaPool> = cx.service()?;
    let buf = pool.alloc(len);
    let mut buf = buf.map_err(|error| RpcError::errno(errno::ENOMEM, error))?;
    buf.as_mut_slice().fill(0);
    buf.as_mut_slice().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(Some(buf))
}

/// Sends an I/O command by way of the namespace's bdev.
async fn send_io(
    cx: &Context,
    controller: &str,
    passthru: NvmePassthru,
) -> Result<(NvmePassthru, IoStatus), RpcError> {
    let bdev = format!("{controller}n{}", passthru.command[NSID]);
    let registry = cx.service::<Registry>()?;
    let open_error = |error| RpcError::errno(errno::ENODEV, format!("{bdev}: {error}"));
    let disk = registry.open(&bdev, Access::ReadWrite).map_err(open_error)?;
    let channel = disk.channel(cx.local()).map_err(open_error)?;
    let channel = AsyncChannel::new(cx.local(), channel, NonZeroU16::MIN, "nvme_send_cmd");
    let channel = channel.map_err(open_error)?;
    let (data, status) = channel.submit(Io::nvme(Op::NvmeIo, passthru, 0)).await;
    match data {
        SgList::Nvme(passthru) => Ok((*passthru, status)),
        _ => Ok((NvmePassthru::default(), status)),
    }
}

/// A completion queue entry (base specification 2.0 §3.3.3.2).
fn completion(dw0: u32, status: IoStatus) -> Result<[u8; 16], RpcError> {
    let status = match status {
        Ok(()) => 0,
        Err(IoError::Nvme { sct, sc, dnr }) => {
            u16::from(dnr) << 15 | u16::from(sct & 7) << 9 | u16::from(sc) << 1
        }
        Err(error) => return Err(RpcError::errno(errno::EIO, error)),
    };
    let mut entry = [0; 16];
    entry[..4].copy_from_slice(&dw0.to_le_bytes());
    entry[14..].copy_from_slice(&status.to_le_bytes());
    Ok(entry)
}

/// How an admin command ends: with its data, and a status.
pub type NvmeAnswer = (NvmePassthru, IoStatus);
