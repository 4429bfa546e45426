use core::time::Duration;

use basalt_metrics::{Counter, Operations};

use crate::activity::Running;
use crate::trace::Recorder;
use crate::tracer::Shown;

/// What a reactor has done since it was built (SPDK's `framework_get_reactors`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReactorStats {
    /// Nanoseconds of rounds that found work.
    pub busy_ns: u64,
    /// Nanoseconds of rounds that found none.
    pub idle_ns: u64,
    /// Rounds run.
    pub rounds: u64,
    /// How often it rested for want of work.
    pub rests: u64,
    /// How many of those ended before their time: something woke it.
    pub woken: u64,
    /// Events run.
    pub events: u64,
    /// Tasks alive now.
    pub tasks: u64,
    /// Pollers registered now, timed ones included.
    pub pollers: u64,
}

/// What a poller has done since it was registered (SPDK's `thread_get_pollers`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollerStats {
    /// The name given at registration.
    pub name: &'static str,
    /// The period of a timed poller.
    pub period: Option<Duration>,
    /// How often it ran.
    pub runs: u64,
    /// How many of those runs found work.
    pub busy: u64,
    /// Nanoseconds of runs that found work: an estimate, as only some rounds are timed.
    pub busy_ns: u64,
    /// Nanoseconds of runs that found none, estimated likewise.
    pub idle_ns: u64,
}

/// One core's counters; only its reactor writes them. A cache line pair of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CoreCounters {
    pub busy_ns: Counter,
    pub idle_ns: Counter,
    pub rounds: Counter,
    pub rests: Counter,
    pub woken: Counter,
    pub events: Counter,
    pub tasks: Counter,
    pub pollers: Counter,
    pub running: Running,
    pub recorder: Recorder,
    pub shown: Shown,
    pub operations: Operations,
}

impl CoreCounters {
    pub fn snapshot(&self) -> ReactorStats {
        ReactorStats {
            busy_ns: self.busy_ns.get(),
            idle_ns: self.idle_ns.get(),
            rounds: self.rounds.get(),
            rests: self.rests.get(),
            woken: self.woken.get(),
            events: self.events.get(),
            tasks: self.tasks.get(),
            pollers: self.pollers.get(),
        }
    }
}
