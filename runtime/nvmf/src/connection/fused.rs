//! Compare and Write as one (base specification 2.0 §3.4.1.2, NVM command set 1.0 §2.1.3).
//!
//! ```text
//!   first:   capsule, data -> Paired (its data is here) -+
//!                                                        +-> one Io of the bdev -> both end
//!   second:  capsule, data -> Paired --------------------+
//! ```
//!
//! The halves come one after the other; whatever comes between them ends the first. If one of them
//! fails, so does the other.

use alloc::vec;

use basalt_bdev::{Io, Op, SgList};
use basalt_nvme_spec::{Command, IoFlags, NvmOpcode, Status};

use super::io::failure;
use super::queue::{Phase, Queue, Role};
use super::slot::SlotState;
use crate::FusedOperations;
use crate::command::Outcome;
use crate::group::{Access, Core};

/// Whether a command may be fused as it says: the first is a Compare, the second a Write.
pub(super) fn check(command: &Command, fused: FusedOperations) -> Result<(), Status> {
    match (command.flags & Command::FLAG_FUSE_MASK, NvmOpcode(command.opcode)) {
        (0, _) => Ok(()),
        _ if fused == FusedOperations::Masked => Err(Status::INVALID_FIELD.with_dnr()),
        (Command::FUSE_FIRST, NvmOpcode::COMPARE) | (Command::FUSE_SECOND, NvmOpcode::WRITE) => {
            Ok(())
        }
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

impl Queue {
    /// A command has begun: it is the other half of the last one, or that has none.
    #[inline]
    pub(super) fn pair(&mut self, index: u16) {
        let Some(slot) = self.slots.get(index) else { return };
        let fuse = slot.command.flags & Command::FLAG_FUSE_MASK;
        if fuse != 0 || self.first_half.is_some() {
            self.pair_half(index, fuse, slot.generation);
        }
    }

    #[cold]
    fn pair_half(&mut self, index: u16, fuse: u8, generation: u32) {
        let first = self.first_half.take();
        match (fuse, first) {
            (Command::FUSE_FIRST, _) => self.first_half = Some((index, generation)),
            (Command::FUSE_SECOND, Some(first)) => return self.join(first, index),
            (Command::FUSE_SECOND, None) => self.fail_half(index, Status::MISSING_FUSED),
            _ => {}
        }
        if let Some((first, generation)) = first
            && self.slots.current(first, generation).is_some()
        {
            self.fail_half(first, Status::MISSING_FUSED);
        }
    }

    fn join(&mut self, (first, generation): (u16, u32), second: u16) {
        let failed = match self.slots.current(first, generation) {
            // What has failed has told its host, or is about to.
            Some(slot) if slot.outcome.status.is_success() => {
                slot.partner = Some(second);
                false
            }
            _ => true,
        };
        if failed {
            return self.fail_half(second, Status::FAILED_FUSED);
        }
        if let Some(slot) = self.slots.get_mut(second) {
            slot.partner = Some(first);
            if !slot.outcome.status.is_success() {
                self.fail_partner(second);
            }
        }
    }

    /// Ends a half that does not run, once all of its data that is on its way has come.
    fn fail_half(&mut self, index: u16, status: Status) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match slot.state {
            SlotState::Capsule | SlotState::HostData if slot.outcome.status.is_success() => {
                slot.outcome = status.into();
            }
            SlotState::Buffer => {
                self.stop_waiting(index);
                self.finish(index, status.into());
            }
            SlotState::Paired => self.finish(index, status.into()),
            _ => {}
        }
    }

    /// A half has failed: the other does as well.
    pub(super) fn fail_partner(&mut self, index: u16) {
        let Some(partner) = self.part(index) else { return };
        self.fail_half(partner, Status::FAILED_FUSED);
    }

    /// Parts two halves; gives the other one.
    fn part(&mut self, index: u16) -> Option<u16> {
        let partner = self.slots.get_mut(index)?.partner.take()?;
        if let Some(slot) = self.slots.get_mut(partner) {
            slot.partner = None;
        }
        Some(partner)
    }

    /// A half has all of its data. If the other does too, both run.
    pub(super) fn half_ready(&mut self, index: u16, view: usize, core: &mut Core) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.state = SlotState::Paired;
        let is_first = NvmOpcode(slot.command.opcode) == NvmOpcode::COMPARE;
        let Some(partner) = slot.partner else { return };
        let is_ready = |slot: &super::slot::Slot| slot.state == SlotState::Paired;
        if self.slots.get(partner).is_some_and(is_ready) {
            let (first, second) = if is_first { (index, partner) } else { (partner, index) };
            self.run_both(first, second, view, core);
        }
    }

    /// The namespace and the blocks that a command names.
    fn range(&self, index: u16) -> Option<(u32, u64, u32)> {
        let command = self.slots.get(index)?.command;
        Some((command.nsid.get(), command.lba(), command.blocks()))
    }

    fn run_both(&mut self, first: u16, second: u16, view: usize, core: &mut Core) {
        let [one, other] = [first, second].map(|index| self.range(index));
        let Some((_, lba, blocks)) = one.filter(|_| one == other) else {
            self.part(first);
            self.finish(first, Status::INVALID_FIELD.with_dnr().into());
            return self.finish(second, Status::INVALID_FIELD.with_dnr().into());
        };
        if let Err(status) = self.namespace_again(first, view, Access::Other, core) {
            return self.finish(first, status.into());
        }
        if let Err(status) = self.namespace_again(second, view, Access::Write, core) {
            return self.finish(second, status.into());
        }
        let mut bufs = vec![];
        for index in [first, second] {
            if let SgList::One(buf) = self.take_data(index) {
                bufs.push(buf);
            }
        }
        if let Some(slot) = self.slots.get_mut(first) {
            slot.state = SlotState::Running;
        }
        let tag = self.tag(first).to_u64();
        let io = Io::with_data(Op::CompareAndWrite, lba, blocks, SgList::Many(bufs), tag);
        self.submit(first, io, core);
    }

    /// Both have run.
    pub(super) fn both_done(&mut self, first: u16, io: &mut Io, core: &mut Core) {
        if let SgList::Many(bufs) = core::mem::take(&mut io.data) {
            bufs.into_iter().for_each(|buf| self.recycle(buf));
        }
        let Some(second) = self.part(first) else { return };
        if let Err(error) = io.status {
            self.finish(first, failure(error).into());
            return self.finish(second, Status::FAILED_FUSED.into());
        }
        self.finish(first, Outcome::OK);
        let Some(slot) = self.slots.get_mut(second) else { return };
        slot.state = SlotState::Running;
        let is_forced = slot.command.io_flags().contains(IoFlags::FUA);
        let bytes = slot.expected();
        self.count(core, Op::Write, bytes as usize);
        let Phase::Ready(Role::Io { view, .. }) = self.phase else { return };
        match self.namespace_again(second, view, Access::Other, core) {
            Ok(namespace) if is_forced => self.flush_bdev(second, namespace, core),
            _ => self.finish(second, Outcome::OK),
        }
    }
}
