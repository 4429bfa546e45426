//! A bounded ring from one producer to one consumer.
//!
//! Each half caches the other's index and reads the shared one only when the cache says that the
//! ring is full or empty, so that in the steady state a cache line moves once per batch.
#![expect(unsafe_code, reason = "a lock-free ring; DESIGN §5 places it here")]

use alloc::boxed::Box;
use core::fmt;
use core::mem::MaybeUninit;

use crate::Full;
use crate::sync::{Arc, AtomicUsize, Ordering, Padded, UnsafeCell, ring_capacity};

/// Indices run freely and wrap at the word size; `index & mask` is the slot.
///
/// `head..tail` are the filled slots. Only the consumer stores `head`, only the producer `tail`.
struct Ring<T> {
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
    mask: usize,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the ring moves values of `T` between threads, which `T: Send` allows; slots are only
// reached through the two halves, which hand each slot over by a release store of an index.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as for `Send`: no slot is ever reached by both halves at once.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & self.mask]
    }

    /// # Safety
    /// `index` must be filled and owned by the caller, and is empty afterwards.
    unsafe fn take(&self, index: usize) -> T {
        // SAFETY: the caller owns the filled slot; nobody reads it again before it is refilled.
        self.slot(index).with_mut(|slot| unsafe { (*slot).assume_init_read() })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let mut head = self.head.0.load(Ordering::Relaxed);
        let tail = self.tail.0.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: both halves are gone, so every slot in `head..tail` is filled and ours.
            drop(unsafe { self.take(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// Makes a ring of `capacity` values, rounded up to a power of two, at least 2.
pub fn channel<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = ring_capacity(capacity);
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring {
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
        mask: capacity - 1,
        slots,
    });
    let producer = Producer { ring: ring.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { ring, head: 0, tail_seen: 0 })
}

/// The half that fills.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Appends `value`, or gives it back if there is no room.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), Full<T>> {
        if self.known_room() == 0 {
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
            if self.known_room() == 0 {
                return Err(Full(value));
            }
        }
        // SAFETY: the slot lies outside `head..tail`: the consumer released it (the acquire load
        // of `head`) and does not look at it before the store of `tail` below.
        self.ring.slot(self.tail).with_mut(|slot| unsafe {
            (*slot).write(value);
        });
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// How many values surely fit now. Only the producer makes it smaller.
    pub fn room(&mut self) -> usize {
        self.head_seen = self.ring.head.0.load(Ordering::Acquire);
        self.known_room()
    }

    /// How many values the ring holds when full.
    pub fn capacity(&self) -> usize {
        self.ring.mask + 1
    }

    /// Whether the consumer is gone, so that nothing pushed is ever read.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.ring) == 1
    }

    #[inline]
    fn known_room(&self) -> usize {
        self.ring.mask + 1 - self.tail.wrapping_sub(self.head_seen)
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

/// The half that empties.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    tail_seen: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head` lies before the `tail` that was loaded with acquire, so the producer
        // filled the slot and does not touch it before the store of `head` below.
        let value = unsafe { self.ring.take(self.head) };
        self.head = self.head.wrapping_add(1);
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// How many values surely wait now. Only the consumer makes it smaller.
    pub fn len(&mut self) -> usize {
        self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
        self.tail_seen.wrapping_sub(self.head)
    }

    /// Whether nothing waits now.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// How many values the ring holds when full.
    pub fn capacity(&self) -> usize {
        self.ring.mask + 1
    }

    /// Whether the producer is gone, so that nothing more comes once the ring is empty.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.ring) == 1
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}
