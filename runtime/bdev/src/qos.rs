//! Limits on how much is asked of a bdev, on all cores together (SPDK's QoS).
//!
//! Time goes in slices of a millisecond. Each brings an allowance, of which every core takes what
//! it submits; a channel says that its queue is full while there is none left. What was taken too
//! much, by a large Io or by several cores at once, is missing from the next slices.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use core::time::Duration;

use basalt_env::Instant;

use crate::{Io, Op};

/// How much may be asked in a second; 0 for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QosLimits {
    /// Reads and writes.
    pub rw_ios: u64,
    /// Bytes read and written.
    pub rw_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
}

impl QosLimits {
    /// The least that Ios can be limited to, and what limits are multiples of.
    pub const IOS_MIN: u64 = 1000;
    /// The same for bytes.
    pub const BYTES_MIN: u64 = 1 << 20;

    const fn to_array(self) -> [u64; 4] {
        [self.rw_ios, self.rw_bytes, self.read_bytes, self.write_bytes]
    }
}

const SLICE_NS: u64 = 1_000_000;
/// Slices that a bdev without any Ios can make up for.
const SLICES_MAX: u64 = 8;

/// A bdev's limits and allowances.
#[derive(Debug, Default)]
pub(crate) struct Qos {
    per_second: [AtomicU64; 4],
    left: [AtomicI64; 4],
    /// When the slice began.
    began: AtomicU64,
}

impl Qos {
    pub(crate) fn limits(&self) -> QosLimits {
        let [rw_ios, rw_bytes, read_bytes, write_bytes] =
            self.per_second.each_ref().map(|limit| limit.load(Ordering::Relaxed));
        QosLimits { rw_ios, rw_bytes, read_bytes, write_bytes }
    }

    pub(crate) fn set_limits(&self, limits: QosLimits) {
        for ((limit, left), new) in self.per_second.iter().zip(&self.left).zip(limits.to_array()) {
            left.store((new / 1000) as i64, Ordering::Relaxed);
            limit.store(new, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limits() != QosLimits::default()
    }

    /// Takes what `io` needs; or, if there is too little left, says when it may be tried again.
    pub(crate) fn take(&self, io: &Io, block_shift: u32, now: Instant) -> Result<(), Instant> {
        let costs = costs(io, block_shift);
        self.refill(now);
        let limited =
            |which: usize| costs[which] > 0 && self.per_second[which].load(Ordering::Relaxed) > 0;
        let is_spent = |which| limited(which) && self.left[which].load(Ordering::Relaxed) <= 0;
        if (0..costs.len()).any(is_spent) {
            let began = Instant::from_ns(self.began.load(Ordering::Relaxed));
            return Err(began + Duration::from_nanos(SLICE_NS));
        }
        for which in (0..costs.len()).filter(|which| limited(*which)) {
            self.left[which].fetch_sub(costs[which], Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives back what `io` took, which was not submitted after all.
    pub(crate) fn give_back(&self, io: &Io, block_shift: u32) {
        for (left, cost) in self.left.iter().zip(costs(io, block_shift)) {
            left.fetch_add(cost, Ordering::Relaxed);
        }
    }

    /// Brings the allowance of the slices that have begun since.
    fn refill(&self, now: Instant) {
        let began = self.began.load(Ordering::Relaxed);
        let slices = now.as_ns().saturating_sub(began) / SLICE_NS;
        if slices == 0 {
            return;
        }
        let next = began + slices * SLICE_NS;
        // Whoever is first does it for all.
        if self.began.compare_exchange(began, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let slices = slices.min(SLICES_MAX);
        for (limit, left) in self.per_second.iter().zip(&self.left) {
            let brought = (limit.load(Ordering::Relaxed) * slices / 1000) as i64;
            // What is left of a slice is not kept; a debt is.
            let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.min(0).saturating_add(brought))
            });
        }
    }
}

/// What `io` takes of each allowance.
fn costs(io: &Io, block_shift: u32) -> [i64; 4] {
    let bytes = i64::from(io.blocks) << block_shift;
    match io.op {
        Op::Read => [1, bytes, bytes, 0],
        Op::Write => [1, bytes, 0, bytes],
        _ => [0; 4],
    }
}
