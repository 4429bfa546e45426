//! Compare and write as a fused operation: two commands for one Io.

use alloc::boxed::Box;

use basalt_bdev::{Io, IoError, IoStatus, Op, RejectReason, SgList};
use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory, Registers};
use basalt_nvme::{Ended, IoQueue};
use basalt_nvme_spec::{Fate, InjectedError, Status};
use basalt_ring::{Slots, Tag};

use super::{CoreQueue, Pending, refusal};
use crate::inbox::{Inbox, InboxId};
use crate::pending::outcome;
use crate::split;

/// Fused operations of one queue at a time.
const PAIRS_MAX: usize = 32;

/// The Ios of which two commands are under way.
pub(super) type Pairs = Slots<Pair, 32>;

pub(super) struct Pair {
    io: Io,
    inbox: InboxId,
    /// Commands that have not ended.
    left: u8,
    status: IoStatus,
}

impl<R: Registers> CoreQueue<R> {
    /// Sends both commands, each with a copy of its half of the data.
    #[cold]
    pub(super) fn submit_fused(
        &self,
        queue: &mut IoQueue<R, Pending>,
        io: &mut Io,
        inbox: &Inbox,
    ) -> Result<(), RejectReason> {
        let error = self.error_of(io);
        if let Some(error @ InjectedError { fate: Fate::Held(_), .. }) = &error {
            // One without the other is no fused operation: it is held back as a whole.
            self.hold_back(Pending::once(io.take(), inbox.id), error);
            inbox.expect();
            return Ok(());
        }
        let mut pairs = self.pairs.borrow_mut();
        if pairs.is_none() {
            *pairs = Slots::with_capacity(PAIRS_MAX).ok().map(Box::new);
        }
        let Some(pairs) = pairs.as_mut().filter(|pairs| !pairs.is_full()) else {
            return Err(RejectReason::QueueFull);
        };
        let len = io.blocks as usize * inbox.limits.block;
        let (Ok(old), Ok(new)) = (half(io, 0, len, &self.pool), half(io, len, len, &self.pool))
        else {
            return Err(RejectReason::QueueFull);
        };
        let (lba, blocks) = (io.lba, io.blocks);
        let status = error.map_or(Ok(()), |error| outcome(error.status));
        let pair = Pair { io: io.take(), inbox: inbox.id, left: 2, status };
        let Ok(tag) = pairs.insert(pair) else { return Err(RejectReason::QueueFull) };
        let command = |op, buf| {
            let data = SgList::One(buf);
            Pending::half(Io::with_data(op, lba, blocks, data, tag.as_u32().into()))
        };
        let (compare, write) = (command(Op::Compare, old), command(Op::Write, new));
        let sent = queue.compare_and_write(&inbox.namespace(), lba, blocks, compare, write);
        if let Err(refused) = sent {
            if let Ok(pair) = pairs.remove(tag) {
                *io = pair.io;
            }
            return Err(refusal(refused.reason));
        }
        error.inspect(|error| self.count(error));
        inbox.expect();
        Ok(())
    }

    /// One of the two has completed.
    #[cold]
    #[inline(never)]
    pub(super) fn half_completed(&self, half: &mut Pending, ended: &Ended<'_, R>) {
        let _ = half.piece_ended(ended, 1);
        self.half_ended(&half.io, half.io.status);
    }

    /// One of the two has ended.
    pub(super) fn half_ended(&self, half: &Io, status: IoStatus) {
        let mut pairs = self.pairs.borrow_mut();
        let Some(pairs) = pairs.as_mut() else { return };
        let tag = Tag::from_u32(half.tag as u32);
        let Ok(pair) = pairs.get_mut(tag) else { return };
        // That one has failed says nothing if it was because of the other.
        if pair.status.is_ok() || is_consequence(pair.status) && status.is_err() {
            pair.status = status;
        }
        pair.left -= 1;
        if pair.left > 0 {
            return;
        }
        if let Ok(mut pair) = pairs.remove(tag) {
            pair.io.status = pair.status;
            self.inboxes.put(pair.inbox, pair.io);
        }
    }

    /// Whether a command is half of an Io with that tag, which came to that inbox.
    pub(super) fn is_half_of(&self, pending: &Pending, inbox: InboxId, tag: u64) -> bool {
        let pairs = self.pairs.borrow();
        let Some(pairs) = pairs.as_ref().filter(|_| pending.is_half()) else { return false };
        let pair = pairs.get(Tag::from_u32(pending.io.tag as u32));
        pair.is_ok_and(|pair| pair.inbox == inbox && pair.io.tag == tag)
    }
}

/// Whether a command has failed only because the other did.
fn is_consequence(status: IoStatus) -> bool {
    let failed = Status::FAILED_FUSED;
    matches!(status, Err(IoError::Nvme { sct, sc, .. }) if (sct, sc) == (failed.sct(), failed.sc()))
}

/// A copy of so many bytes of an Io's data.
fn half(io: &Io, skip: usize, len: usize, pool: &DmaPool) -> Result<DmaBuf, OutOfDmaMemory> {
    let mut copy = pool.alloc(len)?;
    split::gather(io.data.as_slice(), skip, &mut copy);
    Ok(copy)
}
