//! Commands that have got an error that was injected.

use basalt_env::Instant;
use basalt_nvme_spec::{Completion, Fate, Hold, InjectedError, Status};

use super::{Ended, HostQueue, Load};

/// One that is held back is in a slot, but not in line.
impl HostQueue {
    /// The command that was just taken has got an error: it is said to end with that if it
    /// succeeds, or is held back.
    pub(crate) fn forge_newest(&mut self, error: &InjectedError) {
        let Some(tag) = self.inner.sender.last_in_line() else { return };
        let Ok(slot) = self.inner.slots.get_mut(tag) else { return };
        slot.told = error.status;
        let Fate::Held(after) = error.fate else { return };
        // The controller is not late with it.
        slot.since = Instant::from_ns(u64::MAX);
        // What it does not get brings nothing: if that counts as done, it brings zeroes.
        slot.received = slot.data.in_len();
        if slot.received > 0 {
            slot.load.buffers_mut().iter_mut().for_each(|buf| buf.as_mut_slice().fill(0));
        }
        self.inner.sender.retract();
        self.inner.held.push((tag, Hold::new(error.status, after)));
    }

    /// Whether any are held back.
    pub(crate) const fn is_holding(&self) -> bool {
        !self.inner.held.is_empty()
    }

    /// Those that were held back for long enough end when it next receives.
    pub(crate) fn end_held(&mut self, now_ns: u64) {
        let inner = &mut self.inner;
        inner.held.retain_mut(|(tag, hold)| {
            if !hold.is_over(now_ns) {
                // It may have been aborted meanwhile.
                return inner.slots.get(*tag).is_ok();
            }
            if let Ok(slot) = inner.slots.remove(*tag) {
                inner.ended.push(Ended::new(slot, Completion::new(0, Status::SUCCESS)));
            }
            false
        });
    }

    /// Those that are held back are not to be sent by another connection either.
    pub(super) fn give_up_held(&mut self) {
        for (tag, _) in self.inner.held.drain(..) {
            if let Ok(slot) = self.inner.slots.get_mut(tag)
                && let Load::Io(pending) = &mut slot.load
            {
                pending.give_up();
            }
        }
    }
}
