//! Lock-free rings and the index arithmetic that every queue of the project shares.
//!
//! 1. Rings are bounded, their capacity is a power of two, and nothing allocates after
//!    construction.
//! 2. A refused push gives back what it was handed.
//! 3. An identifier that leaves the program ([`Tag`]) carries a generation, so that a stale or
//!    invented one is recognised and never used as an index.
//!
//! [`spsc`] and [`mpsc`] move values between cores, [`oneshot`] one answer, [`InlineFn`] is the
//! closure that fits in a ring slot; [`Bell`] ends the sleep of a core that work is left for;
//! [`Slots`] owns what is in flight, [`Cursor`] walks a device's ring. Neighbours: the reactor's
//! mailboxes and rests, the NVMe and virtio queues, the network's hand-over between cores. Depends
//! on `core` and `alloc` only.
//!
//! Every ordering claim has a model in `tests/loom.rs`, which `tests/models.rs` runs; alone:
//! `RUSTFLAGS="--cfg loom" cargo test -p basalt-ring --release --test loom`.
#![no_std]

extern crate alloc;

mod bell;
mod cursor;
mod inline_fn;
pub mod mpsc;
pub mod oneshot;
mod slots;
pub mod spsc;
mod sync;

pub use bell::Bell;
pub use cursor::Cursor;
pub use inline_fn::InlineFn;
pub use slots::{CapacityError, Rest, Slots, StaleTag, Tag};

/// The ring or table was full: here is what could not be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full<T>(pub T);
