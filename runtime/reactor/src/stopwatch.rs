//! How long pollers run.
//!
//! To read a clock before and after each poller would cost more than most of them take, so those
//! of every round are timed in one round out of [`MEAN`], picked at random, and what they took
//! counts as often. Timed pollers are rarer and timed always.

use core::fmt;

use basalt_env::Instant;

/// Of how many rounds one is timed on average.
pub(crate) const MEAN: u64 = 64;
/// The longest way from one to the next, chosen for that average.
const SPREAD: u32 = 2 * MEAN as u32 - 1;

/// Picks the rounds.
pub(crate) struct Sampler {
    /// State of a xorshift generator: rounds at regular distances would meet only some of the
    /// events that come at regular distances themselves.
    random: u32,
    rounds_left: u32,
    /// What reading the clock takes, nanoseconds, as far as known: the least that was seen.
    overhead_ns: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { random: 0x9e37_79b9, rounds_left: 1, overhead_ns: u64::MAX }
    }
}

impl Sampler {
    /// The watch of the next round.
    #[inline]
    pub fn next<'a>(&mut self, clock: &'a dyn Fn() -> Instant) -> Stopwatch<'a> {
        self.rounds_left -= 1;
        let all = self.rounds_left == 0;
        if all {
            self.pick(clock);
        }
        Stopwatch { clock, overhead_ns: self.overhead_ns, all }
    }

    #[cold]
    fn pick(&mut self, clock: &dyn Fn() -> Instant) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.rounds_left = 1 + self.random % SPREAD;
        let began = clock().as_ns();
        self.overhead_ns = self.overhead_ns.min(clock().as_ns().saturating_sub(began));
    }
}

/// Times what runs in a round.
pub(crate) struct Stopwatch<'a> {
    clock: &'a dyn Fn() -> Instant,
    overhead_ns: u64,
    /// Whether it times every poller of this round.
    all: bool,
}

impl<'a> Stopwatch<'a> {
    /// One for rounds that are not timed, with a clock that stands still.
    pub fn stopped(clock: &'a dyn Fn() -> Instant) -> Self {
        Self { clock, overhead_ns: 0, all: false }
    }

    pub const fn times_all(&self) -> bool {
        self.all
    }

    /// The time.
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Runs `f`; how many nanoseconds it took as well.
    pub fn time<T>(&self, f: impl FnOnce() -> T) -> (T, u64) {
        let began = (self.clock)().as_ns();
        let result = f();
        let took = (self.clock)().as_ns().saturating_sub(began);
        (result, took.saturating_sub(self.overhead_ns))
    }
}

impl fmt::Debug for Stopwatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopwatch").field("all", &self.all).finish_non_exhaustive()
    }
}
