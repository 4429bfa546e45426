//! Histograms of how long Ios take, in the form of SPDK's (its `histogram_data.h`).
//!
//! Values are ns. Ranges of values have 2^granularity buckets each: in ranges 0 and 1 one for each
//! value, and from then on twice as many values to a bucket as in the range before. Values below
//! the lowest range that is kept are counted in its first buckets, those above the highest in that.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use basalt_env::{CoreId, Instant};

use crate::{Io, Op};

/// What a histogram is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HistogramShape {
    /// Buckets of each range, as a power of two.
    pub granularity: u32,
    /// The lowest range that is told apart.
    pub min_range: u32,
    /// The highest.
    pub max_range: u32,
    /// The operation that is counted; all if not given.
    pub op: Option<Op>,
}

impl HistogramShape {
    /// SPDK's granularity, unless another is asked for.
    pub const GRANULARITY: u32 = 7;

    /// Of that granularity, for values from `min_ns` to `max_ns`. `None` if there is none.
    pub fn new(granularity: u32, min_ns: u64, max_ns: u64, op: Option<Op>) -> Option<Self> {
        if !(1..=10).contains(&granularity) || min_ns >= max_ns {
            return None;
        }
        let [min_range, max_range] = [min_ns, max_ns].map(|ns| range_of(ns, granularity));
        Some(Self { granularity, min_range, max_range, op })
    }

    fn buckets(self) -> usize {
        ((self.max_range - self.min_range + 1) as usize) << self.granularity
    }

    #[inline]
    fn bucket_of(self, ns: u64) -> usize {
        let Self { granularity, min_range, max_range, .. } = self;
        let range = range_of(ns, granularity).clamp(min_range, max_range);
        let index = (ns >> range.saturating_sub(1)) & ((1 << granularity) - 1);
        (((range - min_range) as usize) << granularity) + index as usize
    }
}

/// The range that a value is in.
fn range_of(ns: u64, granularity: u32) -> u32 {
    (64 - ns.leading_zeros()).saturating_sub(granularity)
}

/// A bdev's histogram, a part for each core.
#[derive(Debug)]
pub(crate) struct Latencies {
    shape: HistogramShape,
    cores: Box<[Box<[AtomicU64]>]>,
}

impl Latencies {
    /// An empty one; `None` if there is no memory for it.
    pub(crate) fn new(shape: HistogramShape, cores: usize) -> Option<Self> {
        let part = |_| {
            let mut buckets = Vec::new();
            buckets.try_reserve_exact(shape.buckets()).ok()?;
            buckets.resize_with(shape.buckets(), || AtomicU64::new(0));
            Some(buckets.into_boxed_slice())
        };
        Some(Self { shape, cores: (0..cores).map(part).collect::<Option<_>>()? })
    }

    /// Counts a finished Io. Called on that core only.
    pub(crate) fn record(&self, core: CoreId, io: &Io, now: Instant) {
        if io.status.is_err() || self.shape.op.is_some_and(|op| op != io.op) {
            return;
        }
        let ns = now.as_ns().saturating_sub(io.submitted.as_ns());
        let bucket = self.cores.get(core.index()).and_then(|c| c.get(self.shape.bucket_of(ns)));
        if let Some(bucket) = bucket {
            bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// What was counted, on all cores together.
    pub(crate) fn read(&self) -> LatencyHistogram {
        let count = |bucket: usize| {
            let on_core = |core: &[AtomicU64]| core[bucket].load(Ordering::Relaxed);
            self.cores.iter().map(|core| on_core(core)).sum()
        };
        let shape = self.shape;
        LatencyHistogram { shape, counts: (0..shape.buckets()).map(count).collect() }
    }
}

/// How many Ios took how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LatencyHistogram {
    /// What the buckets are.
    pub shape: HistogramShape,
    /// Ios by bucket, range after range.
    pub counts: Vec<u64>,
}

impl LatencyHistogram {
    /// How many took less than so many ns, for a value that begins a bucket.
    pub fn below(&self, ns: u64) -> u64 {
        let end = if ns > self.highest() { self.counts.len() } else { self.shape.bucket_of(ns) };
        self.counts[..end].iter().sum()
    }

    /// The largest value that has a bucket of its own.
    fn highest(&self) -> u64 {
        let HistogramShape { granularity, max_range, .. } = self.shape;
        1_u64.checked_shl(granularity + max_range).map_or(u64::MAX, |end| end - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(granularity: u32, min_ns: u64, max_ns: u64) -> HistogramShape {
        HistogramShape::new(granularity, min_ns, max_ns, None).unwrap()
    }

    #[test]
    fn all_values_have_a_bucket_as_spdk_numbers_them() {
        let all = shape(7, 0, u64::MAX);
        assert_eq!((all.min_range, all.max_range, all.buckets()), (0, 57, 58 * 128));
        let places = [
            (0, 0),
            (127, 127),
            (128, 128),
            (255, 255),
            (256, 256),
            (257, 256),
            (258, 257),
            (511, 383),
            (512, 384),
            (u64::MAX, 58 * 128 - 1),
        ];
        for (ns, bucket) in places {
            assert_eq!(all.bucket_of(ns), bucket, "{ns}");
        }
    }

    #[test]
    fn values_outside_are_in_the_first_and_last_ranges() {
        let some = shape(4, 1 << 10, 1 << 20);
        assert_eq!((some.min_range, some.max_range), (7, 17));
        assert!((0..1 << 11).all(|ns| some.bucket_of(ns) < 16));
        assert!(some.bucket_of(1 << 40) >= some.buckets() - 16);
        assert_eq!(HistogramShape::new(0, 0, 1, None), None);
        assert_eq!(HistogramShape::new(7, 5, 5, None), None);
    }

    #[test]
    fn what_took_less_is_counted_by_buckets() {
        let latencies = Latencies::new(shape(7, 0, u64::MAX), 2).unwrap();
        for (core, us) in [(0, 1), (1, 3), (0, 5), (1, 5)] {
            let io = Io::new(Op::Flush, 0, 0, 0);
            latencies.record(CoreId(core), &io, Instant::from_ns(us * 1000));
        }
        let read = latencies.read();
        assert_eq!(read.counts.iter().sum::<u64>(), 4);
        let below = [1, 1024, 4096, 8192, u64::MAX].map(|ns| read.below(ns));
        assert_eq!(below, [0, 1, 2, 4, 4]);
    }
}
