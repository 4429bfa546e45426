use alloc::boxed::Box;
use alloc::sync::Arc;

use basalt_env::Work;
use basalt_reactor::Local;

use crate::gate::OpenChannels;
use crate::node::Node;
use crate::{Io, IoChannel, RejectReason};

/// A layer's channel to a bdev that is limited. A layer does not look whether its base is, so that
/// it costs those nothing that are not: its channel is put behind this one once it is found out.
pub(crate) struct Limited {
    inner: Box<dyn IoChannel>,
    node: Arc<Node>,
    local: Local,
    block_shift: u32,
}

impl Limited {
    /// Puts `channel` behind one.
    pub(crate) fn wrap(channel: &mut Box<dyn IoChannel>, node: &Arc<Node>, local: &Local) {
        let block_shift = node.bdev.info().block_size.trailing_zeros();
        let inner = core::mem::replace(channel, Box::new(Nothing));
        let (node, local) = (Arc::clone(node), local.clone());
        *channel = Box::new(Self { inner, node, local, block_shift });
    }
}

impl IoChannel for Limited {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let qos = &self.node.qos;
        if let Err(again) = qos.take(io, self.block_shift, self.local.now()) {
            OpenChannels::of(&self.local).try_again(again);
            return Err(RejectReason::QueueFull);
        }
        self.inner.submit(io).inspect_err(|_| qos.give_back(io, self.block_shift))
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.inner.poll(done)
    }

    fn abort(&mut self, tag: u64) -> bool {
        self.inner.abort(tag)
    }
}

/// What is there while one channel takes the place of another.
struct Nothing;

impl IoChannel for Nothing {
    fn submit(&mut self, _: &mut Io) -> Result<(), RejectReason> {
        Err(RejectReason::Removed)
    }

    fn poll(&mut self, _: &mut dyn FnMut(&mut Io)) -> Work {
        Work::IDLE
    }
}
