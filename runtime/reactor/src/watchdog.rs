//! Tells of a core that does not come back from what it runs, and wakes one that does not come back
//! from its rest, which no machine should need. Cores watch each other in a ring; a core that is
//! alone is watched by whatever interrupts it.

use core::mem;
use core::time::Duration;

use basalt_env::{CoreId, Instant, Work};

use crate::activity::Activity;
use crate::rest::REST_MAX;
use crate::{Cores, Local, Poller};

/// How long a poller, task or event may take before it is told of.
pub const STALL: Duration = Duration::from_secs(1);
/// How often a core looks at the next one.
const PERIOD: Duration = Duration::from_millis(200);

/// How long a rest may take: longer than any does.
const OVERSLEPT: Duration = REST_MAX.saturating_add(PERIOD).saturating_add(PERIOD);

/// What a core was seen at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sight {
    activity: Activity,
    rounds: u64,
}

/// Watches a core; wholly passive, as a stuck core answers nothing.
#[derive(Debug)]
pub struct Watch {
    core: CoreId,
    sight: Sight,
    /// When it was first seen at that.
    since: Instant,
    told: bool,
}

/// What is to be told of a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// It is in what is called so, for this long by now.
    Stuck(&'static str, Duration),
    /// It rests for this long by now, and nothing has ended that: what was to has got lost.
    Overslept(Duration),
    /// It has come back from it after this long.
    Back(&'static str, Duration),
}

impl Local {
    /// Starts to watch the next core: a poller, task or event there that takes longer than
    /// [`STALL`] is logged by name, once, and again with its time when it has ended. If it does not
    /// wake when it should, it is woken.
    ///
    /// `None` if there is no other core.
    pub fn watch_next_core(&self) -> Option<Poller> {
        let cores = u16::try_from(self.cores()).ok().filter(|&cores| cores > 1)?;
        let core = CoreId((self.core().0 + 1) % cores);
        let mut watch = Watch::new(core);
        Some(self.timed_poller("watchdog", PERIOD, move |local| {
            if let Some(report) = watch.look(local.now(), local.mesh()) {
                report.log(core);
                if matches!(report, Report::Overslept(_)) {
                    local.mesh().ring(core);
                }
            }
            Work::IDLE
        }))
    }
}

impl Report {
    /// Tells of `core` in the log.
    pub fn log(&self, core: CoreId) {
        match self {
            Self::Stuck(name, time) => log::warn!(
                target: "watchdog",
                "core {core} has been in {name} for {} ms; nothing else runs there",
                time.as_millis()
            ),
            Self::Overslept(time) => log::warn!(
                target: "watchdog",
                "core {core} has not come back from its rest for {} ms; waking it",
                time.as_millis()
            ),
            Self::Back(name, time) => log::warn!(
                target: "watchdog",
                "core {core} is back from {name} after {} ms",
                time.as_millis()
            ),
        }
    }
}

impl Watch {
    /// Of `core`, of which nothing was seen yet.
    pub const fn new(core: CoreId) -> Self {
        let sight = Sight { activity: Activity::NONE, rounds: 0 };
        Self { core, sight, since: Instant::ZERO, told: false }
    }

    /// Looks at the core once. Times are as good as how often that is done.
    pub fn look(&mut self, now: Instant, cores: &Cores) -> Option<Report> {
        let counters = cores.counters(self.core)?;
        let seen = Sight { activity: counters.running.get(), rounds: counters.rounds.get() };
        let before = mem::replace(&mut self.sight, seen);
        let (name, time) = (counters.running.name(before.activity), now.since(self.since));
        if before != seen {
            self.since = now;
            let told = mem::replace(&mut self.told, false);
            return name.filter(|_| told).map(|name| Report::Back(name, time));
        }
        let Some(name) = name else {
            if time < OVERSLEPT {
                return None;
            }
            self.since = now;
            return Some(Report::Overslept(time));
        };
        if self.told || time < STALL {
            return None;
        }
        self.told = true;
        Some(Report::Stuck(name, time))
    }
}
