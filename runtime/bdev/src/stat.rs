mod epochs;

use alloc::boxed::Box;
use core::borrow::Borrow;
use core::sync::atomic::{AtomicU64, Ordering};

use basalt_env::{CoreId, Instant};

use self::epochs::{Epochs, Part};
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
    /// The shortest of them since it was last asked to be forgotten, ns, if there was one.
    pub latency_min_ns: Option<u64>,
    /// The longest, likewise; 0 if there was none.
    pub latency_max_ns: u64,
}

impl OpStat {
    const NONE: Self = Self {
        ops: 0,
        bytes: 0,
        errors: 0,
        latency_total_ns: 0,
        latency_min_ns: None,
        latency_max_ns: 0,
    };

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        let shortest = self.latency_min_ns.into_iter().chain(other.latency_min_ns).min();
        self.latency_min_ns = shortest;
        self.latency_max_ns = self.latency_max_ns.max(other.latency_max_ns);
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.latency_total_ns += other.latency_total_ns;
    }
}

/// What a bdev has done since it was registered or its counters were reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoStat {
    ops: [OpStat; Op::ALL.len()],
    failures: [u64; IoError::KINDS.len()],
    miscompares: u64,
}

impl IoStat {
    /// The counters of one kind of operation.
    pub const fn op(&self, op: Op) -> &OpStat {
        &self.ops[op.index()]
    }

    /// Operations that failed, by [`IoError::kind`].
    pub const fn failures(&self) -> &[u64; IoError::KINDS.len()] {
        &self.failures
    }

    /// Those that failed because data was not what it was compared with; they are among
    /// [`IoStat::failures`] too, as NVMe's Compare Failure is a status like others.
    pub const fn miscompares(&self) -> u64 {
        self.miscompares
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.ops.iter_mut().zip(&other.ops) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine += theirs;
        }
        self.miscompares += other.miscompares;
    }
}

impl Default for IoStat {
    fn default() -> Self {
        let ops = [OpStat::NONE; Op::ALL.len()];
        Self { ops, failures: [0; IoError::KINDS.len()], miscompares: 0 }
    }
}

/// What of a bdev's counters is set to zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatReset {
    /// All of them.
    All,
    /// The longest and the shortest latencies.
    Extremes,
    /// How often operations failed.
    Errors,
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
    fn clear(&self, part: Part) {
        match part {
            Part::Sums => clear(&[&self.ops, &self.blocks, &self.latency_total_ns]),
            Part::Extremes => {
                self.latency_min_ns.store(u64::MAX, Ordering::Relaxed);
                clear(&[&self.latency_max_ns]);
            }
            Part::Errors => clear(&[&self.errors]),
        }
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
            latency_min_ns: (min != u64::MAX).then_some(min),
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
    miscompares: AtomicU64,
    epochs: Epochs,
}

impl CoreStat {
    const fn new() -> Self {
        Self {
            transfers: [const { TransferCounters::new() }; TRANSFERS],
            others: [const { OpCounters::new() }; Op::ALL.len() - TRANSFERS],
            failures: [const { AtomicU64::new(0) }; IoError::KINDS.len()],
            miscompares: AtomicU64::new(0),
            epochs: Epochs::new(),
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
        if error.is_miscompare() {
            add(&self.miscompares, 1);
        }
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
    pub(crate) fn follow(&self, wanted: &Epochs) {
        if self.epochs.any.load(Ordering::Relaxed) != wanted.any.load(Ordering::Relaxed) {
            self.catch_up(wanted);
        }
    }

    #[cold]
    fn catch_up(&self, wanted: &Epochs) {
        let any = wanted.any.load(Ordering::Acquire);
        for part in Part::ALL {
            let epoch = wanted.of(part).load(Ordering::Relaxed);
            if self.epochs.of(part).load(Ordering::Relaxed) != epoch {
                self.clear(part);
                self.epochs.of(part).store(epoch, Ordering::Release);
            }
        }
        self.epochs.any.store(any, Ordering::Relaxed);
    }

    fn clear(&self, part: Part) {
        let transfers = self.transfers.iter();
        let counters = transfers.map(|transfer| &transfer.counters).chain(&self.others);
        counters.for_each(|counters| counters.clear(part));
        match part {
            Part::Sums => self.transfers.iter().for_each(|transfer| clear(&transfer.latencies)),
            Part::Extremes => {}
            Part::Errors => {
                clear(&self.failures);
                clear(&[&self.miscompares]);
            }
        }
    }
}

fn load(field: &AtomicU64) -> u64 {
    field.load(Ordering::Relaxed)
}

fn clear<T: Borrow<AtomicU64>>(fields: &[T]) {
    fields.iter().for_each(|field| field.borrow().store(0, Ordering::Relaxed));
}

/// A single writer's add: no locked instruction.
#[inline]
fn add(field: &AtomicU64, amount: u64) {
    field.store(field.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// A bdev's counters on all cores.
///
/// A reset does not write other cores' counters: it moves the epoch of a part of them on, readers
/// take counters of an older epoch for zero, and each core clears its own before it counts again.
#[derive(Debug)]
pub(crate) struct Stats {
    cores: Box<[CoreStat]>,
    epochs: Epochs,
    /// What bytes are counted in.
    block_size: u32,
}

impl Stats {
    pub(crate) fn new(cores: usize, block_size: u32) -> Self {
        let cores = (0..cores).map(|_| CoreStat::new()).collect();
        Self { cores, epochs: Epochs::new(), block_size }
    }

    /// The counters of `core`, ready to be written by it.
    #[inline]
    pub(crate) fn writer(&self, core: CoreId) -> Option<&CoreStat> {
        let stat = self.cores.get(core.index())?;
        stat.follow(&self.epochs);
        Some(stat)
    }

    /// Whether a part of a core's counters is none that was to be set to zero since.
    fn is_current(&self, stat: &CoreStat, part: Part) -> bool {
        let epoch = stat.epochs.of(part).load(Ordering::Acquire);
        epoch == self.epochs.of(part).load(Ordering::Relaxed)
    }

    pub(crate) fn core(&self, core: CoreId) -> IoStat {
        let mut all = IoStat::default();
        let Some(stat) = self.cores.get(core.index()) else { return all };
        let [sums, extremes, errors] = Part::ALL.map(|part| self.is_current(stat, part));
        for op in Op::ALL {
            let (read, shown) = (stat.read(op, self.block_size), &mut all.ops[op.index()]);
            if sums {
                *shown = OpStat { errors: 0, latency_min_ns: None, latency_max_ns: 0, ..read };
            }
            if extremes {
                shown.latency_min_ns = read.latency_min_ns;
                shown.latency_max_ns = read.latency_max_ns;
            }
            if errors {
                shown.errors = read.errors;
            }
        }
        if errors {
            all.failures = stat.failures.each_ref().map(load);
            all.miscompares = load(&stat.miscompares);
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
        let current = |core: &&CoreStat| self.is_current(core, Part::Sums);
        for core in self.cores.iter().filter(current) {
            for (sum, transfer) in total.iter_mut().zip(&core.transfers) {
                sum.merge(&transfer.latency());
            }
        }
        total
    }

    pub(crate) fn reset(&self, what: StatReset) {
        let parts: &[Part] = match what {
            StatReset::All => &Part::ALL,
            StatReset::Extremes => &[Part::Extremes],
            StatReset::Errors => &[Part::Errors],
        };
        for part in parts {
            self.epochs.of(*part).fetch_add(1, Ordering::Relaxed);
        }
        self.epochs.any.fetch_add(1, Ordering::Release);
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
