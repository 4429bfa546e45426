use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use basalt_env::{CoreId, Instant, Work};
use basalt_metrics::Tpoint;
use basalt_ring::{mpsc, spsc};

use crate::activity::Activity;
use crate::background::Background;
use crate::local::Inner;
use crate::mesh::{Event, Options};
use crate::poller::{Pollers, RunList};
use crate::rest::{Bedside, Idleness, Sources, Wakes};
use crate::stats::CoreCounters;
use crate::stopwatch::{Sampler, Stopwatch};
use crate::tasks::Tasks;
use crate::time::Timers;
use crate::tracer::Tracer;
use crate::{Cores, Local, ReactorStats};

/// One core's event loop.
///
/// Dropping it drops its tasks, pollers, services and unread events; a [`Local`] that outlives it
/// refuses everything new.
pub struct Reactor {
    pub(crate) local: Local,
    mailbox: mpsc::Consumer<Event>,
    loopback: spsc::Consumer<Event>,
    pub(crate) run_list: RunList,
    event_budget: u32,
    /// What running an event is called.
    event: Activity,
    /// When the last round began, and whether it found work; none before the first.
    last_round: Option<(Instant, Work)>,
    pub(crate) idleness: Idleness,
    sampler: Sampler,
    bedside: &'static Bedside,
}

impl Reactor {
    pub(crate) fn new(
        core: CoreId,
        cores: Cores,
        mailbox: mpsc::Consumer<Event>,
        options: Options,
    ) -> Self {
        let (loopback, loopback_events) = spsc::channel(options.mailbox_depth);
        let counters = cores.counters(core).cloned().unwrap_or_default();
        let event = counters.running.activity("an event");
        let bedside = cores.bedside(core).unwrap_or_else(|| Bedside::of(core));
        let inner = Inner {
            core,
            counters: Arc::clone(&counters),
            cores,
            now: Cell::new(Instant::ZERO),
            tracer: Tracer::default(),
            ended: Cell::new(false),
            loopback: RefCell::new(loopback),
            pollers: Pollers::default(),
            timers: Timers::default(),
            tasks: Tasks::new(counters, bedside),
            background: Background::default(),
            sources: Sources::default(),
            wakes: Wakes::default(),
            services: RefCell::new(Vec::new()),
        };
        Self {
            local: Local { inner: Rc::new(inner) },
            mailbox,
            loopback: loopback_events,
            run_list: RunList::default(),
            event_budget: options.event_budget.max(1),
            event,
            last_round: None,
            idleness: Idleness::default(),
            sampler: Sampler::default(),
            bedside,
        }
    }

    pub(crate) const fn bedside(&self) -> &'static Bedside {
        self.bedside
    }

    pub(crate) fn cores(&self) -> &Cores {
        &self.local.inner.cores
    }

    /// The handle to this core.
    pub fn local(&self) -> Local {
        self.local.clone()
    }

    /// Runs one round at the time `now` and says how much work it found.
    ///
    /// Time that goes backwards counts as no time. The time until the next call is accounted to
    /// this round: busy if it found work, idle otherwise.
    pub fn poll(&mut self, now: Instant) -> Work {
        self.round(now, &Stopwatch::stopped(&|| now))
    }

    /// The same, with pollers timed.
    #[inline]
    pub(crate) fn poll_timed(&mut self, now: Instant, clock: &dyn Fn() -> Instant) -> Work {
        let watch = self.sampler.next(clock);
        self.round(now, &watch)
    }

    #[inline]
    fn round(&mut self, now: Instant, watch: &Stopwatch<'_>) -> Work {
        let now = now.max(self.local.now());
        self.account(now);
        self.local.inner.now.set(now);
        let began = self.local.trace_round();
        let mut work = self.run_events(began);
        work += self.local.inner.timers.run_due(&self.local, watch);
        self.run_list.refresh(&self.local);
        work += self.run_list.run(&self.local, watch);
        work += self.local.inner.tasks.run(&self.local);
        work += self.run_list.run_late(&self.local, watch);
        work += self.run_background(now, watch);
        self.local.inner.wakes.flush(&self.local.inner.cores);
        self.local.inner.counters.running.set(Activity::NONE);
        if work.is_busy() {
            self.local.trace_end(Tpoint::ThreadRound, began, Activity::NONE, work.0);
        }
        self.last_round = Some((now, work));
        work
    }

    /// When the next timer is due, for an environment that rests until then. `None`: never.
    ///
    /// Only to be relied on after a round without work: pollers and woken tasks are always due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.local.inner.timers.next_deadline()
    }

    /// What this reactor has done so far. Other cores read it by [`Cores::stats`].
    pub fn stats(&self) -> ReactorStats {
        self.local.inner.cores.stats(self.local.core()).unwrap_or_default()
    }

    pub(crate) fn counters(&self) -> &CoreCounters {
        &self.local.inner.counters
    }

    fn account(&self, now: Instant) {
        let counters = &self.local.inner.counters;
        counters.rounds.add(1);
        let Some((then, work)) = self.last_round else {
            return;
        };
        let spent = if work.is_busy() { &counters.busy_ns } else { &counters.idle_ns };
        spent.add(now.as_ns().saturating_sub(then.as_ns()));
    }

    /// Runs events of other cores, then of this one, each within the budget.
    fn run_events(&mut self, began: u64) -> Work {
        let running = &self.local.inner.counters.running;
        let mut count = 0;
        while count < self.event_budget
            && let Some(event) = self.mailbox.pop()
        {
            running.set(self.event);
            event.call(&self.local);
            count += 1;
        }
        // Only those sent before this round, or one that sends itself on would fill the budget.
        for _ in 0..self.loopback.len().min(self.event_budget as usize) {
            let Some(event) = self.loopback.pop() else { break };
            running.set(self.event);
            event.call(&self.local);
            count += 1;
        }
        if count != 0 {
            let counters = &self.local.inner.counters;
            counters.events.add(u64::from(count));
            counters.recorder.events(self.local.now(), count);
            self.local.trace_end(Tpoint::ThreadEvents, began, Activity::NONE, count);
        }
        Work(count)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        let inner = &self.local.inner;
        inner.ended.set(true);
        inner.wakes.flush(&inner.cores);
        inner.tasks.clear();
        inner.pollers.clear();
        inner.timers.clear();
        inner.sources.clear();
        let services = inner.services.take();
        drop(services);
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("core", &self.local.core()).finish_non_exhaustive()
    }
}
