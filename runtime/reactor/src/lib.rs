//! One polled event loop per core.
//!
//! 1. Everything on a core is single-threaded: [`Reactor`], [`Local`], tasks and pollers are
//!    `!Send`. Cores speak only by fixed-size events in lock-free rings.
//! 2. The loop knows no clock and no way to wait: the environment calls [`Reactor::turn`] for ever,
//!    which runs a round and, where there has been nothing to do for a while, has the environment
//!    rest until a device, another core or the clock has work ([`Rest`]).
//! 3. One round runs, in this order: events (within a budget), timers that are due, every poller in
//!    order of registration, each task that was woken, once, and at last every late poller
//!    ([`Local::late_poller`]). Late pollers pass on what the round has brought about: a device
//!    driver's takes in completions as a poller, so that those above see them in the same round,
//!    and rings its doorbells as a late one, so that the device sees what those above submitted.
//!    Behind them comes the background, which gets a share of a core's time while the others find
//!    work ([`Local::spawn_background`]).
//! 4. Nothing allocates in a round but what a poller or task asks for.
//!
//! [`mesh`] makes one [`Seed`] per core, a core builds its [`Reactor`] from it, and everything that
//! runs there is handed its [`Local`]. Neighbours: `kernel/env` (time, cores), `drivers/ring`
//! (mailboxes), `runtime/metrics` (accounting); used by every crate above.
//!
//! The wake queue's ordering claims have models beside the task cell, which `tests/models.rs` runs;
//! alone:
//! `RUSTFLAGS="--cfg loom" cargo test -p basalt-reactor --release --lib loom`.
#![no_std]

extern crate alloc;

mod activity;
mod background;
mod call;
mod local;
mod mesh;
mod poller;
mod reactor;
mod rest;
mod stats;
mod stopwatch;
pub mod sync;
mod task;
mod tasks;
mod time;
mod trace;
mod tracer;
mod watchdog;

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod tests;

pub use background::BACKGROUND_SHARE_DEFAULT;
pub use call::CallError;
pub use local::{Local, SendError};
pub use mesh::{Cores, Options, Seed, mesh};
pub use poller::Poller;
pub use reactor::Reactor;
pub use rest::{Doze, REST_AFTER_DEFAULT, Rest};
pub use stats::{PollerStats, ReactorStats};
pub use tasks::{YieldNow, yield_now};
pub use time::{Elapsed, Sleep};
pub use trace::{TraceEvent, TraceLine};
pub use tracer::{TraceError, TraceMasks, TraceRing, TraceStart, Traced, TracedLine};
pub use watchdog::{Report, STALL, Watch};
