//! Ways for tasks to wait for each other.
//!
//! [`Notify`] is for tasks of one core. A [`oneshot`] may also cross cores, if its value may.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

pub use basalt_ring::oneshot;

/// Where a waiting task stands.
enum Stage {
    Waiting(Waker),
    /// Woken by `notify_one`: must pass the notification on if it goes away before it looks.
    Picked,
    /// Woken by `notify_all`.
    Released,
}

struct Waiter {
    id: u64,
    stage: Stage,
}

/// Tells tasks of the same core that something they wait for has changed.
///
/// A [`Self::notify_one`] that meets no waiter is kept (one, not more) for the next to come.
#[derive(Default)]
pub struct Notify {
    waiters: RefCell<VecDeque<Waiter>>,
    permit: Cell<bool>,
    next_id: Cell<u64>,
}

impl Notify {
    /// Nobody waits, nothing is kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the task that has waited longest, or the next one to wait.
    pub fn notify_one(&self) {
        let mut waiters = self.waiters.borrow_mut();
        let waiting = waiters.iter_mut().find(|waiter| matches!(waiter.stage, Stage::Waiting(_)));
        let Some(waiter) = waiting else {
            self.permit.set(true);
            return;
        };
        let stage = core::mem::replace(&mut waiter.stage, Stage::Picked);
        drop(waiters);
        if let Stage::Waiting(waker) = stage {
            waker.wake();
        }
    }

    /// Wakes every task that waits now.
    pub fn notify_all(&self) {
        let waiting_now = self.waiters.borrow().len();
        for index in 0..waiting_now {
            // The table is not borrowed while waking, whatever kind of waker it is.
            if let Some(waker) = self.release(index) {
                waker.wake();
            }
        }
    }

    fn release(&self, index: usize) -> Option<Waker> {
        let mut waiters = self.waiters.borrow_mut();
        let waiter = waiters.get_mut(index)?;
        if !matches!(waiter.stage, Stage::Waiting(_)) {
            return None;
        }
        match core::mem::replace(&mut waiter.stage, Stage::Released) {
            Stage::Waiting(waker) => Some(waker),
            Stage::Picked | Stage::Released => None,
        }
    }

    /// Waits for a notification. Only counts as waiting once it was polled.
    pub const fn notified(&self) -> Notified<'_> {
        Notified { notify: self, id: None }
    }

    /// Takes a waiter out of the table and says where it stood.
    fn remove(&self, id: u64) -> Option<Stage> {
        let mut waiters = self.waiters.borrow_mut();
        let index = waiters.iter().position(|waiter| waiter.id == id)?;
        waiters.remove(index).map(|waiter| waiter.stage)
    }

    fn add(&self, waker: Waker) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.waiters.borrow_mut().push_back(Waiter { id, stage: Stage::Waiting(waker) });
        id
    }

    /// Renews the waker of a waiter that still waits; says whether it does.
    fn renew(&self, id: u64, waker: &Waker) -> bool {
        let mut waiters = self.waiters.borrow_mut();
        let waiter = waiters.iter_mut().find(|waiter| waiter.id == id);
        let Some(Waiter { stage: Stage::Waiting(current), .. }) = waiter else {
            return false;
        };
        current.clone_from(waker);
        true
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("permit", &self.permit.get()).finish_non_exhaustive()
    }
}

/// Waits for a notification. Made by [`Notify::notified`].
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    /// The entry among the waiters, while there is one.
    id: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(id) = self.id else {
            if self.notify.permit.replace(false) {
                return Poll::Ready(());
            }
            self.id = Some(self.notify.add(context.waker().clone()));
            return Poll::Pending;
        };
        if self.notify.renew(id, context.waker()) {
            return Poll::Pending;
        }
        self.notify.remove(id);
        self.id = None;
        Poll::Ready(())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let stage = self.id.take().and_then(|id| self.notify.remove(id));
        if matches!(stage, Some(Stage::Picked)) {
            self.notify.notify_one();
        }
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").finish_non_exhaustive()
    }
}
