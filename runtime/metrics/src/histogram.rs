use core::fmt;
use core::time::Duration;

use crate::Counter;

/// Linear steps per power of two: a bucket is at most 1/32 wide relative to its values.
const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;

/// Powers of two covered: values from 2^36 ns (69 s) on share the last bucket.
const POWERS: usize = 36;

/// Values below `STEPS` have a bucket each; every power of two above has `STEPS`.
const BUCKETS: usize = (POWERS - STEP_BITS as usize + 1) * STEPS;

/// How often values (nanoseconds, by convention) fell into each of 1,024 buckets.
///
/// Log-linear: exact below 32, within 1/32 (3.1 %) up to 2^36. One core records, any core reads,
/// and histograms of several cores are added with [`Self::merge`]. 8 KiB; nothing is allocated.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    count: Counter,
    sum: Counter,
    min: Counter,
    max: Counter,
}

impl Histogram {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self {
            buckets: [const { Counter::new() }; BUCKETS],
            count: Counter::new(),
            sum: Counter::new(),
            min: Counter::from_value(u64::MAX),
            max: Counter::new(),
        }
    }

    /// Counts `value`.
    #[inline]
    pub fn record(&self, value: u64) {
        self.buckets[bucket_of(value)].add(1);
        self.sum.add(value);
        if value < self.min.get() {
            self.min.set(value);
        }
        if value > self.max.get() {
            self.max.set(value);
        }
        self.count.add(1);
    }

    /// Counts a duration, in nanoseconds.
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The smallest value, exactly; 0 if there is none.
    pub fn min(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.min.get() }
    }

    /// The largest value, exactly; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max.get()
    }

    /// The mean, exactly but for rounding down; 0 if there is no value.
    pub fn mean(&self) -> u64 {
        self.sum.get().checked_div(self.count.get()).unwrap_or(0)
    }

    /// The value that `per_100k` of 100,000 values do not exceed: 99,900 for p99.9.
    ///
    /// The upper end of its bucket, so at most 1/32 above the exact one and never below it, nor
    /// above [`Self::max`]. 0 if there is no value.
    pub fn percentile(&self, per_100k: u32) -> u64 {
        let count: u64 = self.buckets.iter().map(Counter::get).sum();
        let rank = (u128::from(count) * u128::from(per_100k.min(100_000))).div_ceil(100_000);
        let rank = rank.max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += u128::from(bucket.get());
            if seen >= rank {
                return upper_end(index).min(self.max());
            }
        }
        0
    }

    /// The usual figures at once.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            min: self.min(),
            mean: self.mean(),
            p50: self.percentile(50_000),
            p99: self.percentile(99_000),
            p99_9: self.percentile(99_900),
            max: self.max(),
        }
    }

    /// Adds what `other` has counted so far. Only the writer of `self` may call this.
    pub fn merge(&self, other: &Self) {
        if other.count() == 0 {
            return;
        }
        self.min.set(self.min.get().min(other.min.get()));
        self.max.set(self.max().max(other.max()));
        self.sum.add(other.sum.get());
        self.count.add(other.count());
        for (own, others) in self.buckets.iter().zip(&other.buckets) {
            own.add(others.get());
        }
    }

    /// Forgets everything. Only the writer may call this.
    pub fn reset(&self) {
        self.buckets.iter().for_each(|bucket| bucket.set(0));
        self.min.set(u64::MAX);
        for counter in [&self.count, &self.sum, &self.max] {
            counter.set(0);
        }
    }

    /// Each bucket that is not empty: the largest value it stands for, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.buckets.iter().map(Counter::get).enumerate();
        counts.filter(|(_, count)| *count != 0).map(|(index, count)| (upper_end(index), count))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a value; always below [`BUCKETS`].
#[inline]
const fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    // The highest STEP_BITS + 1 bits say which power of two, and which step of it.
    let shift = value.ilog2() - STEP_BITS;
    let index = shift as usize * STEPS + (value >> shift) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The largest value of a bucket; the last one has no end.
const fn upper_end(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    if index >= BUCKETS - 1 {
        return u64::MAX;
    }
    let shift = index / STEPS - 1;
    let step = (index % STEPS + STEPS) as u64;
    ((step + 1) << shift) - 1
}

/// The usual figures of a [`Histogram`], in its unit (nanoseconds by convention).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub min: u64,
    /// The mean.
    pub mean: u64,
    /// Half of the values do not exceed this.
    pub p50: u64,
    /// 99 % do not.
    pub p99: u64,
    /// 99.9 % do not.
    pub p99_9: u64,
    /// The largest.
    pub max: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, min, mean, p50, p99, p99_9, max } = self;
        write!(f, "n {count} min {min} mean {mean} p50 {p50} p99 {p99} p99.9 {p99_9} max {max}")
    }
}
