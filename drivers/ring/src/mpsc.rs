//! A bounded ring from many producers to one consumer.
//!
//! Each slot carries a sequence number that says whose turn it is (after D. Vyukov's bounded
//! queue). With capacity N, slot i and lap k:
//!
//! ```text
//!  seq = kN + i         free: the producer that wins position kN + i may fill it
//!  seq = kN + i + 1     filled: the consumer may take it, and sets (k + 1)N + i
//! ```
//!
//! Dropping the consumer closes the ring: later pushes are refused, values on their way are
//! dropped.
#![expect(unsafe_code, reason = "a lock-free ring; DESIGN §5 places it here")]

use alloc::boxed::Box;
use core::fmt;
use core::mem::MaybeUninit;

use crate::sync::{Arc, AtomicUsize, Ordering, Padded, UnsafeCell, ring_capacity, spin_loop};

/// Set in `tail` once the consumer is gone. Positions stay below: 2^63 pushes take centuries.
const CLOSED: usize = 1 << (usize::BITS - 1);

struct Slot<T> {
    seq: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct Ring<T> {
    /// The next position to fill, and [`CLOSED`].
    tail: Padded<AtomicUsize>,
    mask: usize,
    slots: Box<[Slot<T>]>,
}

// SAFETY: values move between threads, which `T: Send` allows; a slot is only touched by the one
// whose turn its sequence number says it is.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for Ring<T> {}

/// Why a push was refused, with the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError<T> {
    /// There is no room now.
    Full(T),
    /// The consumer is gone: there will never be room.
    Closed(T),
}

impl<T> PushError<T> {
    /// The value that was refused.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }
}

/// Makes a ring of `capacity` values, rounded up to a power of two, at least 2.
pub fn channel<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = ring_capacity(capacity);
    let slot =
        |seq| Slot { seq: AtomicUsize::new(seq), value: UnsafeCell::new(MaybeUninit::uninit()) };
    let ring = Arc::new(Ring {
        tail: Padded(AtomicUsize::new(0)),
        mask: capacity - 1,
        slots: (0..capacity).map(slot).collect(),
    });
    (Producer { ring: ring.clone() }, Consumer { ring, head: 0 })
}

/// A half that fills. Clone it, or share it by reference.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
}

impl<T> Producer<T> {
    /// Appends `value`, or gives it back.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), PushError<T>> {
        let ring = &*self.ring;
        let mut tail = ring.tail.0.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return Err(PushError::Closed(value));
            }
            let slot = &ring.slots[tail & ring.mask];
            let seq = slot.seq.load(Ordering::Acquire);
            if seq < tail {
                return Err(PushError::Full(value));
            }
            if seq > tail {
                // Another producer won this position since `tail` was read.
                tail = ring.tail.0.load(Ordering::Relaxed);
                continue;
            }
            match ring.tail.0.compare_exchange_weak(
                tail,
                tail + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    // SAFETY: `seq == tail` says that the slot is free (the consumer's release
                    // was acquired above), and the exchange gave this position to us alone.
                    slot.value.with_mut(|cell| unsafe {
                        (*cell).write(value);
                    });
                    slot.seq.store(tail + 1, Ordering::Release);
                    return Ok(());
                }
                Err(now) => tail = now,
            }
        }
    }

    /// How many values the ring holds when full.
    pub fn capacity(&self) -> usize {
        self.ring.mask + 1
    }

    /// Whether the consumer is gone.
    pub fn is_closed(&self) -> bool {
        self.ring.tail.0.load(Ordering::Relaxed) & CLOSED != 0
    }
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone() }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// The half that empties.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest value.
    ///
    /// `None` also while the producer of the oldest position is between winning and filling it.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let slot = &self.ring.slots[self.head & self.ring.mask];
        if slot.seq.load(Ordering::Acquire) != self.head + 1 {
            return None;
        }
        // SAFETY: the sequence number, loaded with acquire, says that the slot is filled; there
        // is one consumer, and producers wait for the store below.
        let value = slot.value.with_mut(|cell| unsafe { (*cell).assume_init_read() });
        slot.seq.store(self.head + self.ring.mask + 1, Ordering::Release);
        self.head += 1;
        Some(value)
    }

    /// Whether a [`Self::pop`] would find nothing now.
    pub fn is_empty(&self) -> bool {
        let slot = &self.ring.slots[self.head & self.ring.mask];
        slot.seq.load(Ordering::Acquire) != self.head + 1
    }

    /// How many values the ring holds when full.
    pub fn capacity(&self) -> usize {
        self.ring.mask + 1
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        let end = self.ring.tail.0.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED;
        while self.head != end {
            // A producer that won its position before the close is a few instructions from done.
            if self.pop().is_none() {
                spin_loop();
            }
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}
