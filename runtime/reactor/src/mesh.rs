use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_metrics::{Operation, OperationStats};
use basalt_ring::InlineFn;
use basalt_ring::mpsc::{self, Consumer, Producer, PushError};

use crate::background::BackgroundPolicy;
use crate::rest::{Bedside, IdlePolicy, REST_AFTER_DEFAULT};
use crate::stats::{CoreCounters, ReactorStats};
use crate::tracer::TraceClock;
use crate::{Local, Reactor, SendError};

/// What travels between cores: a closure run once on the core it was sent to.
pub(crate) type Event = InlineFn<Local>;

/// Sizes and budgets of a mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Events that a core's mailbox holds, rounded up to a power of two. Each takes 64 bytes.
    pub mailbox_depth: usize,
    /// Events that a core runs per round, from its mailbox and from itself each.
    pub event_budget: u32,
    /// How long a core finds nothing before it rests, unless that is set otherwise later.
    pub rest_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { mailbox_depth: 1024, event_budget: 64, rest_after: REST_AFTER_DEFAULT }
    }
}

/// One core's side that the others see.
struct Shared {
    mailbox: Producer<Event>,
    counters: Arc<CoreCounters>,
    bedside: &'static Bedside,
}

/// All cores' mailboxes and statistics, usable from any thread.
#[derive(Clone)]
pub struct Cores {
    shared: Arc<[Shared]>,
    idle_policy: Arc<IdlePolicy>,
    background_policy: Arc<BackgroundPolicy>,
    trace_clock: Arc<TraceClock>,
}

impl Cores {
    /// How many cores there are.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shared.is_empty()
    }

    /// What `core` has done so far, if it exists.
    pub fn stats(&self, core: CoreId) -> Option<ReactorStats> {
        self.shared.get(core.index()).map(|shared| shared.counters.snapshot())
    }

    /// How often something was done to data, by all cores together.
    pub fn operation(&self, operation: Operation) -> OperationStats {
        let of = |shared: &Shared| shared.counters.operations.get(operation);
        self.shared.iter().map(of).fold(OperationStats::default(), OperationStats::plus)
    }

    /// Runs `f` on `core`, from outside any reactor. See [`Local::send`].
    pub fn send(
        &self,
        core: CoreId,
        f: impl FnOnce(&Local) + Send + 'static,
    ) -> Result<(), SendError> {
        self.push(core, Event::new(f)).map_err(|(reason, _)| reason)?;
        self.wake(core);
        Ok(())
    }

    /// Puts `event` into the mailbox of `core`, or gives it back. The core is to be woken for it.
    pub(crate) fn push(&self, core: CoreId, event: Event) -> Result<(), (SendError, Event)> {
        let Some(shared) = self.shared.get(core.index()) else {
            return Err((SendError::NoSuchCore, event));
        };
        shared.mailbox.push(event).map_err(|refused| match refused {
            PushError::Full(event) => (SendError::Full, event),
            PushError::Closed(event) => (SendError::NoSuchCore, event),
        })
    }

    pub(crate) fn bedside(&self, core: CoreId) -> Option<&'static Bedside> {
        self.shared.get(core.index()).map(|shared| shared.bedside)
    }

    pub(crate) fn bedsides(&self) -> impl Iterator<Item = &'static Bedside> {
        self.shared.iter().map(|shared| shared.bedside)
    }

    pub(crate) fn idle_policy(&self) -> &IdlePolicy {
        &self.idle_policy
    }

    pub(crate) fn background_policy(&self) -> &BackgroundPolicy {
        &self.background_policy
    }

    pub(crate) fn trace_clock(&self) -> &TraceClock {
        &self.trace_clock
    }

    pub(crate) fn counters(&self, core: CoreId) -> Option<&Arc<CoreCounters>> {
        self.shared.get(core.index()).map(|shared| &shared.counters)
    }
}

impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cores").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What a core needs to build its reactor. Made on any thread, built on the core itself.
#[derive(Debug)]
pub struct Seed {
    core: CoreId,
    cores: Cores,
    mailbox: Consumer<Event>,
    options: Options,
}

impl Seed {
    /// The core it is for.
    pub const fn core(&self) -> CoreId {
        self.core
    }

    /// The handle to all cores.
    pub fn cores(&self) -> Cores {
        self.cores.clone()
    }

    /// Builds the reactor. It never leaves the calling core.
    pub fn build(self) -> Reactor {
        Reactor::new(self.core, self.cores, self.mailbox, self.options)
    }
}

/// Connects `cores` cores (at most 65,536) with each other: one seed each, in order.
pub fn mesh(cores: usize, options: Options) -> Vec<Seed> {
    let ids = 0..=u16::MAX;
    let (shared, mailboxes): (Vec<_>, Vec<_>) = ids
        .clone()
        .take(cores)
        .map(|id| {
            let (mailbox, consumer) = mpsc::channel(options.mailbox_depth);
            let bedside = Bedside::of(CoreId(id));
            (Shared { mailbox, counters: Arc::default(), bedside }, consumer)
        })
        .unzip();
    let idle_policy = Arc::new(IdlePolicy::new(options.rest_after));
    let (background_policy, trace_clock) = (Arc::default(), Arc::default());
    let cores = Cores { shared: shared.into(), idle_policy, background_policy, trace_clock };
    mailboxes
        .into_iter()
        .zip(ids)
        .map(|(mailbox, id)| Seed { core: CoreId(id), cores: cores.clone(), mailbox, options })
        .collect()
}
