//! What is different with zones (Zoned Namespace Command Set 1.1): appends go to the bdev as such;
//! zones are reported and managed by the drive, which gets the commands that do so once they are
//! checked. Its status is the host's, whatever the bdev was asked for.

use basalt_bdev::{Io, NvmePassthru, Op, SgList, Zones};
use basalt_nvme_spec::{Command, NvmOpcode, Status};

use super::io::{check_directive, check_writable};
use crate::command::{self, Transfer};
use crate::group::{Access, Core, Namespace};

const INVALID: Status = Status::INVALID_FIELD.with_dnr();

/// Keeps what Write and Write Zeroes change within a zone (§2.1.1.3.2), before a bdev makes several
/// commands of it.
pub(super) fn check_write(
    command: &Command,
    namespace: &Namespace,
    view: usize,
    core: &Core,
) -> Result<(), Status> {
    if !namespace.supports(Op::ZoneAppend) {
        return Ok(());
    }
    namespace.check_range(command.lba(), command.blocks())?;
    let zones = zones(command, view, core)?;
    let left = zones.blocks - command.lba() % zones.blocks;
    match u64::from(command.blocks()) > left {
        true => Err(Status::ZONE_BOUNDARY.with_dnr()),
        false => Ok(()),
    }
}

/// Checks a command that namespaces without zones do not have, and says what it moves.
#[cold]
pub(super) fn plan(
    command: &Command,
    capsule_len: u32,
    view: usize,
    core: &Core,
) -> Result<(Namespace, Transfer), Status> {
    let namespace = core.views.namespace(view, command.nsid.get(), Access::Other)?;
    let transfer = match check(command, &namespace, view, core)? {
        0 => Transfer::None,
        len => command::transfer(command, capsule_len, core.config.io_len_max)?.exactly(len)?,
    };
    Ok((namespace, transfer))
}

/// Bytes that a command moves which is as it should be.
fn check(
    command: &Command,
    namespace: &Namespace,
    view: usize,
    core: &Core,
) -> Result<u32, Status> {
    let (zones, len_max) = (zones(command, view, core)?, core.config.io_len_max);
    namespace.check_range(command.lba(), 1)?;
    let begins_zone = command.lba().is_multiple_of(zones.blocks);
    let len = match NvmOpcode(command.opcode) {
        NvmOpcode::ZONE_APPEND => {
            check_writable(namespace)?;
            check_directive(command)?;
            // What no zone has room for, and, at the end, what the namespace has none for.
            if u64::from(command.blocks()) > zones.blocks
                || namespace.check_range(command.lba(), command.blocks()).is_err()
            {
                return Err(Status::ZONE_BOUNDARY.with_dnr());
            }
            let fits = begins_zone && command.blocks() <= zones.append_max;
            fits.then(|| u64::from(command.blocks()) << namespace.block_shift).ok_or(INVALID)?
        }
        NvmOpcode::ZONE_SEND => {
            check_writable(namespace)?;
            check_send(command, begins_zone)?;
            0
        }
        _ => {
            check_receive(command)?;
            (u64::from(command.cdw12.get()) + 1) * 4
        }
    };
    u32::try_from(len).ok().filter(|len| *len <= len_max).ok_or(INVALID)
}

/// The zones of the namespace that a command names.
fn zones(command: &Command, view: usize, core: &Core) -> Result<Zones, Status> {
    let zones = core.views.zones(view, command.nsid.get());
    zones.ok_or(Status::INVALID_OPCODE.with_dnr())
}

/// Close, finish, open, reset and offline (§3.4.3, ZSA 1 to 5) of a zone or of all. Descriptors
/// have no extensions that could be set, and there are no zone random write areas.
fn check_send(command: &Command, begins_zone: bool) -> Result<(), Status> {
    const SELECT_ALL: u32 = 1 << 8;
    const RANDOM_WRITE_AREA: u32 = 1 << 9;
    let how = command.cdw13.get();
    let is_known = matches!(how as u8, 1..=5) && how & RANDOM_WRITE_AREA == 0;
    let names_zones = begins_zone || how & SELECT_ALL != 0;
    if is_known && names_zones { Ok(()) } else { Err(INVALID) }
}

/// Reports (§3.4.2, ZRA 0) of zones of any or of one state (ZRASF 0 to 7). Extended reports are for
/// descriptors with extensions.
fn check_receive(command: &Command) -> Result<(), Status> {
    let how = command.cdw13.get();
    let is_known = how as u8 == 0 && how >> 8 & 0xff <= 7;
    if is_known { Ok(()) } else { Err(INVALID) }
}

/// Whether it is a command that only namespaces with zones have.
pub(super) const fn are_about(opcode: NvmOpcode) -> bool {
    matches!(opcode, NvmOpcode::ZONE_SEND | NvmOpcode::ZONE_RECEIVE | NvmOpcode::ZONE_APPEND)
}

/// The Io that has the bdev append, or the drive run a Zone Management Send or Receive.
#[cold]
pub(super) fn io(command: &Command, data: SgList, tag: u64) -> Io {
    if command.opcode == NvmOpcode::ZONE_APPEND.0 {
        return Io::with_data(Op::ZoneAppend, command.lba(), command.blocks(), data, tag);
    }
    let mut data = match data {
        SgList::One(buf) => Some(buf),
        _ => None,
    };
    // Who had the buffer before is nobody's business, should the drive write less than all.
    if let Some(buf) = &mut data {
        buf.as_mut_slice().fill(0);
    }
    let own = Command {
        opcode: command.opcode,
        cdw10: command.cdw10,
        cdw11: command.cdw11,
        cdw12: command.cdw12,
        cdw13: (command.cdw13.get() & 0x1_ffff).into(),
        ..Command::default()
    };
    let words: [u32; 16] = zerocopy::transmute!(own);
    let passthru = NvmePassthru { command: words.map(u32::from_le), data, result: 0 };
    Io::nvme(Op::NvmeIo, passthru, tag)
}

/// What a report has brought.
#[cold]
pub(super) fn answer(opcode: NvmOpcode, data: SgList) -> SgList {
    match data {
        SgList::Nvme(passthru) if opcode == NvmOpcode::ZONE_RECEIVE => {
            passthru.data.map_or(SgList::Empty, SgList::One)
        }
        _ => SgList::Empty,
    }
}
