use alloc::sync::Arc;

use crate::claim::Claims;
use crate::emulate::is_emulated;
use crate::gate::Gate;
use crate::stat::Stats;
use crate::{Bdev, BlockCount, Op, OpSet};

/// A registered bdev: what registry, descriptors and channels on all cores share.
pub(crate) struct Node {
    pub(crate) bdev: Arc<dyn Bdev>,
    pub(crate) claims: Claims,
    /// As the bdev's own, but at hand.
    pub(crate) num_blocks: BlockCount,
    pub(crate) stats: Stats,
    pub(crate) gate: Gate,
}

impl Node {
    pub(crate) fn new(bdev: Arc<dyn Bdev>, cores: usize) -> Arc<Self> {
        let num_blocks = bdev.info().num_blocks.clone();
        let (claims, stats, gate) = (Claims::default(), Stats::new(cores), Gate::new(cores));
        Arc::new(Self { bdev, claims, num_blocks, stats, gate })
    }

    /// The operations that a channel passes on as they are.
    pub(crate) fn native(&self) -> OpSet {
        OpSet::of(|op| op != Op::Reset && self.bdev.supports(op))
    }

    /// Those that take more than that.
    pub(crate) fn emulated(&self) -> OpSet {
        OpSet::of(|op| is_emulated(op, |op| self.bdev.supports(op)))
    }
}
