use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId};
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::time::Duration;

use basalt_env::{CoreId, Instant, Work};
use basalt_metrics::Operations;
use basalt_ring::{Full, spsc};

use crate::background::Background;
use crate::mesh::Event;
use crate::poller::{Poller, Pollers, When};
use crate::rest::{Doze, Rest, Sources, Wakes};
use crate::stats::CoreCounters;
use crate::tasks::Tasks;
use crate::time::Timers;
use crate::tracer::Tracer;
use crate::{Cores, PollerStats};

/// Why an event could not be sent. The closure has been dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The core's mailbox is full: try again in a later round.
    Full,
    /// There is no such core, or its reactor has ended.
    NoSuchCore,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the core's mailbox is full",
            Self::NoSuchCore => "there is no such core",
        })
    }
}

/// Everything of a core that its pollers, tasks and events may reach.
pub(crate) struct Inner {
    pub core: CoreId,
    pub cores: Cores,
    /// What other cores read of this one.
    pub counters: Arc<CoreCounters>,
    pub now: Cell<Instant>,
    pub tracer: Tracer,
    /// Set when the reactor is gone: nothing runs any more.
    pub ended: Cell<bool>,
    /// Events to the core itself: no atomic exchange, no other core's cache.
    pub loopback: RefCell<spsc::Producer<Event>>,
    pub pollers: Pollers,
    pub timers: Timers,
    pub tasks: Tasks,
    pub background: Background,
    pub sources: Sources,
    pub wakes: Wakes,
    pub services: RefCell<Vec<(TypeId, Rc<dyn Any>)>>,
}

/// The handle to the core one is on. Cheap to clone, never leaves the core.
#[derive(Clone)]
pub struct Local {
    pub(crate) inner: Rc<Inner>,
}

impl Local {
    /// This core.
    pub fn core(&self) -> CoreId {
        self.inner.core
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.inner.cores.len()
    }

    /// The handle to all cores; a clone of it may be moved to other threads.
    pub fn mesh(&self) -> &Cores {
        &self.inner.cores
    }

    /// The time of this round.
    pub fn now(&self) -> Instant {
        self.inner.now.get()
    }

    /// Starts a task. It first runs in this round if tasks have not run yet, else in the next.
    ///
    /// Its memory is one allocation, freed once it has finished and nobody holds its waker. When
    /// the reactor ends, its tasks are dropped where they wait.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        if !self.inner.ended.get() {
            self.inner.tasks.spawn(name, task);
        }
    }

    /// Starts a task of the background: while the foreground of the core has work, all of those get
    /// [a share](Cores::background_share) of its time.
    pub fn spawn_background(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        if !self.inner.ended.get() {
            self.inner.tasks.spawn_background(name, task);
        }
    }

    /// Runs `f` in the background of every round that has one, from the next on, until the
    /// [`Poller`] is dropped. See [`Self::spawn_background`].
    pub fn background_poller(
        &self,
        name: &'static str,
        f: impl FnMut(&Self) -> Work + 'static,
    ) -> Poller {
        Poller::register(self, name, When::InBackground, f)
    }

    /// Runs `f` every round, from the next on, until the [`Poller`] is dropped.
    pub fn poller(&self, name: &'static str, f: impl FnMut(&Self) -> Work + 'static) -> Poller {
        Poller::register(self, name, When::EveryRound, f)
    }

    /// Runs `f` at the end of every round, after all other pollers and the tasks, from the next
    /// round on, until the [`Poller`] is dropped.
    ///
    /// For what is to be done once for all that a round has brought about: a doorbell, a frame.
    pub fn late_poller(
        &self,
        name: &'static str,
        f: impl FnMut(&Self) -> Work + 'static,
    ) -> Poller {
        Poller::register(self, name, When::EndOfRound, f)
    }

    /// Runs `f` every `period`, the first time one period from now, until the [`Poller`] is
    /// dropped.
    ///
    /// A run that comes late does not shift the later ones, and missed runs are not made up for.
    pub fn timed_poller(
        &self,
        name: &'static str,
        period: Duration,
        f: impl FnMut(&Self) -> Work + 'static,
    ) -> Poller {
        Poller::register(self, name, When::Every(period), f)
    }

    /// Has `source` told of this core's rests, for as long as the reactor lives. A source of work
    /// that tells of none is taken to end rests by itself.
    pub fn on_rest(&self, source: impl FnMut(&Self, Rest) -> Doze + 'static) {
        if !self.inner.ended.get() {
            self.inner.sources.add(Box::new(source));
        }
    }

    /// Where what this core does to data is counted.
    pub fn operations(&self) -> &Operations {
        &self.inner.counters.operations
    }

    /// What each poller of this core has done, in order of registration.
    pub fn pollers(&self) -> Vec<PollerStats> {
        self.inner.pollers.stats()
    }

    /// The names of the tasks alive on this core.
    pub fn tasks(&self) -> Vec<&'static str> {
        self.inner.tasks.names()
    }

    /// Runs `f` once on `core`, in a later round; `core` may be this one.
    ///
    /// The captures (at most 48 bytes, checked at compile time) travel inline: nothing is
    /// allocated. Events from one core to another run in the order sent.
    pub fn send(
        &self,
        core: CoreId,
        f: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<(), SendError> {
        self.push(core, Event::new(f)).map_err(|(reason, _)| reason)
    }

    /// Sends an event, or gives it back with the reason.
    pub(crate) fn push(&self, core: CoreId, event: Event) -> Result<(), (SendError, Event)> {
        if core != self.inner.core {
            self.inner.cores.push(core, event)?;
            self.wake(core);
            return Ok(());
        }
        if self.inner.ended.get() {
            return Err((SendError::NoSuchCore, event));
        }
        let pushed = self.inner.loopback.borrow_mut().push(event);
        pushed.map_err(|Full(event)| (SendError::Full, event))
    }

    /// Ends the rest of `core`, if it rests, at the end of this round: to be called after leaving
    /// work for it elsewhere than in its mailbox.
    pub fn wake(&self, core: CoreId) {
        self.inner.wakes.add(core);
    }

    /// Makes `service` this core's instance of `T`, in place of an earlier one.
    pub fn provide<T: 'static>(&self, service: Rc<T>) {
        if self.inner.ended.get() {
            return;
        }
        let id = TypeId::of::<T>();
        let mut services = self.inner.services.borrow_mut();
        let earlier = services.iter().position(|(other, _)| *other == id);
        let earlier = earlier.map(|index| services.swap_remove(index));
        services.push((id, service));
        drop(services);
        drop(earlier);
    }

    /// This core's instance of `T`, if one was provided.
    pub fn service<T: 'static>(&self) -> Option<Rc<T>> {
        let services = self.inner.services.borrow();
        let (_, service) = services.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        service.clone().downcast().ok()
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("core", &self.core()).finish_non_exhaustive()
    }
}
