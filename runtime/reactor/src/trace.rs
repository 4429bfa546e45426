//! The last things each core did: what is printed when the machine stops.

use core::fmt;

use basalt_env::{CoreId, Instant};
use basalt_metrics::{Trace, TraceEntry};

use crate::Cores;
use crate::activity::{Activity, Running};

/// Entries kept of each core.
pub(crate) const TRACE_LEN: usize = 64;

const EVENTS: u64 = 0;
const TASK: u64 = 1;
const POLLER: u64 = 2;

/// What a core did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceEvent {
    /// It ran so many events.
    Events(u64),
    /// It ran the task of that name.
    Task(&'static str),
    /// The poller of that name found so much work.
    Poller(&'static str, u64),
}

/// What a core did, and in the round of which time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceLine {
    /// When the round began.
    pub at: Instant,
    /// What it did.
    pub event: TraceEvent,
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.at.as_us();
        write!(f, "[{}.{:06}] ", us / 1_000_000, us % 1_000_000)?;
        match self.event {
            TraceEvent::Events(count) => write!(f, "events: {count}"),
            TraceEvent::Task(name) => write!(f, "task {name}"),
            TraceEvent::Poller(name, work) => write!(f, "poller {name}: {work}"),
        }
    }
}

/// Writes down what its core does.
pub(crate) struct Recorder {
    trace: Trace,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { trace: Trace::new(TRACE_LEN) }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("written", &self.trace.written()).finish()
    }
}

impl Recorder {
    #[inline]
    pub fn events(&self, at: Instant, count: u32) {
        self.record(at, EVENTS, Activity::NONE, count);
    }

    #[inline]
    pub fn task(&self, at: Instant, task: Activity) {
        self.record(at, TASK, task, 1);
    }

    #[inline]
    pub fn poller(&self, at: Instant, poller: Activity, work: u32) {
        self.record(at, POLLER, poller, work);
    }

    #[inline]
    fn record(&self, at: Instant, kind: u64, activity: Activity, count: u32) {
        let (a, b) = (activity.to_bits(), count.into());
        self.trace.record(TraceEntry { at: at.as_ns(), kind, a, b, c: 0 });
    }

    fn line(entry: TraceEntry, running: &Running) -> TraceLine {
        let name = || running.name(Activity::from_bits(entry.a)).unwrap_or("nothing");
        let event = match entry.kind {
            TASK => TraceEvent::Task(name()),
            POLLER => TraceEvent::Poller(name(), entry.b),
            _ => TraceEvent::Events(entry.b),
        };
        TraceLine { at: Instant::from_ns(entry.at), event }
    }
}

impl Cores {
    /// The last things that `core` did, up to 64, oldest first. Locks nothing and allocates
    /// nothing: it may be called in a panic, while the core goes on or has failed.
    pub fn trace(&self, core: CoreId) -> impl Iterator<Item = TraceLine> {
        let counters = self.counters(core);
        counters.into_iter().flat_map(|counters| {
            counters.recorder.trace.iter().map(|entry| Recorder::line(entry, &counters.running))
        })
    }

    /// What `core` is in right now; none between two rounds, or while it rests.
    pub fn running(&self, core: CoreId) -> Option<&'static str> {
        let running = &self.counters(core)?.running;
        running.name(running.get())
    }
}
