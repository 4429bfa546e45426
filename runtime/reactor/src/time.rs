use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::mem;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use basalt_env::{Instant, Work};

use crate::Local;
use crate::poller::Entry;
use crate::stopwatch::Stopwatch;

/// A timer's deadline, and its number among timers with the same one.
pub(crate) type TimerKey = (Instant, u64);

/// What happens at a deadline.
enum Action {
    Wake(Waker),
    Run(Rc<Entry>),
}

/// A core's timers.
pub(crate) struct Timers {
    /// Ordered by key. A deque keeps its memory, so that timers that come and go allocate nothing;
    /// most are either due soonest or start last, at its cheap ends.
    queue: RefCell<VecDeque<(TimerKey, Action)>>,
    /// No timer is due before this; spares idle rounds the look into the queue.
    none_before: Cell<Instant>,
    /// Numbers timers, so that equal deadlines keep their order.
    next_number: Cell<u64>,
}

const NEVER: Instant = Instant::from_ns(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Self { queue: RefCell::default(), none_before: Cell::new(NEVER), next_number: Cell::new(0) }
    }
}

impl Timers {
    /// Starts the timer of a timed poller.
    pub fn start(&self, now: Instant, entry: &Rc<Entry>) {
        if let Some(period) = entry.period() {
            self.schedule(now + period, now, entry);
        }
    }

    pub fn remove(&self, key: Option<TimerKey>) {
        let Some(key) = key else { return };
        let mut queue = self.queue.borrow_mut();
        let found = queue.binary_search_by_key(&key, |(key, _)| *key);
        let removed = found.ok().and_then(|index| queue.remove(index));
        // What it drops may come back here.
        drop(queue);
        drop(removed);
    }

    pub fn clear(&self) {
        let queue = self.queue.take();
        drop(queue);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.borrow().front().map(|((deadline, _), _)| *deadline)
    }

    /// Runs everything whose deadline has come.
    #[inline]
    pub fn run_due(&self, local: &Local, watch: &Stopwatch<'_>) -> Work {
        if local.now() < self.none_before.get() {
            return Work::IDLE;
        }
        self.run_all_due(local, watch)
    }

    #[cold]
    fn run_all_due(&self, local: &Local, watch: &Stopwatch<'_>) -> Work {
        let mut work = Work::IDLE;
        while let Some((key, action)) = self.pop_due(local.now()) {
            work += match action {
                Action::Wake(waker) => {
                    waker.wake();
                    Work(1)
                }
                Action::Run(entry) => self.run_timed(key, &entry, local, watch),
            };
        }
        self.none_before.set(self.next_deadline().unwrap_or(NEVER));
        work
    }

    fn pop_due(&self, now: Instant) -> Option<(TimerKey, Action)> {
        self.queue.borrow_mut().pop_front_if(|((deadline, _), _)| *deadline <= now)
    }

    fn run_timed(
        &self,
        key: TimerKey,
        entry: &Rc<Entry>,
        local: &Local,
        watch: &Stopwatch<'_>,
    ) -> Work {
        entry.set_timer(None);
        let work = entry.run_timed(local, watch, 1);
        if let (true, Some(period)) = (entry.is_registered(), entry.period()) {
            let on_time = key.0 + period;
            let missed = on_time <= local.now();
            self.schedule(if missed { local.now() + period } else { on_time }, local.now(), entry);
        }
        work
    }

    /// Always after `now`, so that a round never meets a timer it started itself.
    fn schedule(&self, deadline: Instant, now: Instant, entry: &Rc<Entry>) {
        let key = self.new_key(deadline.max(now + Duration::from_nanos(1)));
        entry.set_timer(Some(key));
        self.insert(key, Action::Run(entry.clone()));
    }

    fn new_key(&self, deadline: Instant) -> TimerKey {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        (deadline, number)
    }

    fn insert(&self, key: TimerKey, action: Action) {
        self.none_before.set(self.none_before.get().min(key.0));
        let mut queue = self.queue.borrow_mut();
        let earlier = match queue.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(index) => queue.get_mut(index).map(|(_, old)| mem::replace(old, action)),
            Err(index) => {
                queue.insert(index, (key, action));
                None
            }
        };
        drop(queue);
        drop(earlier);
    }
}

/// Waits until a time. Made by [`Local::sleep`] and [`Local::sleep_until`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    local: Local,
    deadline: Instant,
    key: Option<TimerKey>,
}

impl Sleep {
    /// When it ends.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let local = self.local.clone();
        let timers = &local.inner.timers;
        if local.now() >= self.deadline {
            timers.remove(self.key.take());
            return Poll::Ready(());
        }
        if local.inner.ended.get() {
            return Poll::Pending;
        }
        let key = self.key.unwrap_or_else(|| timers.new_key(self.deadline));
        self.key = Some(key);
        timers.insert(key, Action::Wake(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.local.inner.timers.remove(self.key.take());
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// The time was up before the future was ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not done in time")
    }
}

impl Local {
    /// Waits for `duration` from the time of this round.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Waits until the first round at or after `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep { local: self.clone(), deadline, key: None }
    }

    /// Waits for `future` for at most `limit`, then drops it.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep(limit));
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            sleep.as_mut().poll(context).map(|()| Err(Elapsed))
        })
        .await
    }
}
