use alloc::sync::Arc;
use core::fmt;

use basalt_reactor::Local;

use crate::node::Node;
use crate::{Access, BaseChannel, Bdev, BdevInfo, Channel, IoStat, Op, OpenError};

/// An open bdev, with what its owner may do to it. Any core may hold it and make channels of it;
/// clones share one claim, which ends with the last of them.
#[derive(Clone)]
pub struct Descriptor {
    open: Arc<Open>,
}

struct Open {
    node: Arc<Node>,
    access: Access,
}

impl Descriptor {
    pub(crate) fn open(node: &Arc<Node>, access: Access) -> Result<Self, OpenError> {
        node.claims.open(access)?;
        Ok(Self { open: Arc::new(Open { node: Arc::clone(node), access }) })
    }

    /// This core's channel.
    pub fn channel(&self, local: &Local) -> Result<Channel, OpenError> {
        Ok(Channel::new(self.base_channel(local)?))
    }

    /// This core's channel, for a layer over the bdev.
    pub fn base_channel(&self, local: &Local) -> Result<BaseChannel, OpenError> {
        if self.is_removed() {
            return Err(OpenError::Removed);
        }
        let inner = self.bdev().channel(local)?;
        Ok(BaseChannel::new(inner, self.clone(), local.clone()))
    }

    /// The bdev's properties.
    pub fn info(&self) -> &BdevInfo {
        self.bdev().info()
    }

    /// The bdev.
    pub fn bdev(&self) -> &Arc<dyn Bdev> {
        &self.open.node.bdev
    }

    /// What the owner may do.
    pub fn access(&self) -> Access {
        self.open.access
    }

    /// Whether `op` can be done, by the bdev itself or by other operations of it, and the access
    /// allows it.
    pub fn allows(&self, op: Op) -> bool {
        self.allowed() & 1 << op.index() != 0
    }

    /// What the bdev has done, on all cores together.
    pub fn iostat(&self) -> IoStat {
        self.open.node.stats.total()
    }

    /// Whether the bdev has gone away; every submission is then refused.
    #[inline]
    pub fn is_removed(&self) -> bool {
        self.open.node.claims.is_removed()
    }

    pub(crate) fn node(&self) -> &Node {
        &self.open.node
    }

    /// The operations as a bit set over [`Op::index`].
    pub(crate) fn allowed(&self) -> u8 {
        let node = &self.open.node;
        (node.native() | node.emulated()) & self.mask()
    }

    /// Those of them that the bdev does itself.
    pub(crate) fn native(&self) -> u8 {
        self.open.node.native() & self.mask()
    }

    fn mask(&self) -> u8 {
        let readable = [Op::Read, Op::Flush, Op::Compare];
        let readable = readable.iter().fold(0, |set, op| set | 1 << op.index());
        if self.open.access.may_write() { u8::MAX } else { readable }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.node.claims.close(self.access);
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({}, {:?})", self.info().name, self.open.access)
    }
}
