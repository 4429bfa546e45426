use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use basalt_env::{CoreId, Instant};

use crate::{Io, IoError, Op};

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

/// Operations that move data, which come first among [`Op::ALL`].
const TRANSFERS: usize = 2;
/// Steps of each power of two that latencies are told apart by, as a power of two.
const STEP_BITS: u32 = 2;
/// Powers of two: what takes 2^36 ns (69 s) or longer is counted as a little less.
const POWERS: usize = 36;
const BUCKETS: usize = POWERS << STEP_BITS;

/// How long the successful reads or writes of a bdev took: each bucket is a quarter of a power of
/// two wide. It is always counted, for it takes half a dozen instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    counts: [u64; BUCKETS],
}

impl Latency {
    /// The buckets in order: the longest time in each, ns, and how many took so long.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..).map(upper_end).zip(self.counts)
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

/// The bucket of a time: the exponent of the number after it in floating point, as 0 has none, and
/// the upper bits of the fraction next to it.
#[inline]
fn bucket_of(ns: u64) -> usize {
    const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const FIRST: u64 = (f64::MAX_EXP as u64 - 1) << STEP_BITS;
    // Through a signed number, for which there is an instruction.
    let bits = (ns.wrapping_add(1) as i64 as f64).to_bits() >> (MANTISSA_BITS - STEP_BITS);
    (bits.wrapping_sub(FIRST) as usize).min(BUCKETS - 1)
}

/// The longest time in a bucket, ns; the last has no end.
fn upper_end(bucket: usize) -> u64 {
    if bucket >= BUCKETS - 1 {
        return u64::MAX;
    }
    let steps = 1_u64 << STEP_BITS;
    let (power, step) = (bucket >> STEP_BITS, bucket as u64 % steps);
    ((steps + step + 1) << power).div_ceil(steps) - 2
}

#[derive(Debug)]
struct OpCounters {
    ops: AtomicU64,
    blocks: AtomicU64,
    latency_total_ns: AtomicU64,
    latency_min_ns: AtomicU64,
    latency_max_ns: AtomicU64,
    errors: AtomicU64,
}

impl OpCounters {
    const fn new() -> Self {
        Self {
            ops: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            latency_total_ns: AtomicU64::new(0),
            latency_min_ns: AtomicU64::new(u64::MAX),
            latency_max_ns: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Counts what a successful operation covered and took; that it was one is counted elsewhere.
    #[inline]
    fn record(&self, blocks: u32, ns: u64) {
        // Of operations without blocks it means nothing, and nobody is told.
        add(&self.blocks, u64::from(blocks));
        add(&self.latency_total_ns, ns);
        if ns < self.latency_min_ns.load(Ordering::Relaxed) {
            self.latency_min_ns.store(ns, Ordering::Relaxed);
        }
        if ns > self.latency_max_ns.load(Ordering::Relaxed) {
            self.latency_max_ns.store(ns, Ordering::Relaxed);
        }
    }

    #[inline(never)]
    fn clear(&self) {
        let fields =
            [&self.ops, &self.blocks, &self.latency_total_ns, &self.latency_max_ns, &self.errors];
        for field in fields {
            field.store(0, Ordering::Relaxed);
        }
        self.latency_min_ns.store(u64::MAX, Ordering::Relaxed);
    }

    #[inline(never)]
    fn read(&self, op: Op, block_size: u32) -> OpStat {
        let min = load(&self.latency_min_ns);
        let blocks = if op.has_blocks() { load(&self.blocks) } else { 0 };
        OpStat {
            ops: load(&self.ops),
            bytes: blocks * u64::from(block_size),
            errors: load(&self.errors),
            latency_total_ns: load(&self.latency_total_ns),
            latency_min_ns: if min == u64::MAX { 0 } else { min },
            latency_max_ns: load(&self.latency_max_ns),
        }
    }
}

/// Reads, or writes. How many succeeded is what all buckets have together.
#[derive(Debug)]
struct TransferCounters {
    counters: OpCounters,
    latencies: [AtomicU64; BUCKETS],
}

impl TransferCounters {
    const fn new() -> Self {
        Self { counters: OpCounters::new(), latencies: [const { AtomicU64::new(0) }; BUCKETS] }
    }

    fn clear(&self) {
        self.counters.clear();
        self.latencies.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }

    #[inline(never)]
    fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        for (count, bucket) in latency.counts.iter_mut().zip(&self.latencies) {
            *count = load(bucket);
        }
        latency
    }
}

/// The counters of one core. Only that core writes them, so that an update is a plain add; any
/// core reads them. The alignment keeps cores off each other's cache lines.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CoreStat {
    transfers: [TransferCounters; TRANSFERS],
    others: [OpCounters; Op::ALL.len() - TRANSFERS],
    /// Failures by [`IoError::kind`].
    failures: [AtomicU64; IoError::KINDS.len()],
    epoch: AtomicU32,
}

impl CoreStat {
    const fn new() -> Self {
        Self {
            transfers: [const { TransferCounters::new() }; TRANSFERS],
            others: [const { OpCounters::new() }; Op::ALL.len() - TRANSFERS],
            failures: [const { AtomicU64::new(0) }; IoError::KINDS.len()],
            epoch: AtomicU32::new(0),
        }
    }

    /// Counts a finished Io. Called on the owning core only.
    #[inline]
    pub(crate) fn record(&self, io: &Io, now: Instant) {
        if let Err(error) = io.status {
            return self.record_failure(io.op, error);
        }
        let ns = now.as_ns().saturating_sub(io.submitted.as_ns());
        let Some(transfer) = self.transfers.get(io.op.index()) else {
            return self.record_other(io, ns);
        };
        add(&transfer.latencies[bucket_of(ns)], 1);
        transfer.counters.record(io.blocks, ns);
    }

    #[inline(never)]
    fn record_other(&self, io: &Io, ns: u64) {
        let counters = self.counters(io.op);
        add(&counters.ops, 1);
        counters.record(io.blocks, ns);
    }

    #[cold]
    fn record_failure(&self, op: Op, error: IoError) {
        add(&self.counters(op).errors, 1);
        add(&self.failures[error.kind()], 1);
    }

    fn counters(&self, op: Op) -> &OpCounters {
        match self.transfers.get(op.index()) {
            Some(transfer) => &transfer.counters,
            None => &self.others[op.index() - TRANSFERS],
        }
    }

    fn read(&self, op: Op, block_size: u32) -> OpStat {
        let stat = self.counters(op).read(op, block_size);
        match self.transfers.get(op.index()) {
            Some(transfer) => OpStat { ops: transfer.latency().counts.iter().sum(), ..stat },
            None => stat,
        }
    }

    /// Clears the counters if a reset was asked for since. Called on the owning core only.
    #[inline]
    pub(crate) fn follow(&self, epoch: &AtomicU32) {
        let wanted = epoch.load(Ordering::Relaxed);
        if self.epoch.load(Ordering::Relaxed) != wanted {
            self.clear();
            self.epoch.store(wanted, Ordering::Release);
        }
    }

    #[cold]
    fn clear(&self) {
        self.transfers.iter().for_each(TransferCounters::clear);
        self.others.iter().for_each(OpCounters::clear);
        self.failures.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

fn load(field: &AtomicU64) -> u64 {
    field.load(Ordering::Relaxed)
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
    /// What bytes are counted in.
    block_size: u32,
}

impl Stats {
    pub(crate) fn new(cores: usize, block_size: u32) -> Self {
        let cores = (0..cores).map(|_| CoreStat::new()).collect();
        Self { cores, epoch: AtomicU32::new(0), block_size }
    }

    /// The counters of `core`, ready to be written by it.
    #[inline]
    pub(crate) fn writer(&self, core: CoreId) -> Option<&CoreStat> {
        let stat = self.cores.get(core.index())?;
        stat.follow(&self.epoch);
        Some(stat)
    }

    /// The counters of the cores that have counted since the last reset.
    fn current(&self) -> impl Iterator<Item = &CoreStat> {
        self.cores
            .iter()
            .filter(|stat| stat.epoch.load(Ordering::Acquire) == self.epoch.load(Ordering::Relaxed))
    }

    pub(crate) fn core(&self, core: CoreId) -> IoStat {
        let Some(stat) = self.cores.get(core.index()) else { return IoStat::default() };
        if stat.epoch.load(Ordering::Acquire) != self.epoch.load(Ordering::Relaxed) {
            return IoStat::default();
        }
        let mut all = IoStat::default();
        for op in Op::ALL {
            all.ops[op.index()] = stat.read(op, self.block_size);
        }
        all
    }

    pub(crate) fn total(&self) -> IoStat {
        let mut total = IoStat::default();
        for core in 0..self.cores.len() {
            total.merge(&self.core(CoreId(core as u16)));
        }
        total
    }

    /// How long reads and writes took.
    pub(crate) fn latencies(&self) -> [Latency; TRANSFERS] {
        let mut total = [Latency::default(); TRANSFERS];
        for core in self.current() {
            for (sum, transfer) in total.iter_mut().zip(&core.transfers) {
                sum.merge(&transfer.latency());
            }
        }
        total
    }

    /// Failures by [`IoError::kind`].
    pub(crate) fn failures(&self) -> [u64; IoError::KINDS.len()] {
        let mut total = [0; IoError::KINDS.len()];
        for core in self.current() {
            for (sum, count) in total.iter_mut().zip(&core.failures) {
                *sum += load(count);
            }
        }
        total
    }

    pub(crate) fn reset(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_that_ends_at_it_or_at_most_a_quarter_later() {
        let mut ns = 1_u64;
        while ns < 1 << POWERS {
            for time in [ns - 1, ns, ns + 1, ns + ns / 3] {
                let bucket = bucket_of(time);
                let end = upper_end(bucket);
                assert!(end >= time, "{time} is not within {end}");
                let is_last = bucket == BUCKETS - 1;
                assert!(is_last || end - time <= (time + 1).div_ceil(4), "{time} is in {end}");
                assert!(bucket == 0 || upper_end(bucket - 1) < time, "{time} is too high");
            }
            ns += ns.div_ceil(7);
        }
        assert_eq!([0, 1, u64::MAX >> 1].map(bucket_of), [0, 4, BUCKETS - 1]);
        assert_eq!(upper_end(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn buckets_end_in_order() {
        let ends: alloc::vec::Vec<_> = (0..BUCKETS).map(upper_end).collect();
        assert!(ends.is_sorted());
    }

    #[test]
    fn reads_and_writes_come_first_among_the_operations() {
        assert_eq!(Op::ALL[..TRANSFERS], [Op::Read, Op::Write]);
    }
}
