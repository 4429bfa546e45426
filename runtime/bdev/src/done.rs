use alloc::vec::Vec;

use basalt_env::Work;

use crate::{Io, RejectReason};

/// Ios that a channel without hardware has carried out, until the next poll. Bounded, as a
/// device's queue would be, so that nothing grows on the I/O path.
pub(crate) struct DoneQueue {
    ios: Vec<Io>,
}

impl DoneQueue {
    /// Ios one channel holds at most between two polls.
    pub(crate) const DEPTH: usize = 512;

    pub(crate) fn new() -> Self {
        Self { ios: Vec::with_capacity(Self::DEPTH) }
    }

    /// Takes `io` after `carry_out` was done to it, if there is room.
    #[inline]
    pub(crate) fn push(
        &mut self,
        io: &mut Io,
        carry_out: impl FnOnce(&mut Io),
    ) -> Result<(), RejectReason> {
        if self.ios.len() == self.ios.capacity() {
            return Err(RejectReason::QueueFull);
        }
        carry_out(io);
        io.status = Ok(());
        self.ios.push(io.take());
        Ok(())
    }

    /// Shows everything to `done`, in the order it came.
    #[inline]
    pub(crate) fn drain(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let work = Work(self.ios.len() as u32);
        self.ios.iter_mut().for_each(done);
        self.ios.clear();
        work
    }
}
