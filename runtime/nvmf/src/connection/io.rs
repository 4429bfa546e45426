use basalt_bdev::{Io, IoError, Op, RejectReason, SgList};
use basalt_nvme_spec::{Command, DsmAttributes, DsmRange, IoFlags, NvmOpcode, Status};
use zerocopy::FromBytes;

use super::queue::{Phase, Queue, Role};
use super::receive::Plan;
use super::slot::SlotState;
use crate::command::{self, Outcome, Transfer};
use crate::group::{Core, Namespace, Tag};

/// Zeroes written at once where the bdev has no Write Zeroes, bytes.
const ZERO_CHUNK: usize = 64 << 10;

/// Checks an I/O command and says what it needs (NVM command set 1.0, §3.2).
pub(super) fn plan(
    command: &Command,
    capsule_len: u32,
    view: usize,
    core: &Core,
) -> Result<Plan, Status> {
    let transfer = || command::transfer(command, capsule_len, core.config.io_len_max);
    let namespace = || core.views.namespace(view, command.nsid.get());
    let (namespace, transfer) = match NvmOpcode(command.opcode) {
        NvmOpcode::READ | NvmOpcode::WRITE => {
            let namespace = namespace()?;
            namespace.check_range(command.lba(), command.blocks())?;
            let len = u64::from(command.blocks()) << namespace.block_shift;
            if len > u64::from(core.config.io_len_max) {
                return Err(Status::INVALID_FIELD.with_dnr());
            }
            (namespace, transfer()?.exactly(len as u32)?)
        }
        NvmOpcode::WRITE_ZEROES => {
            let namespace = namespace()?;
            namespace.check_range(command.lba(), command.blocks())?;
            (namespace, Transfer::None)
        }
        NvmOpcode::DATASET_MANAGEMENT => {
            let len = command.dsm_ranges() * size_of::<DsmRange>() as u32;
            (namespace()?, transfer()?.exactly(len)?)
        }
        NvmOpcode::FLUSH => (namespace()?, Transfer::None),
        _ => return Err(Status::INVALID_OPCODE.with_dnr()),
    };
    Ok(Plan { transfer, channel: namespace.channel()? })
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
        let Some(slot) = self.slots.get_mut(index) else { return };
        let command = slot.command;
        // The namespace may have gone while data arrived.
        let namespace = match core.views.namespace(view, command.nsid.get()) {
            Ok(namespace) => namespace,
            Err(status) => return self.finish(index, status.into()),
        };
        let (lba, blocks) = (command.lba(), command.blocks());
        let tag = self.tag(index).to_u64();
        let io = match NvmOpcode(command.opcode) {
            NvmOpcode::READ => Io::with_data(Op::Read, lba, blocks, self.take_data(index), tag),
            NvmOpcode::WRITE => Io::with_data(Op::Write, lba, blocks, self.take_data(index), tag),
            NvmOpcode::WRITE_ZEROES if namespace.supports(Op::WriteZeroes) => {
                Io::new(Op::WriteZeroes, lba, blocks, tag)
            }
            NvmOpcode::WRITE_ZEROES => return self.write_zero_chunk(index, None, namespace, core),
            NvmOpcode::DATASET_MANAGEMENT => return self.next_range(index, namespace, core),
            _ => return self.flush_bdev(index, namespace, core),
        };
        self.submit(index, io, core);
    }

    fn take_data(&mut self, index: u16) -> SgList {
        self.slots.get_mut(index).map(|slot| core::mem::take(&mut slot.data)).unwrap_or_default()
    }

    /// Makes completed writes durable; a bdev without Flush has no volatile cache.
    fn flush_bdev(&mut self, index: u16, namespace: Namespace, core: &mut Core) {
        if !namespace.supports(Op::Flush) {
            return self.finish(index, Outcome::OK);
        }
        let io = Io::new(Op::Flush, 0, 0, self.tag(index).to_u64());
        self.submit(index, io, core);
    }

    /// Writes the next zeroes of a Write Zeroes command the bdev cannot do itself. `buffer` is the
    /// one used before, which still holds zeroes.
    fn write_zero_chunk(
        &mut self,
        index: u16,
        buffer: Option<SgList>,
        namespace: Namespace,
        core: &mut Core,
    ) {
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let (lba, blocks) = (slot.command.lba(), slot.command.blocks());
        let chunk = (blocks - slot.progress).min((ZERO_CHUNK >> namespace.block_shift) as u32);
        let chunk = chunk.max(1);
        let len = (chunk as usize) << namespace.block_shift;
        let mut data = match buffer {
            Some(data) => data,
            None => {
                let Ok(mut buf) = core.pool.alloc(len) else {
                    return self.finish(index, Status::NAMESPACE_NOT_READY.into());
                };
                buf.as_mut_slice().fill(0);
                SgList::One(buf)
            }
        };
        if let [buf] = data.as_mut_slice() {
            buf.set_len(len);
        }
        let io = Io::with_data(Op::Write, lba + u64::from(slot.progress), chunk, data, tag);
        self.submit(index, io, core);
    }

    /// Deallocates the next range of a Dataset Management command (NVM §3.2.3).
    fn next_range(&mut self, index: u16, namespace: Namespace, core: &mut Core) {
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let deallocate = slot.command.dsm_attributes().contains(DsmAttributes::DEALLOCATE);
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
            if let Err(status) = namespace.check_range(lba, blocks) {
                return self.finish(index, status.into());
            }
            return self.submit(index, Io::new(Op::Unmap, lba, blocks, tag), core);
        }
        self.finish(index, Outcome::OK);
    }

    fn submit(&mut self, index: u16, io: Io, core: &mut Core) {
        let tag = self.tag(index);
        let Some(slot) = self.slots.get_mut(index) else { return };
        let channel = slot.channel;
        match core.channels.submit(channel, io) {
            Ok(()) => self.outstanding += 1,
            Err(rejected) if rejected.reason == RejectReason::QueueFull => {
                slot.refused = Some(rejected.io);
                core.counters.queue_full += 1;
                core.channels.wait(channel, tag);
            }
            Err(rejected) => {
                let (op, reason) = (rejected.io.op, rejected.reason);
                log::warn!(target: "nvmf", "bdev refused {op:?}: {reason:?}");
                self.finish(index, refusal(reason).into());
            }
        }
    }

    /// Submits again what the channel refused. `false` if it refuses once more.
    pub(super) fn resubmit(&mut self, core: &mut Core, tag: Tag) -> bool {
        let Some(slot) = self.slots.current(tag.slot, tag.generation) else { return true };
        let Some(io) = slot.refused.take() else { return true };
        match core.channels.submit(slot.channel, io) {
            Ok(()) => self.outstanding += 1,
            Err(rejected) if rejected.reason == RejectReason::QueueFull => {
                slot.refused = Some(rejected.io);
                return false;
            }
            Err(rejected) => self.finish(tag.slot, refusal(rejected.reason).into()),
        }
        true
    }

    /// An Io has come back. With `ended` the host is gone and nothing more is started.
    pub(super) fn io_done(&mut self, core: &mut Core, tag: Tag, io: Io, ended: bool) {
        let Some(slot) = self.slots.current(tag.slot, tag.generation) else {
            core.counters.stale += 1;
            return;
        };
        self.outstanding = self.outstanding.saturating_sub(1);
        core.counters.ios += 1;
        if ended {
            drop(self.slots.free(tag.slot));
            return;
        }
        if let Err(error) = io.status {
            slot.data = SgList::Empty;
            return self.finish(tag.slot, failure(error).into());
        }
        if slot.command.opcode == NvmOpcode::READ.0 {
            slot.data = io.data;
            return self.finish(tag.slot, Outcome::OK);
        }
        self.continue_io(tag.slot, io, core);
    }

    /// One step of a command other than a read has succeeded.
    fn continue_io(&mut self, index: u16, io: Io, core: &mut Core) {
        let Phase::Ready(Role::Io { view, .. }) = self.phase else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let command = slot.command;
        let namespace = match core.views.namespace(view, command.nsid.get()) {
            Ok(namespace) => namespace,
            Err(status) => return self.finish(index, status.into()),
        };
        match (NvmOpcode(command.opcode), io.op) {
            (NvmOpcode::DATASET_MANAGEMENT, _) => {
                slot.progress += 1;
                return self.next_range(index, namespace, core);
            }
            (NvmOpcode::WRITE_ZEROES, Op::Write) => {
                slot.progress += io.blocks;
                if slot.progress < command.blocks() {
                    return self.write_zero_chunk(index, Some(io.data), namespace, core);
                }
            }
            (_, Op::Flush) => return self.finish(index, Outcome::OK),
            _ => {
                if let SgList::One(buf) = io.data {
                    self.recycle(buf);
                }
            }
        }
        if command.io_flags().contains(IoFlags::FUA) {
            return self.flush_bdev(index, namespace, core);
        }
        self.finish(index, Outcome::OK);
    }
}

/// Range `n` of a Dataset Management command's data; `None` past the last.
fn nth_range(data: &SgList, n: u32) -> Option<DsmRange> {
    let [buf] = data.as_slice() else { return None };
    let at = n as usize * size_of::<DsmRange>();
    let bytes = buf.as_slice().get(at..at + size_of::<DsmRange>())?;
    DsmRange::read_from_bytes(bytes).ok()
}

fn refusal(reason: RejectReason) -> Status {
    match reason {
        RejectReason::OutOfRange => Status::LBA_OUT_OF_RANGE.with_dnr(),
        RejectReason::Unsupported => Status::INVALID_OPCODE.with_dnr(),
        RejectReason::Removed => Status::INVALID_NAMESPACE.with_dnr(),
        RejectReason::BadBuffer | RejectReason::QueueFull => Status::INTERNAL_ERROR,
    }
}

fn failure(error: IoError) -> Status {
    match error {
        IoError::Nvme { sct, sc, dnr: true } => Status::new(sct, sc).with_dnr(),
        IoError::Nvme { sct, sc, dnr: false } => Status::new(sct, sc),
        IoError::Timeout => Status::INTERNAL_ERROR,
        IoError::Aborted => Status::ABORT_REQUESTED,
        IoError::Removed => Status::INVALID_NAMESPACE.with_dnr(),
        IoError::NoResources => Status::INTERRUPTED,
    }
}
