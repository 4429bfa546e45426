use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use crate::claim::Claims;
use crate::depth::QueueDepth;
use crate::emulate::is_emulated;
use crate::gate::Gate;
use crate::latency::Latencies;
use crate::qos::Qos;
use crate::stat::Stats;
use crate::{Bdev, BlockCount, Op, OpSet};

/// A registered bdev: what registry, descriptors and channels on all cores share.
pub(crate) struct Node {
    pub(crate) bdev: Arc<dyn Bdev>,
    pub(crate) claims: Claims,
    /// What it is called in traces.
    pub(crate) number: u32,
    /// As the bdev's own, but at hand.
    pub(crate) num_blocks: BlockCount,
    pub(crate) stats: Stats,
    pub(crate) gate: Gate,
    pub(crate) qos: Qos,
    latencies: Mutex<Option<Arc<Latencies>>>,
    pub(crate) depth: QueueDepth,
    /// Descriptors that limit how long an Io may take.
    timeouts: AtomicU32,
    /// Held while what submissions have to be looked at for is changed.
    changing: Mutex<()>,
}

impl Node {
    pub(crate) fn new(bdev: Arc<dyn Bdev>, cores: usize) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let num_blocks = bdev.info().num_blocks.clone();
        let stats = Stats::new(cores, bdev.info().block_size);
        Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            bdev,
            claims: Claims::default(),
            num_blocks,
            stats,
            gate: Gate::new(cores),
            qos: Qos::default(),
            latencies: Mutex::new(None),
            depth: QueueDepth::new(cores),
            timeouts: AtomicU32::new(0),
            changing: Mutex::new(()),
        })
    }

    /// Makes a change after which submissions and completions may have to be looked at, or not.
    pub(crate) fn change_attention(&self, change: impl FnOnce()) {
        let _changing = self.changing.lock();
        change();
        let needed = self.gate.is_held()
            || self.qos.is_limited()
            || self.latencies().is_some()
            || self.timeouts.load(Ordering::Relaxed) > 0;
        self.claims.set_attention(needed);
    }

    /// A descriptor limited how long an Io may take before, or does now. To be called by
    /// [`Self::change_attention`].
    pub(crate) fn count_timeouts(&self, before: bool, now: bool) {
        let timeouts = self.timeouts.load(Ordering::Relaxed);
        let timeouts = timeouts - u32::from(before) + u32::from(now);
        self.timeouts.store(timeouts, Ordering::Relaxed);
    }

    /// The histogram, while there is one.
    pub(crate) fn latencies(&self) -> Option<Arc<Latencies>> {
        self.latencies.lock().clone()
    }

    /// Begins with another histogram, or with none.
    pub(crate) fn set_latencies(&self, latencies: Option<Latencies>) {
        self.change_attention(|| *self.latencies.lock() = latencies.map(Arc::new));
    }

    /// The operations that a channel passes on as they are.
    pub(crate) fn native(&self) -> OpSet {
        OpSet::of(|op| !matches!(op, Op::Reset | Op::Copy) && self.bdev.supports(op))
    }

    /// Those that take more than that.
    pub(crate) fn emulated(&self) -> OpSet {
        // Zones are written in order, which only their user can see to.
        let suits =
            |op| self.bdev.zones().is_none() || matches!(op, Op::Compare | Op::Verify | Op::Reset);
        OpSet::of(|op| suits(op) && is_emulated(op, |op| self.bdev.supports(op)))
    }
}
