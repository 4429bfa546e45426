#![expect(unsafe_code, reason = "reading the time-stamp counter")]

//! The host's monotonic clock.

use std::arch::x86_64::_rdtsc;
use std::time;

use basalt_env::{Instant, Ticks};

/// Time since it was made; all copies share one start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
    start_ticks: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: time::Instant::now(), start_ticks: ticks() }
    }

    /// The time since the clock started.
    #[inline]
    pub fn now(&self) -> Instant {
        let ns = self.start.elapsed().as_nanos();
        Instant::from_ns(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

/// The time-stamp counter, which the host leaves readable; its rate is measured against the host's
/// clock, from the start to the moment of asking.
impl Ticks for Clock {
    #[inline]
    fn ticks(&self) -> u64 {
        ticks()
    }

    fn hz(&self) -> u64 {
        let passed = u128::from(ticks().saturating_sub(self.start_ticks));
        let ns = u128::from(self.now().as_ns()).max(1);
        u64::try_from(passed * 1_000_000_000 / ns).unwrap_or(u64::MAX).max(1)
    }
}

#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and Linux lets programs read it.
    unsafe { _rdtsc() }
}
