//! Commands that their host no longer wants (base specification 2.0 §5.1).

use basalt_bdev::SgList;
use basalt_nvme_spec::Status;
use basalt_reactor::sync::oneshot;

use super::queue::{Phase, Queue, Role};
use super::slot::SlotState;
use crate::group::Core;

/// What has come of an Abort.
pub(crate) enum Aborting {
    /// The command was aborted.
    Done,
    /// It was not, and will not be.
    No,
    /// The bdev was asked to: whether it does is told when the command ends.
    Asked(oneshot::Receiver<bool>),
}

/// Who waits for the end of a command.
pub(super) struct Watcher {
    index: u16,
    generation: u32,
    is_aborted: oneshot::Sender<bool>,
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
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return Aborting::No };
        match (slot.state, slot.refused.take()) {
            (SlotState::Buffer, _) => self.stop_waiting(index),
            (SlotState::Running, Some(io)) => {
                if let SgList::One(buf) = io.data {
                    self.recycle(buf);
                }
            }
            (SlotState::Running, None) => {
                let (channel, generation) = (slot.channel, slot.generation);
                if !core.channels.abort(channel, tag) {
                    return Aborting::No;
                }
                let (is_aborted, end) = oneshot::channel();
                self.watchers.push(Watcher { index, generation, is_aborted });
                return Aborting::Asked(end);
            }
            _ => return Aborting::No,
        }
        self.finish(index, Status::ABORT_REQUESTED.into());
        Aborting::Done
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
