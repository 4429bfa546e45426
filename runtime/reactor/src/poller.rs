use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

use basalt_env::Work;
use basalt_metrics::{Tpoint, TraceGroup};

use crate::activity::Activity;
use crate::stopwatch::{self, Stopwatch};
use crate::time::TimerKey;
use crate::{Local, PollerStats};

type Body = Box<dyn FnMut(&Local) -> Work>;

/// When a poller runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    EveryRound,
    EndOfRound,
    InBackground,
    Every(Duration),
}

/// A registered poller.
pub(crate) struct Entry {
    /// `None` once unregistered.
    body: RefCell<Option<Body>>,
    registered: Cell<bool>,
    runs: Cell<u64>,
    busy: Cell<u64>,
    busy_ns: Cell<u64>,
    idle_ns: Cell<u64>,
    name: &'static str,
    activity: Activity,
    /// Whether its work is the foreground's.
    foreground: Cell<bool>,
    when: When,
    /// Its place among the timers, if timed.
    timer: Cell<Option<TimerKey>>,
}

impl Entry {
    /// Runs the body once, unless it was unregistered.
    #[inline(always)]
    pub fn run(&self, local: &Local) -> Work {
        let Ok(mut body) = self.body.try_borrow_mut() else {
            return Work::IDLE;
        };
        let Some(f) = body.as_mut() else {
            return Work::IDLE;
        };
        local.inner.counters.running.set(self.activity);
        let work = f(local);
        self.runs.set(self.runs.get() + 1);
        if work.is_busy() {
            self.busy.set(self.busy.get() + 1);
            local.inner.counters.recorder.poller(local.now(), self.activity, work.0);
            if self.foreground.get() {
                local.inner.background.found_work(local.now());
            }
        }
        if !self.registered.get() {
            // It unregistered itself: its captures go now that it no longer runs.
            let unregistered = body.take();
            drop(body);
            drop(unregistered);
        }
        work
    }

    /// The same, timed; what it took counts `weight` times.
    #[cold]
    pub fn run_timed(&self, local: &Local, watch: &Stopwatch<'_>, weight: u64) -> Work {
        let (work, ns) = watch.time(|| self.run_traced(local));
        let total = if work.is_busy() { &self.busy_ns } else { &self.idle_ns };
        total.set(total.get().saturating_add(ns.saturating_mul(weight)));
        work
    }

    /// The same, traced if that is wanted.
    #[cold]
    fn run_traced(&self, local: &Local) -> Work {
        let began = local.trace_begin();
        let work = self.run(local);
        if work.is_busy() {
            local.trace_end(Tpoint::ThreadPoller, began, self.activity, work.0);
        }
        work
    }

    pub const fn period(&self) -> Option<Duration> {
        match self.when {
            When::Every(period) => Some(period),
            When::EveryRound | When::EndOfRound | When::InBackground => None,
        }
    }

    pub fn set_timer(&self, key: Option<TimerKey>) {
        self.timer.set(key);
    }

    pub const fn is_registered(&self) -> bool {
        self.registered.get()
    }

    /// Makes it never run again, and drops its captures unless it is running right now.
    fn retire(&self) {
        self.registered.set(false);
        let body = self.body.try_borrow_mut().ok().and_then(|mut body| body.take());
        drop(body);
    }

    const fn stats(&self) -> PollerStats {
        PollerStats {
            name: self.name,
            period: self.period(),
            runs: self.runs.get(),
            busy: self.busy.get(),
            busy_ns: self.busy_ns.get(),
            idle_ns: self.idle_ns.get(),
        }
    }
}

/// All pollers of a core, in order of registration.
#[derive(Default)]
pub(crate) struct Pollers {
    all: RefCell<Vec<Rc<Entry>>>,
    /// Whether the reactor's run list is out of date.
    changed: Cell<bool>,
}

impl Pollers {
    pub fn stats(&self) -> Vec<PollerStats> {
        self.all.borrow().iter().map(|entry| entry.stats()).collect()
    }

    pub fn clear(&self) {
        self.changed.set(true);
        for entry in self.all.take() {
            entry.retire();
        }
    }

    fn add(&self, entry: Rc<Entry>) {
        self.all.borrow_mut().push(entry);
        self.changed.set(true);
    }

    fn remove(&self, entry: &Rc<Entry>) {
        self.all.borrow_mut().retain(|other| !Rc::ptr_eq(other, entry));
        self.changed.set(true);
    }
}

/// The reactor's own copy of the untimed pollers: it stays put while they come and go in a round.
#[derive(Default)]
pub(crate) struct RunList {
    every_round: Vec<Rc<Entry>>,
    end_of_round: Vec<Rc<Entry>>,
    in_background: Vec<Rc<Entry>>,
}

impl RunList {
    /// Takes note of pollers that have come and gone. To be called at the start of a round.
    #[inline]
    pub fn refresh(&mut self, local: &Local) {
        if local.inner.pollers.changed.replace(false) {
            self.copy(local);
        }
    }

    /// Runs every poller of the round's own phase once.
    #[inline]
    pub fn run(&self, local: &Local, watch: &Stopwatch<'_>) -> Work {
        run_all(&self.every_round, local, watch)
    }

    /// Runs every late poller once.
    #[inline]
    pub fn run_late(&self, local: &Local, watch: &Stopwatch<'_>) -> Work {
        run_all(&self.end_of_round, local, watch)
    }

    /// Runs every poller of the background once.
    #[inline]
    pub fn run_background(&self, local: &Local, watch: &Stopwatch<'_>) -> Work {
        run_all(&self.in_background, local, watch)
    }

    #[cold]
    fn copy(&mut self, local: &Local) {
        let all = local.inner.pollers.all.borrow();
        for (list, when) in [
            (&mut self.every_round, When::EveryRound),
            (&mut self.end_of_round, When::EndOfRound),
            (&mut self.in_background, When::InBackground),
        ] {
            list.clear();
            list.extend(all.iter().filter(|entry| entry.when == when).cloned());
        }
        local.inner.counters.pollers.set(all.len() as u64);
    }
}

#[inline]
fn run_all(entries: &[Rc<Entry>], local: &Local, watch: &Stopwatch<'_>) -> Work {
    if entries.is_empty() {
        return Work::IDLE;
    }
    if watch.times_all() {
        return run_all_timed(entries, local, watch);
    }
    if local.traces(TraceGroup::Thread) {
        return run_all_traced(entries, local);
    }
    entries.iter().fold(Work::IDLE, |work, entry| work + entry.run(local))
}

#[cold]
fn run_all_timed(entries: &[Rc<Entry>], local: &Local, watch: &Stopwatch<'_>) -> Work {
    let run = |entry: &Rc<Entry>| entry.run_timed(local, watch, stopwatch::MEAN);
    entries.iter().fold(Work::IDLE, |work, entry| work + run(entry))
}

#[cold]
fn run_all_traced(entries: &[Rc<Entry>], local: &Local) -> Work {
    entries.iter().fold(Work::IDLE, |work, entry| work + entry.run_traced(local))
}

/// A registration. Dropping it unregisters the poller, also from within itself.
#[must_use = "dropping a Poller unregisters it"]
pub struct Poller {
    entry: Rc<Entry>,
    local: Local,
    owned: Owned,
}

/// Who decides when a poller ends.
#[derive(PartialEq, Eq)]
enum Owned {
    ByHandle,
    ByReactor,
}

impl Poller {
    pub(crate) fn register(
        local: &Local,
        name: &'static str,
        when: When,
        f: impl FnMut(&Local) -> Work + 'static,
    ) -> Self {
        let entry = Rc::new(Entry {
            body: RefCell::new(Some(Box::new(f))),
            registered: Cell::new(true),
            runs: Cell::new(0),
            busy: Cell::new(0),
            busy_ns: Cell::new(0),
            idle_ns: Cell::new(0),
            name,
            activity: local.inner.counters.running.activity(name),
            foreground: Cell::new(matches!(when, When::EveryRound | When::EndOfRound)),
            when,
            timer: Cell::new(None),
        });
        if local.inner.ended.get() {
            entry.retire();
        } else {
            local.inner.pollers.add(entry.clone());
            local.inner.timers.start(local.now(), &entry);
        }
        Self { entry, local: local.clone(), owned: Owned::ByHandle }
    }

    /// Leaves the poller running for as long as the reactor lives.
    pub fn detach(mut self) {
        self.owned = Owned::ByReactor;
    }

    /// Makes it one that serves foreground and background alike, as a network card's does: that it
    /// finds work says nothing of the foreground.
    #[must_use = "dropping a Poller unregisters it"]
    pub fn for_both(self) -> Self {
        self.entry.foreground.set(false);
        self
    }

    /// What it has done so far.
    pub fn stats(&self) -> PollerStats {
        self.entry.stats()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        if self.owned == Owned::ByReactor || !self.entry.registered.get() {
            return;
        }
        self.local.inner.pollers.remove(&self.entry);
        self.local.inner.timers.remove(self.entry.timer.take());
        self.entry.retire();
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("name", &self.entry.name).finish_non_exhaustive()
    }
}
