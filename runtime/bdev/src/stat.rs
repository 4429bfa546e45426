use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use basalt_env::{CoreId, Instant};

use crate::{Io, Op};

/// What one kind of operation has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpStat {
    /// Operations that succeeded.
    pub ops: u64,
    /// Bytes they covered.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Time of all successful ones, from submission to completion, ns.
    pub latency_total_ns: u64,
    /// The shortest, ns; 0 if there was none.
    pub latency_min_ns: u64,
    /// The longest, ns.
    pub latency_max_ns: u64,
}

impl OpStat {
    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        self.latency_min_ns = match (self.ops, other.ops) {
            (0, _) => other.latency_min_ns,
            (_, 0) => self.latency_min_ns,
            _ => self.latency_min_ns.min(other.latency_min_ns),
        };
        self.latency_max_ns = self.latency_max_ns.max(other.latency_max_ns);
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.latency_total_ns += other.latency_total_ns;
    }
}

/// What a bdev has done since it was registered or its counters were reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoStat {
    ops: [OpStat; Op::ALL.len()],
}

impl IoStat {
    /// The counters of one kind of operation.
    pub const fn op(&self, op: Op) -> &OpStat {
        &self.ops[op.index()]
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.ops.iter_mut().zip(&other.ops) {
            mine.merge(theirs);
        }
    }
}

#[derive(Debug)]
struct OpCounters {
    ops: AtomicU64,
    bytes: AtomicU64,
    latency_total_ns: AtomicU64,
    latency_min_ns: AtomicU64,
    latency_max_ns: AtomicU64,
    errors: AtomicU64,
}

impl OpCounters {
    const fn new() -> Self {
        Self {
            ops: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            latency_total_ns: AtomicU64::new(0),
            latency_min_ns: AtomicU64::new(u64::MAX),
            latency_max_ns: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    fn clear(&self) {
        let fields =
            [&self.ops, &self.bytes, &self.latency_total_ns, &self.latency_max_ns, &self.errors];
        for field in fields {
            field.store(0, Ordering::Relaxed);
        }
        self.latency_min_ns.store(u64::MAX, Ordering::Relaxed);
    }

    fn read(&self, op: Op) -> OpStat {
        let load = |field: &AtomicU64| field.load(Ordering::Relaxed);
        let min = load(&self.latency_min_ns);
        OpStat {
            ops: load(&self.ops),
            bytes: if op.has_blocks() { load(&self.bytes) } else { 0 },
            errors: load(&self.errors),
            latency_total_ns: load(&self.latency_total_ns),
            latency_min_ns: if min == u64::MAX { 0 } else { min },
            latency_max_ns: load(&self.latency_max_ns),
        }
    }
}

/// The counters of one core. Only that core writes them, so that an update is a plain add; any
/// core reads them. The alignment keeps cores off each other's cache lines.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CoreStat {
    ops: [OpCounters; Op::ALL.len()],
    epoch: AtomicU32,
}

impl CoreStat {
    const fn new() -> Self {
        Self { ops: [const { OpCounters::new() }; Op::ALL.len()], epoch: AtomicU32::new(0) }
    }

    /// Counts a finished Io. Called on the owning core only.
    #[inline]
    pub(crate) fn record(&self, io: &Io, block_shift: u32, now: Instant) {
        let counters = &self.ops[io.op.index()];
        if io.status.is_err() {
            return add(&counters.errors, 1);
        }
        let ns = now.as_ns().saturating_sub(io.submitted.as_ns());
        add(&counters.ops, 1);
        // Of operations without blocks it means nothing, and nobody is told.
        add(&counters.bytes, u64::from(io.blocks) << block_shift);
        add(&counters.latency_total_ns, ns);
        if ns < counters.latency_min_ns.load(Ordering::Relaxed) {
            counters.latency_min_ns.store(ns, Ordering::Relaxed);
        }
        if ns > counters.latency_max_ns.load(Ordering::Relaxed) {
            counters.latency_max_ns.store(ns, Ordering::Relaxed);
        }
    }

    /// Clears the counters if a reset was asked for since. Called on the owning core only.
    #[inline]
    pub(crate) fn follow(&self, epoch: &AtomicU32) {
        let wanted = epoch.load(Ordering::Relaxed);
        if self.epoch.load(Ordering::Relaxed) != wanted {
            self.ops.iter().for_each(OpCounters::clear);
            self.epoch.store(wanted, Ordering::Release);
        }
    }
}

/// A single writer's add: no locked instruction.
#[inline]
fn add(field: &AtomicU64, amount: u64) {
    field.store(field.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// A bdev's counters on all cores.
///
/// A reset does not write other cores' counters: it moves the epoch on, readers take counters of
/// an older epoch for zero, and each core clears its own before it counts again.
#[derive(Debug)]
pub(crate) struct Stats {
    cores: Box<[CoreStat]>,
    epoch: AtomicU32,
}

impl Stats {
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| CoreStat::new()).collect(), epoch: AtomicU32::new(0) }
    }

    /// The counters of `core`, ready to be written by it.
    #[inline]
    pub(crate) fn writer(&self, core: CoreId) -> Option<&CoreStat> {
        let stat = self.cores.get(core.index())?;
        stat.follow(&self.epoch);
        Some(stat)
    }

    pub(crate) fn core(&self, core: CoreId) -> IoStat {
        let Some(stat) = self.cores.get(core.index()) else { return IoStat::default() };
        if stat.epoch.load(Ordering::Acquire) != self.epoch.load(Ordering::Relaxed) {
            return IoStat::default();
        }
        IoStat { ops: Op::ALL.map(|op| stat.ops[op.index()].read(op)) }
    }

    pub(crate) fn total(&self) -> IoStat {
        let mut total = IoStat::default();
        for core in 0..self.cores.len() {
            total.merge(&self.core(CoreId(core as u16)));
        }
        total
    }

    pub(crate) fn reset(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}
