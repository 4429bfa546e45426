use basalt_bdev::{Io, IoError, Op, RejectReason, SgList};
use basalt_nvme_spec::{Command, CopyRange, DsmAttributes, DsmRange, IoFlags, NvmOpcode, Status};
use zerocopy::FromBytes;

use super::queue::{Phase, Queue, Role};
use super::receive::Plan;
use super::slot::SlotState;
use super::{copy, fused, zones};
use crate::command::{self, Outcome, Transfer};
use crate::group::{Access, Core, Namespace, Tag};

/// Checks an I/O command and says what it needs (NVM command set 1.0, §3.2).
pub(super) fn plan(
    command: &Command,
    capsule_len: u32,
    view: usize,
    core: &Core,
) -> Result<Plan, Status> {
    fused::check(command, core.config.fused)?;
    if core.config.masks(NvmOpcode(command.opcode)) {
        return Err(Status::INVALID_OPCODE.with_dnr());
    }
    let transfer = || command::transfer(command, capsule_len, core.config.io_len_max);
    // Reservations are looked at when it begins.
    let namespace = || core.views.namespace(view, command.nsid.get(), Access::Other);
    let (namespace, transfer) = match NvmOpcode(command.opcode) {
        opcode @ (NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::COMPARE) => {
            let namespace = namespace()?;
            if opcode == NvmOpcode::WRITE {
                check_writable(&namespace)?;
                check_directive(command)?;
                zones::check_write(command, &namespace, view, core)?;
            }
            namespace.check_range(command.lba(), command.blocks())?;
            let len = u64::from(command.blocks()) << namespace.block_shift;
            if len > u64::from(core.config.io_len_max) {
                return Err(Status::INVALID_FIELD.with_dnr());
            }
            (namespace, transfer()?.exactly(len as u32)?)
        }
        NvmOpcode::VERIFY => {
            let namespace = namespace()?;
            namespace.check_range(command.lba(), command.blocks())?;
            (namespace, Transfer::None)
        }
        NvmOpcode::COPY => {
            let namespace = namespace()?;
            check_writable(&namespace)?;
            if command.copy_format() != 0 {
                return Err(Status::INVALID_FIELD.with_dnr());
            }
            if command.copy_ranges() > copy::RANGES_MAX {
                return Err(Status::COMMAND_SIZE_LIMIT.with_dnr());
            }
            let len = command.copy_ranges() * size_of::<CopyRange>() as u32;
            (namespace, transfer()?.exactly(len)?)
        }
        NvmOpcode::WRITE_ZEROES => {
            let namespace = namespace()?;
            check_writable(&namespace)?;
            namespace.check_range(command.lba(), command.blocks())?;
            zones::check_write(command, &namespace, view, core)?;
            (namespace, Transfer::None)
        }
        NvmOpcode::DATASET_MANAGEMENT => {
            let namespace = namespace()?;
            if command.dsm_attributes().contains(DsmAttributes::DEALLOCATE) {
                check_writable(&namespace)?;
            }
            let len = command.dsm_ranges() * size_of::<DsmRange>() as u32;
            (namespace, transfer()?.exactly(len)?)
        }
        NvmOpcode::FLUSH => (namespace()?, Transfer::None),
        opcode if is_about_reservations(opcode) => {
            let len = reservation_len(command, core.config.io_len_max)?;
            (namespace()?, transfer()?.exactly(len)?)
        }
        opcode if zones::are_about(opcode) => zones::plan(command, capsule_len, view, core)?,
        _ => return Err(Status::INVALID_OPCODE.with_dnr()),
    };
    Ok(Plan { transfer, channel: namespace.channel()? })
}

/// Whether it is the control plane's to run.
pub(super) const fn is_about_reservations(opcode: NvmOpcode) -> bool {
    matches!(
        opcode,
        NvmOpcode::RESERVATION_REGISTER
            | NvmOpcode::RESERVATION_REPORT
            | NvmOpcode::RESERVATION_ACQUIRE
            | NvmOpcode::RESERVATION_RELEASE
    )
}

/// Bytes that a reservation command moves: keys, or a report of at most `len_max`.
fn reservation_len(command: &Command, len_max: u32) -> Result<u32, Status> {
    const KEY: u32 = 8;
    match NvmOpcode(command.opcode) {
        NvmOpcode::RESERVATION_REPORT => u32::try_from(command.report_bytes())
            .ok()
            .filter(|len| *len <= len_max)
            .ok_or(Status::INVALID_FIELD.with_dnr()),
        NvmOpcode::RESERVATION_RELEASE => Ok(KEY),
        _ => Ok(2 * KEY),
    }
}

pub(super) fn check_writable(namespace: &Namespace) -> Result<(), Status> {
    match namespace.supports(Op::Write) {
        true => Ok(()),
        false => Err(Status::WRITE_PROTECTED.with_dnr()),
    }
}

/// No directive is supported, so none may be named (NVM §3.2.6, DTYPE).
pub(super) fn check_directive(command: &Command) -> Result<(), Status> {
    match command.cdw12.get() >> 20 & 0xf {
        0 => Ok(()),
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

impl Queue {
    /// Runs a command whose data, if any, has arrived and whose buffer, if any, is there.
    pub(super) fn execute(&mut self, index: u16, core: &mut Core) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.state = SlotState::Running;
        }
        match self.phase {
            Phase::Ready(Role::Io { view, .. }) => self.start_io(index, view, core),
            _ => self.start_admin(index, core),
        }
    }

    fn start_io(&mut self, index: u16, view: usize, core: &mut Core) {
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let command = slot.command;
        let (opcode, lba, blocks) = (NvmOpcode(command.opcode), command.lba(), command.blocks());
        let is_half = command.flags & Command::FLAG_FUSE_MASK != 0;
        let access = if is_half { Access::Other } else { Access::of(opcode) };
        let namespace = match self.namespace_again(index, view, access, core) {
            Ok(namespace) => namespace,
            Err(status) => return self.finish(index, status.into()),
        };
        if is_half {
            return self.half_ready(index, view, core);
        }
        let io = match opcode {
            NvmOpcode::READ => Io::with_data(Op::Read, lba, blocks, self.take_data(index), tag),
            NvmOpcode::WRITE => Io::with_data(Op::Write, lba, blocks, self.take_data(index), tag),
            NvmOpcode::COMPARE => {
                Io::with_data(Op::Compare, lba, blocks, self.take_data(index), tag)
            }
            NvmOpcode::WRITE_ZEROES => Io::new(Op::WriteZeroes, lba, blocks, tag),
            NvmOpcode::VERIFY => Io::new(Op::Verify, lba, blocks, tag),
            NvmOpcode::DATASET_MANAGEMENT => return self.next_range(index, namespace, core),
            NvmOpcode::COPY => return self.next_copy(index, namespace, core),
            _ if is_about_reservations(opcode) => return self.start_admin(index, core),
            _ if zones::are_about(opcode) => zones::io(&command, self.take_data(index), tag),
            _ => return self.flush_bdev(index, namespace, core),
        };
        self.submit(index, io, core);
    }

    /// The namespace of a command under way. It may have gone while data arrived or the bdev was
    /// at work, and its channel with it, whose number may be another bdev's by now. Reservations
    /// count as they stand when a command begins (base specification 2.0 §8.19): what has begun
    /// needs no access any more.
    pub(super) fn namespace_again(
        &mut self,
        index: u16,
        view: usize,
        access: Access,
        core: &Core,
    ) -> Result<Namespace, Status> {
        let slot = self.slots.get_mut(index).ok_or(Status::INTERNAL_ERROR)?;
        let namespace = core.views.namespace(view, slot.command.nsid.get(), access)?;
        slot.channel = namespace.channel()?;
        Ok(namespace)
    }

    pub(super) fn take_data(&mut self, index: u16) -> SgList {
        self.slots.get_mut(index).map(|slot| core::mem::take(&mut slot.data)).unwrap_or_default()
    }

    /// Makes completed writes durable; a bdev without Flush has no volatile cache.
    pub(super) fn flush_bdev(&mut self, index: u16, namespace: Namespace, core: &mut Core) {
        if !namespace.supports(Op::Flush) {
            return self.succeed(index);
        }
        let io = Io::new(Op::Flush, 0, 0, self.tag(index).to_u64());
        self.submit(index, io, core);
    }

    /// All of a command is done: a Zone Append has a result by now.
    fn succeed(&mut self, index: u16) {
        let outcome = self.slots.get(index).map_or(Outcome::OK, |slot| slot.outcome);
        self.finish(index, outcome);
    }

    /// Deallocates the next range of a Dataset Management command (NVM §3.2.3).
    fn next_range(&mut self, index: u16, namespace: Namespace, core: &mut Core) {
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let deallocate = slot.command.dsm_attributes().contains(DsmAttributes::DEALLOCATE);
        // Nothing is deallocated unless everything can be.
        if deallocate
            && slot.progress == 0
            && let Err(status) = check_ranges(&slot.data, &namespace)
        {
            return self.finish(index, status.into());
        }
        // Everything but deallocation is a hint, and a bdev may lack that too.
        if !deallocate || !namespace.supports(Op::Unmap) {
            return self.finish(index, Outcome::OK);
        }
        while let Some(range) = nth_range(&slot.data, slot.progress) {
            let (lba, blocks) = (range.lba.get(), range.blocks.get());
            if blocks == 0 {
                slot.progress += 1;
                continue;
            }
            return self.submit(index, Io::new(Op::Unmap, lba, blocks, tag), core);
        }
        self.finish(index, Outcome::OK);
    }

    #[inline]
    pub(super) fn submit(&mut self, index: u16, mut io: Io, core: &mut Core) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match core.channels.submit(slot.channel, &mut io) {
            Ok(()) => self.started(core),
            Err(reason) => self.refused(index, io, reason, core),
        }
    }

    #[cold]
    fn refused(&mut self, index: u16, io: Io, reason: RejectReason, core: &mut Core) {
        if reason != RejectReason::QueueFull {
            log::warn!(target: "nvmf", "bdev refused {:?}: {reason:?}", io.op);
            return self.finish(index, refusal(reason).into());
        }
        let tag = self.tag(index);
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.refused = Some(io);
        core.counters.queue_full += 1;
        core.channels.wait(slot.channel, tag);
    }

    /// Submits again what the channel refused. `false` if it refuses once more.
    pub(super) fn resubmit(&mut self, core: &mut Core, tag: Tag) -> bool {
        let path = self.path();
        let Some(slot) = self.slots.current(tag.slot, tag.generation) else { return true };
        let Some(mut io) = slot.refused.take() else { return true };
        // It may have to take another path by now.
        let nsid = slot.command.nsid.get();
        if let Some(Err(status)) = path.map(|path| core.views.namespace(path, nsid, Access::Other))
        {
            self.finish(tag.slot, status.into());
            return true;
        }
        match core.channels.submit(slot.channel, &mut io) {
            Ok(()) => self.started(core),
            Err(RejectReason::QueueFull) => {
                slot.refused = Some(io);
                return false;
            }
            Err(reason) => self.finish(tag.slot, refusal(reason).into()),
        }
        true
    }

    /// The bdev has an Io more.
    fn started(&mut self, core: &Core) {
        self.outstanding += 1;
        if let Some(health) = &self.health {
            health.started(core.local.core(), core.local.now());
        }
    }

    /// The bdev has an Io less.
    fn returned(&mut self, core: &mut Core, io: &Io) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ios += 1;
        if let Some(health) = &self.health {
            health.finished(core.local.core(), io, core.local.now());
        }
    }

    /// Counts a Read or Write command that has moved `bytes` bytes.
    pub(super) fn count(&self, core: &Core, op: Op, bytes: usize) {
        if let Some(health) = &self.health {
            health.transferred(core.local.core(), op, bytes as u64);
        }
    }

    /// An Io has come back. With `ended` the host is gone and nothing more is started.
    pub(super) fn io_done(&mut self, core: &mut Core, tag: Tag, io: &mut Io, ended: bool) {
        if self.slots.current(tag.slot, tag.generation).is_none() {
            core.counters.stale += 1;
            return;
        }
        self.returned(core, io);
        if ended {
            drop(self.slots.free(tag.slot));
            return;
        }
        if io.op == Op::CompareAndWrite {
            return self.both_done(tag.slot, io, core);
        }
        let Some(slot) = self.slots.get_mut(tag.slot) else { return };
        if let Err(error) = io.status {
            slot.data = SgList::Empty;
            return self.finish(tag.slot, failure(error).into());
        }
        if slot.command.opcode == NvmOpcode::READ.0 {
            self.count(core, Op::Read, io.data.len());
            let data = core::mem::take(&mut io.data);
            return self.answer_read(tag.slot, data, core);
        }
        self.continue_io(tag.slot, io, core);
    }

    /// One step of a command other than a read has succeeded. Where that was the last one, it does
    /// not matter whether the namespace may still be used.
    fn continue_io(&mut self, index: u16, io: &mut Io, core: &mut Core) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let command = slot.command;
        let (opcode, op) = (NvmOpcode(command.opcode), io.op);
        let is_done = match (opcode, op) {
            (NvmOpcode::DATASET_MANAGEMENT, _) | (NvmOpcode::COPY, Op::Copy) => {
                slot.progress += 1;
                false
            }
            (_, Op::Flush) => true,
            (_, Op::NvmeIo) => {
                slot.data = zones::answer(opcode, core::mem::take(&mut io.data));
                true
            }
            _ => {
                if op == Op::ZoneAppend {
                    slot.outcome = Outcome::value(io.lba);
                }
                if matches!(opcode, NvmOpcode::WRITE | NvmOpcode::ZONE_APPEND) {
                    self.count(core, Op::Write, io.data.len());
                }
                if let SgList::One(buf) = core::mem::take(&mut io.data) {
                    self.recycle(buf);
                }
                !command.io_flags().contains(IoFlags::FUA)
            }
        };
        if is_done {
            return self.succeed(index);
        }
        let Phase::Ready(Role::Io { view, .. }) = self.phase else { return };
        let namespace = match self.namespace_again(index, view, Access::Other, core) {
            Ok(namespace) => namespace,
            Err(status) => return self.finish(index, status.into()),
        };
        match (opcode, op) {
            (NvmOpcode::DATASET_MANAGEMENT, _) => self.next_range(index, namespace, core),
            (NvmOpcode::COPY, Op::Copy) => self.next_copy(index, namespace, core),
            _ => self.flush_bdev(index, namespace, core),
        }
    }
}

/// Range `n` of a Dataset Management command's data; `None` past the last.
fn nth_range(data: &SgList, n: u32) -> Option<DsmRange> {
    let [buf] = data.as_slice() else { return None };
    let at = n as usize * size_of::<DsmRange>();
    let bytes = buf.as_slice().get(at..at + size_of::<DsmRange>())?;
    DsmRange::read_from_bytes(bytes).ok()
}

/// Checks all ranges of a Dataset Management command; empty ones lie nowhere.
fn check_ranges(data: &SgList, namespace: &Namespace) -> Result<(), Status> {
    let ranges = (0..).map_while(|n| nth_range(data, n));
    for range in ranges.filter(|range| range.blocks.get() != 0) {
        namespace.check_range(range.lba.get(), range.blocks.get())?;
    }
    Ok(())
}

fn refusal(reason: RejectReason) -> Status {
    match reason {
        RejectReason::OutOfRange => Status::LBA_OUT_OF_RANGE.with_dnr(),
        RejectReason::Unaligned => Status::INVALID_FIELD.with_dnr(),
        RejectReason::Unsupported => Status::INVALID_OPCODE.with_dnr(),
        RejectReason::Removed => Status::INVALID_NAMESPACE.with_dnr(),
        RejectReason::BadBuffer | RejectReason::QueueFull => Status::INTERNAL_ERROR,
    }
}

pub(crate) fn failure(error: IoError) -> Status {
    match error {
        IoError::Nvme { sct, sc, dnr: true } => Status::new(sct, sc).with_dnr(),
        IoError::Nvme { sct, sc, dnr: false } => Status::new(sct, sc),
        IoError::Timeout => Status::INTERNAL_ERROR,
        IoError::Aborted => Status::ABORT_REQUESTED,
        IoError::Removed => Status::INVALID_NAMESPACE.with_dnr(),
        IoError::NoResources => Status::INTERRUPTED,
    }
}
