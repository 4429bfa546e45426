//! How many Ios a bdev has under way, looked at every so often (SPDK's queue depth sampling).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use basalt_env::CoreId;
use basalt_reactor::Local;

use crate::gate::OpenChannels;
use crate::node::Node;

/// What sampling has found so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DepthStat {
    /// How often is looked.
    pub period: Duration,
    /// Ios under way when that was last done.
    pub depth: u64,
    /// For how long there were any.
    pub busy: Duration,
    /// The same, times how many there were.
    pub weighted: Duration,
}

/// What is found, by all cores and by each of them.
#[derive(Debug)]
pub(crate) struct QueueDepth {
    period_us: AtomicU64,
    /// Counts changes of the period: pollers of an earlier one end.
    turn: AtomicU32,
    by_core: Box<[AtomicU32]>,
    busy_us: AtomicU64,
    weighted_us: AtomicU64,
}

impl QueueDepth {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            period_us: AtomicU64::new(0),
            turn: AtomicU32::new(0),
            by_core: (0..cores).map(|_| AtomicU32::new(0)).collect(),
            busy_us: AtomicU64::new(0),
            weighted_us: AtomicU64::new(0),
        }
    }

    fn sum(&self) -> u64 {
        self.by_core.iter().map(|depth| u64::from(depth.load(Ordering::Relaxed))).sum()
    }

    /// What was found; `None` if nobody looks.
    pub(crate) fn stat(&self) -> Option<DepthStat> {
        let us = |field: &AtomicU64| Duration::from_micros(field.load(Ordering::Relaxed));
        let period = us(&self.period_us);
        let (depth, busy, weighted) = (self.sum(), us(&self.busy_us), us(&self.weighted_us));
        (!period.is_zero()).then_some(DepthStat { period, depth, busy, weighted })
    }
}

/// Has every core look at what it has under way, every `period`; 0 for no longer. To be called on
/// core 0.
pub(crate) async fn sample(local: &Local, node: &Arc<Node>, period: Duration) {
    let depth = &node.depth;
    let turn = depth.turn.fetch_add(1, Ordering::Relaxed) + 1;
    let us = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
    depth.period_us.store(us, Ordering::Relaxed);
    for field in [&depth.busy_us, &depth.weighted_us] {
        field.store(0, Ordering::Relaxed);
    }
    depth.by_core.iter().for_each(|depth| depth.store(0, Ordering::Relaxed));
    if us == 0 {
        return;
    }
    for core in (0..local.cores()).map(|core| CoreId(core as u16)) {
        let node = Arc::clone(node);
        let begin = move |local: &Local| {
            local.spawn("bdev_qd_sampling", watch(local.clone(), node, turn, period));
        };
        // A core that has ended has nothing under way.
        let _ = local.call(core, begin).await;
    }
}

/// Looks at this core until somebody wants it otherwise.
async fn watch(local: Local, node: Arc<Node>, turn: u32, period: Duration) {
    let depth = &node.depth;
    while depth.turn.load(Ordering::Relaxed) == turn && !node.claims.is_removed() {
        if let Some(here) = depth.by_core.get(local.core().index()) {
            here.store(OpenChannels::of(&local).count(&node), Ordering::Relaxed);
        }
        if local.core() == CoreId::BOOT {
            let (now, us) = (depth.sum(), depth.period_us.load(Ordering::Relaxed));
            depth.busy_us.fetch_add(if now > 0 { us } else { 0 }, Ordering::Relaxed);
            depth.weighted_us.fetch_add(now.saturating_mul(us), Ordering::Relaxed);
        }
        local.sleep(period).await;
    }
}
