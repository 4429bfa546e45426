use alloc::boxed::Box;
use alloc::rc::Rc;

use basalt_bdev::{Io, IoChannel, Op, RejectReason};
use basalt_env::{Registers, Work};
use basalt_metrics::{Tpoint, TraceGroup};
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

/// What is traced of an Io that is under way: its operation and its blocks.
type Seen = (Op, u64, u32);

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

    #[cold]
    fn trace_submitted(&self, (op, lba, blocks): Seen) {
        let small = (op.index() as u16, self.queue.id.number());
        self.local.trace(Tpoint::NvmePcieSubmit, small, [lba, blocks.into(), 0]);
    }

    #[cold]
    fn poll_traced(&self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.queue.poll_for(&self.inbox, &mut |io| {
            let small = (io.op.index() as u16, self.queue.id.number());
            let ns = self.local.now().as_ns().saturating_sub(io.submitted.as_ns());
            let values = [io.lba, io.blocks.into(), ns];
            match io.status {
                Ok(()) => self.local.trace(Tpoint::NvmePcieComplete, small, values),
                Err(_) => self.local.trace_failed(Tpoint::NvmePcieComplete, small, values),
            }
            done(io);
        })
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
        let traced = self.local.traces(TraceGroup::NvmePcie);
        let seen: Option<Seen> = traced.then_some((io.op, io.lba, io.blocks));
        // The only place that calls it, for it to be compiled into this one.
        self.queue.submit(io, &self.inbox)?;
        if let Some(seen) = seen {
            self.trace_submitted(seen);
        }
        Ok(())
    }

    /// The first channel that asks in a round empties the completion queue for all.
    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        if self.local.traces(TraceGroup::NvmePcie) {
            return self.poll_traced(done);
        }
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
