use core::ops::Add;
use core::time::Duration;

/// A point in time: nanoseconds since the environment's clock started. Monotonic.
///
/// Protocol code never reads a clock; it is given an `Instant`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant {
    ns: u64,
}

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self { ns: 0 };

    /// An instant `ns` nanoseconds after the start of the clock.
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns }
    }

    /// Nanoseconds since the start of the clock.
    pub const fn as_ns(self) -> u64 {
        self.ns
    }

    /// Microseconds since the start of the clock, rounded down.
    pub const fn as_us(self) -> u64 {
        self.ns / 1_000
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { ns: self.ns.saturating_add(ns) }
    }
}
