use alloc::sync::Arc;

use crate::claim::Claims;
use crate::emulate::is_emulated;
use crate::stat::Stats;
use crate::{Bdev, BlockCount, Op};

/// A registered bdev: what registry, descriptors and channels on all cores share.
pub(crate) struct Node {
    pub(crate) bdev: Arc<dyn Bdev>,
    pub(crate) claims: Claims,
    /// As the bdev's own, but at hand.
    pub(crate) num_blocks: BlockCount,
    pub(crate) stats: Stats,
}

impl Node {
    pub(crate) fn new(bdev: Arc<dyn Bdev>, cores: usize) -> Arc<Self> {
        let num_blocks = bdev.info().num_blocks.clone();
        Arc::new(Self { bdev, claims: Claims::default(), num_blocks, stats: Stats::new(cores) })
    }

    /// The operations the bdev does itself, as a bit set over [`Op::index`].
    pub(crate) fn native(&self) -> u8 {
        Self::set(|op| self.bdev.supports(op))
    }

    /// Those that are made of others.
    pub(crate) fn emulated(&self) -> u8 {
        Self::set(|op| is_emulated(op, |op| self.bdev.supports(op)))
    }

    fn set(has: impl Fn(Op) -> bool) -> u8 {
        let bit = |op: Op| u8::from(has(op)) << op.index();
        Op::ALL.into_iter().map(bit).fold(0, |set, bit| set | bit)
    }
}
