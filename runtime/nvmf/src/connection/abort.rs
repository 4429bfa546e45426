//! Commands that their host no longer wants (base specification 2.0 §5.1).

use basalt_bdev::SgList;
use basalt_nvme_spec::{NvmOpcode, Status};
use basalt_reactor::sync::oneshot;

use super::io::is_about_reservations;
use super::queue::{Phase, Queue, Role};
use super::slot::{Slot, SlotState};
use crate::group::{Core, HostId};

/// What has come of an Abort.
pub(crate) enum Aborting {
    /// The command was aborted.
    Done,
    /// It was not, and will not be.
    No,
    /// The bdev was asked to: whether it does is told when the command ends.
    Asked(oneshot::Receiver<bool>),
}

/// How far the abort of a command has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Abortion {
    /// It is on its way to the host, aborted.
    Done,
    /// It cannot be aborted.
    No,
    /// The bdev ends it early.
    Asked,
}

/// Who waits for the end of a command.
pub(super) struct Watcher {
    index: u16,
    generation: u32,
    is_aborted: oneshot::Sender<bool>,
}

/// Whose commands are aborted, and on which namespace, when reservations are preempted.
pub(crate) struct Preempted<'a> {
    pub(crate) subsystem: u32,
    pub(crate) nsid: u32,
    pub(crate) hosts: &'a [HostId],
}

/// Whether a command is on namespace `nsid`, and the bdev's business.
fn is_on(slot: &Slot, nsid: u32) -> bool {
    let is_io = !is_about_reservations(NvmOpcode(slot.command.opcode));
    is_io && slot.command.nsid.get() == nsid
}

impl Queue {
    /// Aborts a command of an I/O queue, wherever it waits; one that the host still owes data to is
    /// left alone, and so is one whose end is on its way to the host.
    pub(super) fn abort_command(&mut self, cid: u16, core: &mut Core) -> Aborting {
        if !matches!(self.phase, Phase::Ready(Role::Io { .. })) {
            return Aborting::No;
        }
        let is_it = |index: &u16| self.slots.get(*index).is_some_and(|slot| slot.cid() == cid);
        let Some(index) = (0..self.slots.len() as u16).find(is_it) else { return Aborting::No };
        match self.abort_slot(index, core) {
            Abortion::Done => Aborting::Done,
            Abortion::No => Aborting::No,
            Abortion::Asked => {
                let generation = self.slots.get(index).map_or(0, |slot| slot.generation);
                let (is_aborted, end) = oneshot::channel();
                self.watchers.push(Watcher { index, generation, is_aborted });
                Aborting::Asked(end)
            }
        }
    }

    fn abort_slot(&mut self, index: u16, core: &mut Core) -> Abortion {
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return Abortion::No };
        match (slot.state, slot.refused.take()) {
            (SlotState::Buffer, _) => self.stop_waiting(index),
            (SlotState::Running, Some(io)) => {
                if let SgList::One(buf) = io.data {
                    self.recycle(buf);
                }
            }
            (SlotState::Running, None) => {
                let is_asked = core.channels.abort(slot.channel, tag);
                return if is_asked { Abortion::Asked } else { Abortion::No };
            }
            _ => return Abortion::No,
        }
        self.finish(index, Status::ABORT_REQUESTED.into());
        Abortion::Done
    }

    /// Aborts what `hosts` have under way on a namespace, as far as it can be.
    pub(super) fn abort_all(&mut self, target: &Preempted<'_>, core: &mut Core) {
        if !self.is_of(target, core) {
            return;
        }
        for index in 0..self.slots.len() as u16 {
            if self.slots.get(index).is_some_and(|slot| is_on(slot, target.nsid)) {
                self.abort_slot(index, core);
            }
        }
    }

    /// Whether a command is under way that [`Self::abort_all`] was meant for: one not younger than
    /// `mark`.
    pub(super) fn is_busy(&self, target: &Preempted<'_>, mark: u32, core: &Core) -> bool {
        let is_old = |slot: &Slot| mark.wrapping_sub(slot.generation) <= u32::MAX / 2;
        let is_busy = |slot: &Slot| {
            slot.state == SlotState::Running && is_on(slot, target.nsid) && is_old(slot)
        };
        self.is_of(target, core)
            && (0..self.slots.len() as u16).any(|index| self.slots.get(index).is_some_and(is_busy))
    }

    fn is_of(&self, target: &Preempted<'_>, core: &Core) -> bool {
        let visitor = self.path().and_then(|path| core.views.visitor(path, target.subsystem));
        visitor.is_some_and(|visitor| target.hosts.contains(&visitor.hostid))
    }

    /// Tells those who wait for the end of a command how it has ended.
    #[cold]
    pub(super) fn tell_watchers(&mut self, index: u16, status: Status) {
        let Some(slot) = self.slots.get(index) else { return };
        let generation = slot.generation;
        let is_it =
            |watcher: &mut Watcher| watcher.index == index && watcher.generation == generation;
        for watcher in self.watchers.extract_if(.., is_it) {
            watcher.is_aborted.send(status.is(Status::ABORT_REQUESTED));
        }
    }
}
