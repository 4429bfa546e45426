//! When a core may rest, and what ends its rest.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use core::time::Duration;

use basalt_env::{CoreId, Instant};
use basalt_ring::Bell;
use spin::Once;

use crate::{Cores, Local, Reactor};

/// How long a core finds nothing before it begins to rest, unless [`Options`](crate::Options) or
/// [`Cores::set_rest_after`] say otherwise.
pub const REST_AFTER_DEFAULT: Duration = Duration::from_millis(1);
/// Cores that rest later than this pause between rounds that find nothing. Where QEMU emulates the
/// processor, each pause waits for the lock that its devices work under.
const PAUSED_NS: u64 = 500_000;
/// How long a rest lasts at most while something has to be polled.
const REST_POLLED: Duration = Duration::from_micros(100);
/// How long one lasts at most in any case: a bound to whatever may go wrong.
pub(crate) const REST_MAX: Duration = Duration::from_secs(1);
/// No rests at all.
const NEVER: u64 = u64::MAX;

/// What is about to happen to the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// It will look for work once more and then rest: say how the rest may end. Said again when
    /// that may have changed.
    Begins,
    /// It has work again.
    Ends,
}

/// How a rest may end, as far as one source of work knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doze {
    /// The source ends it by itself: a device's message, a bell.
    Signalled,
    /// As that, or by the clock at this time.
    Until(Instant),
    /// The source has to be looked at every now and then.
    Polled,
    /// The source is no more, and not to be told again.
    Gone,
}

type Hook = Box<dyn FnMut(&Local, Rest) -> Doze>;
/// Ends the rest of a core.
type Ringer = Box<dyn Fn(CoreId) + Send + Sync>;

/// What other cores know of a core's rests. One for each core, for good.
pub(crate) struct Bedside {
    core: CoreId,
    pub bell: Bell,
    ringer: Once<Ringer>,
}

impl Bedside {
    /// Never freed: there are as many as there are cores.
    pub fn of(core: CoreId) -> &'static Self {
        Box::leak(Box::new(Self { core, bell: Bell::default(), ringer: Once::new() }))
    }

    /// Wakes the core if it sleeps, for work that was just left for it.
    #[inline]
    pub fn wake(&self) {
        if self.bell.must_ring() {
            self.ring();
        }
    }

    /// The same for work that was left by a sequentially consistent exchange, or before a fence.
    #[inline]
    pub fn wake_after_fence(&self) {
        if self.bell.must_ring_after_fence() {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        if let Some(ringer) = self.ringer.get() {
            ringer(self.core);
        }
    }
}

/// How long every core finds nothing before it rests, and how. Shared by all.
pub(crate) struct IdlePolicy {
    /// What suits the machine.
    by_default: Duration,
    rest_after_ns: AtomicU64,
    /// Whether sources of work may be relied on to end rests.
    settled: AtomicBool,
}

impl IdlePolicy {
    pub fn new(by_default: Duration) -> Self {
        let rest_after_ns = AtomicU64::new(policy_ns(Some(by_default)));
        Self { by_default, rest_after_ns, settled: AtomicBool::new(false) }
    }
}

/// The policy as a number of nanoseconds.
fn policy_ns(rest_after: Option<Duration>) -> u64 {
    let ns = |after: Duration| u64::try_from(after.as_nanos()).unwrap_or(NEVER - 1);
    rest_after.map_or(NEVER, ns)
}

impl Cores {
    /// How the environment ends the rest of a core; to be set once, before cores rest.
    pub fn set_ringer(&self, ring: impl Fn(CoreId) + Clone + Send + Sync + 'static) {
        for bedside in self.bedsides() {
            let ring = ring.clone();
            bedside.ringer.call_once(|| Box::new(ring));
        }
    }

    /// Ends the rest of `core`, if it rests: to be called after leaving work for it elsewhere than
    /// in its mailbox.
    #[inline]
    pub fn wake(&self, core: CoreId) {
        if let Some(bedside) = self.bedside(core) {
            bedside.wake();
        }
    }

    /// Ends the rest of `core` whether or not it is known to rest.
    pub(crate) fn ring(&self, core: CoreId) {
        if let Some(bedside) = self.bedside(core) {
            bedside.ring();
        }
    }

    /// Everything is set up. Before, rests are short, no source of work is told of them and nobody
    /// ends them: devices come and go, and a machine is best left alone by cores that have nothing
    /// to do. (Emulators are known to die of a core that is woken while another maps a device.)
    pub fn settle(&self) {
        self.set_settled(true);
    }

    /// Something is set up anew, until it is settled again.
    pub fn unsettle(&self) {
        self.set_settled(false);
    }

    fn set_settled(&self, settled: bool) {
        self.idle_policy().settled.store(settled, Ordering::Relaxed);
        self.bedsides().for_each(Bedside::wake);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.idle_policy().settled.load(Ordering::Relaxed)
    }

    /// How long a core finds nothing before it rests; `None` if cores never rest.
    pub fn rest_after(&self) -> Option<Duration> {
        let ns = self.idle_policy().rest_after_ns.load(Ordering::Relaxed);
        (ns != NEVER).then(|| Duration::from_nanos(ns))
    }

    /// What that is unless somebody sets it.
    pub fn rest_after_by_default(&self) -> Duration {
        self.idle_policy().by_default
    }

    /// Sets that for all cores, at once.
    pub fn set_rest_after(&self, after: Option<Duration>) {
        self.idle_policy().rest_after_ns.store(policy_ns(after), Ordering::Relaxed);
        self.bedsides().for_each(Bedside::wake);
    }
}

/// Cores that work was left for in this round. They are looked at once, at its end, as the fence
/// that this takes costs more than to leave the work.
#[derive(Default)]
pub(crate) struct Wakes {
    cores: RefCell<Vec<CoreId>>,
}

impl Wakes {
    #[inline]
    pub fn add(&self, core: CoreId) {
        let mut cores = self.cores.borrow_mut();
        if !cores.contains(&core) {
            cores.push(core);
        }
    }

    /// Wakes those that sleep.
    #[inline]
    pub fn flush(&self, mesh: &Cores) {
        let mut cores = self.cores.borrow_mut();
        if cores.is_empty() {
            return;
        }
        fence(Ordering::SeqCst);
        for core in cores.drain(..) {
            if let Some(bedside) = mesh.bedside(core) {
                bedside.wake_after_fence();
            }
        }
    }
}

/// The sources of work of a core.
#[derive(Default)]
pub(crate) struct Sources {
    hooks: RefCell<Vec<Hook>>,
}

impl Sources {
    pub fn add(&self, hook: Hook) {
        self.hooks.borrow_mut().push(hook);
    }

    pub fn clear(&self) {
        let hooks = self.hooks.take();
        drop(hooks);
    }

    /// Tells all of them; when the rest has to end at the latest.
    fn tell(&self, local: &Local, rest: Rest) -> Limit {
        let mut limit = Limit { polled: false, until: None, settled: true };
        self.hooks.borrow_mut().retain_mut(|hook| {
            match hook(local, rest) {
                Doze::Signalled => {}
                Doze::Gone => return false,
                Doze::Polled => limit.polled = true,
                Doze::Until(at) => {
                    limit.until = Some(limit.until.map_or(at, |until: Instant| until.min(at)));
                }
            }
            true
        });
        limit
    }
}

#[derive(Clone, Copy)]
struct Limit {
    polled: bool,
    until: Option<Instant>,
    /// Whether the sources were told.
    settled: bool,
}

impl Limit {
    const UNSETTLED: Self = Self { polled: true, until: None, settled: false };
}

/// Where a core stands between work and rest.
///
/// ```text
///  Working ──nothing found for a while──> Armed ──nothing found again──> resting ──> Armed
///     ^                                     │
///     └────────────anything found───────────┘
/// ```
pub(crate) struct Idleness {
    busy_at: Instant,
    /// What limits the core's rests, once these have come.
    armed: Option<Limit>,
    /// When the last rest was to end, until that is accounted for.
    rest_until: Option<Instant>,
    /// Whether it was then that the last rest ended, and nobody's ring that ended it.
    by_clock: bool,
}

impl Default for Idleness {
    fn default() -> Self {
        Self { busy_at: Instant::ZERO, armed: None, rest_until: None, by_clock: false }
    }
}

impl Reactor {
    /// One round, and a rest where there has been nothing to do for long enough: what an
    /// environment calls for ever. `clock` tells the time; `rest` rests for at most that long, and
    /// is ended at once by any source of work that said so, also if that rang before it began.
    #[inline]
    pub fn turn(&mut self, clock: impl Fn() -> Instant, rest: impl FnOnce(Duration)) {
        let now = clock();
        let limit = self.begin_turn(now);
        if self.poll_timed(now, &clock).is_busy() {
            return self.work_found(now);
        }
        match limit {
            Some(limit) => self.rest(clock(), limit, rest),
            None => self.prepare_to_rest(now),
        }
    }

    /// Lies down if the core is to rest unless this round finds work.
    #[inline]
    fn begin_turn(&mut self, now: Instant) -> Option<Limit> {
        let limit = self.idleness.armed?;
        let until = self.idleness.rest_until.take();
        self.idleness.by_clock = until.is_some_and(|until| now >= until);
        if until.is_some_and(|until| now < until) {
            self.counters().woken.add(1);
        }
        if !self.has_been_idle(now) || limit.settled && !self.cores().is_settled() {
            // The policy was changed.
            self.end_rests();
            return None;
        }
        if limit.settled {
            self.bedside().bell.lie_down();
        }
        Some(limit)
    }

    /// Polls on for a while, as more may come; but not after work that the clock alone has brought,
    /// unless the next round finds some as well.
    #[inline]
    fn work_found(&mut self, now: Instant) {
        if self.idleness.by_clock {
            self.bedside().bell.get_up();
            return self.arm();
        }
        self.idleness.busy_at = now;
        self.end_rests();
    }

    fn rest(&mut self, now: Instant, limit: Limit, rest: impl FnOnce(Duration)) {
        let until = limit.until.into_iter().chain(self.local.inner.background.due()).min();
        let limit = Limit { until, ..limit };
        let expired = until.is_some_and(|until| until <= now);
        if expired || !limit.settled && self.cores().is_settled() {
            // Whose time that was may have another by now, or the sources can be told at last.
            self.bedside().bell.get_up();
            return self.arm();
        }
        let at_most = self.rest_for(now, limit);
        self.idleness.rest_until = Some(now + at_most);
        self.counters().rests.add(1);
        rest(at_most);
        self.bedside().bell.get_up();
    }

    /// Tells the sources of work to ring, if it is time.
    #[inline]
    fn prepare_to_rest(&mut self, now: Instant) {
        if self.has_been_idle(now) {
            self.arm();
        } else if self.cores().idle_policy().rest_after_ns.load(Ordering::Relaxed) >= PAUSED_NS {
            core::hint::spin_loop();
        }
    }

    /// Tells the sources that rests come, and asks how these may end; not before all is set up.
    #[cold]
    fn arm(&mut self) {
        let local = self.local();
        self.idleness.armed = Some(match self.cores().is_settled() {
            true => local.inner.sources.tell(&local, Rest::Begins),
            false => Limit::UNSETTLED,
        });
    }

    #[inline]
    fn has_been_idle(&self, now: Instant) -> bool {
        let idle = now.as_ns().saturating_sub(self.idleness.busy_at.as_ns());
        let after = self.cores().idle_policy().rest_after_ns.load(Ordering::Relaxed);
        after != NEVER && idle >= after
    }

    #[inline]
    fn end_rests(&mut self) {
        if self.idleness.armed.is_some() {
            self.get_up_for_work();
        }
    }

    #[cold]
    fn get_up_for_work(&mut self) {
        self.bedside().bell.get_up();
        if self.idleness.armed.take().is_some_and(|limit| limit.settled) {
            let local = self.local();
            local.inner.sources.tell(&local, Rest::Ends);
        }
    }

    fn rest_for(&self, now: Instant, limit: Limit) -> Duration {
        let most = if limit.polled { REST_POLLED } else { REST_MAX };
        let until = limit.until.into_iter().chain(self.next_deadline()).min();
        until.map_or(most, |at| at.since(now).min(most))
    }
}

impl fmt::Debug for Bedside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bedside").field("core", &self.core).finish_non_exhaustive()
    }
}
