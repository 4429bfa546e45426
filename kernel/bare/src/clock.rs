#![expect(unsafe_code, reason = "reading the time-stamp counter")]

//! The clock: the time-stamp counter, scaled to nanoseconds.

use core::arch::x86_64::_rdtsc;
use core::time::Duration;

use basalt_env::{Instant, Ticks};
use spin::Once;

/// Fraction bits of the scale.
const SHIFT: u32 = 32;

static CLOCK: Once<Clock> = Once::new();
/// The time of day when it started, in seconds since 1970.
static START: Once<u64> = Once::new();

/// The machine's clock. All copies on all cores share one start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: u64,
    /// Nanoseconds per tick, times 2^32.
    scale: u64,
    hz: u64,
}

impl Clock {
    /// A clock that starts at counter value `epoch` and ticks `hz` times a second (at least once
    /// a second).
    pub(crate) fn new(epoch: u64, hz: u64) -> Self {
        let hz = hz.max(1);
        let scale = (u128::from(NS_PER_S) << SHIFT) / u128::from(hz);
        Self { epoch, scale: scale as u64, hz }
    }

    /// The time since the clock started.
    #[inline]
    pub fn now(&self) -> Instant {
        self.at(ticks())
    }

    /// The time at counter value `ticks`; the start if that lies before it.
    #[inline]
    pub(crate) fn at(&self, ticks: u64) -> Instant {
        let ticks = ticks.saturating_sub(self.epoch);
        Instant::from_ns(((u128::from(ticks) * u128::from(self.scale)) >> SHIFT) as u64)
    }

    /// Waits for `duration` without resting.
    pub(crate) fn delay(&self, duration: Duration) {
        let end = self.now() + duration;
        while self.now() < end {
            core::hint::spin_loop();
        }
    }
}

/// The time-stamp counter itself.
impl Ticks for Clock {
    #[inline]
    fn ticks(&self) -> u64 {
        ticks()
    }

    fn hz(&self) -> u64 {
        self.hz
    }
}

const NS_PER_S: u64 = 1_000_000_000;

/// The counter now.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and it is readable in ring 0.
    unsafe { _rdtsc() }
}

/// Makes `clock` the one that log lines carry.
pub(crate) fn publish(clock: Clock) {
    CLOCK.call_once(|| clock);
}

/// Time since the start, zero until the clock is calibrated.
pub(crate) fn since_start() -> Instant {
    CLOCK.get().map_or(Instant::ZERO, Clock::now)
}

/// Notes that it is `unix_s` seconds since 1970 now.
pub(crate) fn set_start(unix_s: u64) {
    START.call_once(|| unix_s.saturating_sub(since_start().as_us() / 1_000_000));
}

/// The time of day when the clock started, in seconds since 1970, if the machine told it.
pub fn started_at() -> Option<u64> {
    START.get().copied()
}
