//! A command's way to the drive and back.

use alloc::vec::Vec;
use core::num::NonZeroU16;

use basalt_bdev::{AsyncChannel, Descriptor, Io, NvmePassthru, Op, SgList};
use basalt_env::{DmaBuf, DmaPool};
use basalt_nvme_spec::{AdminOpcode, Command, Status};
use basalt_reactor::Local;

use super::Patch;
use crate::command::{self, Direction, Outcome};
use crate::connection::{AdminReply, AdminRequest, failure};
use crate::control::Target;

/// Bytes that one command moves to or from the drive at most.
const PART_MAX: usize = 8192;
/// Bytes of the structures whose length no command tells: features, Identify.
const STRUCTURE: usize = 4096;

/// An admin command on its way to the drive.
pub(super) struct Passing {
    bdev: Descriptor,
    /// As the host sent it, but for the namespace.
    command: Command,
    /// Data from the host.
    data: Vec<u8>,
    /// Bytes the drive answers at most, and the host takes.
    answer_len: usize,
    len_max: usize,
    patch: Patch,
}

impl Passing {
    pub(super) fn new(
        bdev: Descriptor,
        command: Command,
        patch: Patch,
        request: &AdminRequest,
    ) -> Result<Self, Status> {
        let len_max = request.len_max as usize;
        let mut data = Vec::new();
        let mut answer_len = 0;
        match command::direction(&command)? {
            Direction::ToHost => answer_len = answer(&command, len_max)?,
            Direction::ToController => data = sent(&command, &request.data)?,
            Direction::None => {}
        }
        Ok(Self { bdev, command, data, answer_len, len_max, patch })
    }
}

/// What the drive is sent. A feature may have data or none: there is a buffer in any case.
fn sent(command: &Command, data: &[u8]) -> Result<Vec<u8>, Status> {
    let mut data = data.to_vec();
    match AdminOpcode(command.opcode) {
        AdminOpcode::SET_FEATURES => data.resize(data.len().max(STRUCTURE), 0),
        AdminOpcode::FIRMWARE_DOWNLOAD => {
            let len = (u64::from(command.cdw10.get()) + 1) * 4;
            if len > data.len() as u64 {
                return Err(Status::SGL_LENGTH_INVALID.with_dnr());
            }
            data.truncate(len as usize);
        }
        _ => {}
    }
    Ok(data)
}

/// Bytes of the drive's answer.
fn answer(command: &Command, len_max: usize) -> Result<usize, Status> {
    match AdminOpcode(command.opcode) {
        AdminOpcode::GET_LOG_PAGE => match usize::try_from(command.log_bytes()) {
            Ok(len) if len <= len_max => Ok(len),
            _ => Err(Status::SGL_LENGTH_INVALID.with_dnr()),
        },
        AdminOpcode::GET_FEATURES => Ok(len_max.max(STRUCTURE)),
        _ if len_max == 0 => Ok(0),
        _ => Ok(len_max.max(STRUCTURE)),
    }
}

impl Target {
    /// The drive's answer reaches the host when it comes.
    pub(super) fn send_to_drive(&self, passing: Passing, request: &AdminRequest) {
        let (local, connection, tag) = (self.local.clone(), request.connection, request.tag);
        self.local.spawn("nvmf_passthru", async move {
            let reply = match run(&local, passing).await {
                Ok((result, bytes)) => AdminReply::Done(Outcome::value(result.into()), bytes),
                Err(status) => AdminReply::Done(status.into(), Vec::new()),
            };
            if let Some(target) = local.service::<Self>() {
                target.answer(connection, tag, reply);
            }
        });
    }
}

/// Has the drive run a command, in parts if it moves much; gives its result and data.
async fn run(local: &Local, passing: Passing) -> Result<(u32, Vec<u8>), Status> {
    let Passing { bdev, command, data, answer_len, len_max, patch } = passing;
    let (asked, answer_len) = patch.command(command, answer_len);
    let unavailable = |_| Status::INTERNAL_ERROR;
    let channel = bdev.channel(local).map_err(unavailable)?;
    let depth = NonZeroU16::MIN;
    let channel = AsyncChannel::new(local, channel, depth, "nvmf_passthru").map_err(unavailable)?;
    let pool = local.service::<DmaPool>().ok_or(Status::INTERNAL_ERROR)?;
    let len = data.len().max(answer_len);
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        let part_len = if is_divisible(&asked) { (len - at).min(PART_MAX) } else { len };
        let entry = part(asked, at, part_len, len);
        let data = data.get(at..).unwrap_or_default();
        let buffer = buffer(&pool, part_len, &data[..data.len().min(part_len)])?;
        let (result, buffer) = send(&channel, entry, buffer).await?;
        at += part_len;
        if answer_len > 0 {
            bytes.extend_from_slice(buffer.as_ref().map_or(&[][..], DmaBuf::as_slice));
        }
        if at >= len {
            bytes = patch.apply(bytes, &command);
            bytes.resize(len_max, 0);
            return Ok((result, bytes));
        }
    }
}

async fn send(
    channel: &AsyncChannel,
    entry: Command,
    data: Option<DmaBuf>,
) -> Result<(u32, Option<DmaBuf>), Status> {
    let words: [u32; 16] = zerocopy::transmute!(entry);
    let passthru = NvmePassthru { command: words.map(u32::from_le), data, result: 0 };
    let (data, status) = channel.submit(Io::nvme(Op::NvmeAdmin, passthru, 0)).await;
    status.map_err(failure)?;
    let SgList::Nvme(passthru) = data else { return Err(Status::INTERNAL_ERROR) };
    Ok((passthru.result, passthru.data))
}

/// A buffer of `len` bytes that begins with `data`; structures have the length of one.
fn buffer(pool: &DmaPool, len: usize, data: &[u8]) -> Result<Option<DmaBuf>, Status> {
    if len == 0 {
        return Ok(None);
    }
    let mut buf = pool.alloc(len).map_err(|_| Status::INTERNAL_ERROR)?;
    buf.as_mut_slice().fill(0);
    buf.as_mut_slice()[..data.len()].copy_from_slice(data);
    Ok(Some(buf))
}

/// Whether a command can be done part by part.
fn is_divisible(command: &Command) -> bool {
    let opcode = AdminOpcode(command.opcode);
    matches!(opcode, AdminOpcode::GET_LOG_PAGE | AdminOpcode::FIRMWARE_DOWNLOAD)
}

/// The part of `command`, which moves `whole` bytes, from byte `at` on. What says where data is
/// belongs to the host's transport, and so does the identifier.
fn part(command: Command, at: usize, len: usize, whole: usize) -> Command {
    const RETAIN_EVENT: u32 = 1 << 15;
    let mut part = Command { flags: 0, ..command };
    part.cid = 0.into();
    part.mptr = 0.into();
    part.set_prps(0, 0);
    let dwords = (len / 4).saturating_sub(1) as u32;
    match AdminOpcode(command.opcode) {
        AdminOpcode::GET_LOG_PAGE if whole > PART_MAX => {
            let page = part.cdw10.get() & 0xffff;
            // What is not the end does not clear the event.
            let retain = if at + len < whole { RETAIN_EVENT } else { 0 };
            part.cdw10 = (page | retain | dwords << 16).into();
            part.cdw11 = (part.cdw11.get() & 0xffff_0000 | dwords >> 16).into();
            let offset = command.log_offset() + at as u64;
            part.cdw12 = (offset as u32).into();
            part.cdw13 = ((offset >> 32) as u32).into();
        }
        AdminOpcode::FIRMWARE_DOWNLOAD if whole > PART_MAX => {
            part.cdw10 = dwords.into();
            part.cdw11 = (part.cdw11.get().wrapping_add((at / 4) as u32)).into();
        }
        _ => {}
    }
    part
}
