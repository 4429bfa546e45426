//! What a core does beside what it is for, and how much of its time that may take.
//!
//! Pollers and tasks of the background run at the end of a round. While the foreground, which is
//! every other poller of every round, finds work, a round's background is a *section* that is
//! bounded and measured, and after one that took some time none runs until the foreground has had
//! as much more as is its due: with a share of a tenth that is nine times as long. So a single long
//! run is paid for afterwards, and whatever waits gets its turn.

use core::cell::Cell;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;

use basalt_env::{Instant, Work};

use crate::stopwatch::Stopwatch;
use crate::{Cores, Reactor};

/// Percent of a core's time that the background gets, unless that is set otherwise.
pub const BACKGROUND_SHARE_DEFAULT: u8 = 10;
/// The foreground is at work until it has found none for this long.
const AT_WORK: Duration = Duration::from_millis(5);
/// A section begins no more tasks once it has taken this long.
const SECTION: Duration = Duration::from_micros(20);
/// The shortest wait for the next section, however short the last one was: to find out that nobody
/// calls costs a round something, too.
const PAUSE_MIN: Duration = Duration::from_micros(20);
/// The longest wait for the next section: a bound to what a stopped clock or machine may look like.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The share, for all cores.
pub(crate) struct BackgroundPolicy {
    share: AtomicU8,
}

impl Default for BackgroundPolicy {
    fn default() -> Self {
        Self { share: AtomicU8::new(BACKGROUND_SHARE_DEFAULT) }
    }
}

impl Cores {
    /// Percent of a core's time that its background gets at most while the foreground has work.
    pub fn background_share(&self) -> u8 {
        self.background_policy().share.load(Ordering::Relaxed)
    }

    /// Sets that for all cores, at once: 1 to 100 percent, of which the last is no limit.
    pub fn set_background_share(&self, percent: u8) {
        self.background_policy().share.store(percent.clamp(1, 100), Ordering::Relaxed);
    }
}

/// Where a core's background stands.
#[derive(Default)]
pub(crate) struct Background {
    /// Until when the foreground is at work.
    at_work_until: Cell<Instant>,
    /// When the next section may begin, if it is.
    next: Cell<Instant>,
    /// Whether that of the last round was left out.
    is_left_out: Cell<bool>,
}

impl Background {
    /// The foreground has found work.
    #[inline]
    pub fn found_work(&self, now: Instant) {
        self.at_work_until.set(now + AT_WORK);
    }

    /// When the section that was left out of this round is due, if it was: until then a core may
    /// rest at most.
    pub fn due(&self) -> Option<Instant> {
        self.is_left_out.get().then(|| self.next.get())
    }

    /// A section has ended that took so long.
    fn pause(&self, began: Instant, ended: Instant, share: u8) {
        let took = ended.since(began).as_nanos() as u64;
        let share = u64::from(share.clamp(1, 100));
        // Without a clock nobody can say what is due.
        if share == 100 || took == 0 {
            return self.next.set(ended);
        }
        let pause = Duration::from_nanos(took.saturating_mul(100 - share) / share);
        self.next.set(ended + pause.clamp(PAUSE_MIN, PAUSE_MAX));
    }
}

impl Reactor {
    /// Runs what may be run of the background in this round.
    #[inline]
    pub(crate) fn run_background(&self, now: Instant, watch: &Stopwatch<'_>) -> Work {
        let background = &self.local.inner.background;
        if now >= background.at_work_until.get() {
            background.is_left_out.set(false);
            return self.run_list.run_background(&self.local, watch)
                + self.local.inner.tasks.run_background(&self.local, || true);
        }
        let is_left_out = now < background.next.get();
        background.is_left_out.set(is_left_out);
        if is_left_out { Work::IDLE } else { self.run_section(watch) }
    }

    #[inline(never)]
    fn run_section(&self, watch: &Stopwatch<'_>) -> Work {
        let (local, inner) = (&self.local, &self.local.inner);
        let began = watch.now();
        let mut work = self.run_list.run_background(local, watch);
        work += inner.tasks.run_background(local, || watch.now().since(began) < SECTION);
        inner.background.pause(began, watch.now(), inner.cores.background_share());
        work
    }
}
