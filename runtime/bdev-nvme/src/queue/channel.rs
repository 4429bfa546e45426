use alloc::boxed::Box;
use alloc::rc::Rc;

use basalt_bdev::{Io, IoChannel, Op, RejectReason};
use basalt_env::{Registers, Work};
use basalt_nvme::Namespace;
use basalt_reactor::Local;

use super::CoreQueue;
use crate::errand;
use crate::inbox::Inbox;
use crate::split::Limits;

/// A channel: a place to come back to, in front of the core's queue.
pub(crate) struct NvmeChannel<R: Registers> {
    pub(super) local: Local,
    pub(super) queue: Rc<CoreQueue<R>>,
    pub(super) inbox: Rc<Inbox>,
}

impl<R: Registers> NvmeChannel<R> {
    pub(crate) fn boxed(
        local: &Local,
        queue: Rc<CoreQueue<R>>,
        namespace: Namespace,
        limits: Limits,
    ) -> Option<Box<dyn IoChannel>> {
        let inbox = queue.inboxes.open(namespace, limits, queue.depth)?;
        Some(Box::new(Self { local: local.clone(), queue, inbox }))
    }

    /// Submits what is for the controller as a whole.
    #[cold]
    fn send_errand(&self, io: &mut Io) -> Result<(), RejectReason> {
        if self.queue.is_closed() {
            return Err(RejectReason::Removed);
        }
        if self.inbox.is_full() {
            return Err(RejectReason::QueueFull);
        }
        let send = if io.op == Op::Reset { errand::reset } else { errand::admin };
        send(&self.local, self.queue.id, &self.inbox, io.take());
        Ok(())
    }
}

impl<R: Registers> IoChannel for NvmeChannel<R> {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if matches!(io.op, Op::Reset | Op::NvmeAdmin) {
            return self.send_errand(io);
        }
        self.queue.submit(io, &self.inbox)
    }

    /// The first channel that asks in a round empties the completion queue for all.
    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.queue.poll_for(&self.inbox, done)
    }

    fn abort(&mut self, tag: u64) -> bool {
        self.abort_tag(tag)
    }
}

impl<R: Registers> Drop for NvmeChannel<R> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
