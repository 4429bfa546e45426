use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use basalt_reactor::Local;

use crate::channel::Limits;
use crate::node::Node;
use crate::{Access, BaseChannel, Bdev, BdevInfo, Channel, IoStat, Op, OpSet, OpenError};

/// An open bdev, with what its owner may do to it. Any core may hold it and make channels of it;
/// clones share one claim, which ends with the last of them.
#[derive(Clone)]
pub struct Descriptor {
    open: Arc<Open>,
}

struct Open {
    node: Arc<Node>,
    access: Access,
    /// How long an Io may take, ns; 0 for no limit.
    timeout: AtomicU64,
}

impl Descriptor {
    pub(crate) fn open(node: &Arc<Node>, access: Access) -> Result<Self, OpenError> {
        node.claims.open(access)?;
        let timeout = AtomicU64::new(0);
        Ok(Self { open: Arc::new(Open { node: Arc::clone(node), access, timeout }) })
    }

    /// This core's channel.
    pub fn channel(&self, local: &Local) -> Result<Channel, OpenError> {
        Ok(Channel::new(self.open_channel(local, Limits::Above)?))
    }

    /// This core's channel, for a layer over the bdev.
    pub fn base_channel(&self, local: &Local) -> Result<BaseChannel, OpenError> {
        self.open_channel(local, Limits::ToCome)
    }

    fn open_channel(&self, local: &Local, limits: Limits) -> Result<BaseChannel, OpenError> {
        if self.is_removed() {
            return Err(OpenError::Removed);
        }
        let inner = self.bdev().channel(local)?;
        Ok(BaseChannel::new(inner, self.clone(), local.clone(), limits))
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
        self.allowed().has(op)
    }

    /// Limits how long an Io may take that is submitted from now on, or no longer does. Nothing
    /// happens to those that take longer: [`Channel::find_late`] tells of them.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        let ns = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.open.set_timeout_ns(timeout.map_or(0, ns));
    }

    /// The limit, if there is one.
    pub fn timeout(&self) -> Option<Duration> {
        let ns = self.open.timeout.load(Ordering::Relaxed);
        (ns > 0).then(|| Duration::from_nanos(ns))
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

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.open.node
    }

    /// The operations that can be done and are allowed.
    pub(crate) fn allowed(&self) -> OpSet {
        let node = &self.open.node;
        (node.native() | node.emulated()) & self.mask()
    }

    /// Those of them that are passed on to the bdev as they are.
    pub(crate) fn native(&self) -> OpSet {
        self.open.node.native() & self.mask()
    }

    fn mask(&self) -> OpSet {
        let readable =
            |op| matches!(op, Op::Read | Op::Flush | Op::Compare | Op::Verify | Op::ZoneReport);
        OpSet::of(|op| self.open.access.may_write() || readable(op))
    }
}

impl Open {
    fn set_timeout_ns(&self, ns: u64) {
        self.node.change_attention(|| {
            let before = self.timeout.swap(ns, Ordering::Relaxed);
            self.node.count_timeouts(before > 0, ns > 0);
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.timeout.load(Ordering::Relaxed) > 0 {
            self.set_timeout_ns(0);
        }
        self.node.claims.close(self.access);
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({}, {:?})", self.info().name, self.open.access)
    }
}
