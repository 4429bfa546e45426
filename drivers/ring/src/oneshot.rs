//! One value from a sender to a waiting receiver, on the same core or another.
//!
//! ```text
//!  Idle ──1 register──> Waiting          1  the receiver stored its waker
//!    ^──2 reclaim──────────┘             2  the receiver is polled again and takes it back
//!  Idle, Waiting ──3──> Done             3  the sender sent, or was dropped without sending
//! ```
//!
//! The waker belongs to the receiver while `Idle`, to nobody while `Waiting`, and to the sender if
//! it made transition 3 from `Waiting`. The value is the sender's until `Done`, then the
//! receiver's.
#![expect(unsafe_code, reason = "a lock-free hand-over; DESIGN §5 places it here")]

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::sync::{Arc, AtomicU8, Ordering, UnsafeCell};

const IDLE: u8 = 0;
const WAITING: u8 = 1;
const DONE: u8 = 2;

struct Shared<T> {
    state: AtomicU8,
    waker: UnsafeCell<Option<Waker>>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value moves between threads, which `T: Send` allows; `Waker` is `Send` and `Sync`.
// Who may touch which cell is told by `state`, as drawn above.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The sender was dropped without sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Canceled;

impl fmt::Display for Canceled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side went away without an answer")
    }
}

/// Makes a connected pair.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: AtomicU8::new(IDLE),
        waker: UnsafeCell::new(None),
        value: UnsafeCell::new(None),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The half that answers. Dropping it unused tells the receiver [`Canceled`].
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Hands `value` over and wakes the receiver. If that is gone, the value is dropped.
    pub fn send(self, value: T) {
        // SAFETY: the value cell is the sender's until `Done`, which only our drop sets.
        self.shared.value.with_mut(|cell| unsafe { *cell = Some(value) });
    }

    /// Whether the receiver is gone and an answer would reach nobody.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.state.swap(DONE, Ordering::AcqRel) != WAITING {
            return;
        }
        // SAFETY: transition 3 from `Waiting` makes the waker ours.
        let waker = self.shared.waker.with_mut(|cell| unsafe { (*cell).take() });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The half that waits: a future of the value. Not to be polled again once it is ready.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// Makes the state `Idle`, unless the sender is done.
    fn reclaim(&self) -> Result<(), Done> {
        let exchange =
            self.shared.state.compare_exchange(WAITING, IDLE, Ordering::Acquire, Ordering::Acquire);
        match exchange {
            Err(DONE) => Err(Done),
            _ => Ok(()),
        }
    }

    /// Stores the waker and makes the state `Waiting`, unless the sender is done.
    fn register(&self, waker: Waker) -> Result<(), Done> {
        // SAFETY: the state is `Idle`, in which the waker is the receiver's; the sender may only
        // set `Done` from it, after which it leaves the waker alone.
        self.shared.waker.with_mut(|cell| unsafe { *cell = Some(waker) });
        let exchange =
            self.shared.state.compare_exchange(IDLE, WAITING, Ordering::Release, Ordering::Acquire);
        exchange.map_or(Err(Done), |_| Ok(()))
    }

    fn take(&self) -> Result<T, Canceled> {
        // SAFETY: `Done` was loaded with acquire: the value is the receiver's.
        self.shared.value.with_mut(|cell| unsafe { (*cell).take() }).ok_or(Canceled)
    }
}

/// The sender is done, and its writes are visible.
struct Done;

impl<T> Future for Receiver<T> {
    type Output = Result<T, Canceled>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waiting = self.reclaim().and_then(|()| self.register(context.waker().clone()));
        match waiting {
            Ok(()) => Poll::Pending,
            Err(Done) => Poll::Ready(self.take()),
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
