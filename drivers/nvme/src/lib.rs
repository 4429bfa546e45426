//! The NVMe driver: PCIe controllers of the NVM Express base specification 1.4 to 2.0.
//!
//! 1. No executor, no lock, no `unsafe`, no global: a [`Controller`] is driven by whoever polls its
//!    futures, an [`IoQueue`] by whoever calls it. The clock is given.
//! 2. What a command points a device at is owned by the command's slot until the device is done
//!    with it. A queue dropped too early leaks memory rather than free it under DMA.
//! 3. What the device says is checked: a lie is a typed error and a quarantined queue.
//! 4. Every wait ends: ready, not ready, admin commands and I/O all have limits.
//!
//! [`Controller::bring_up`] reads top to bottom what makes a controller usable. The I/O path is
//! [`IoQueue::read`] and its like, [`IoQueue::commit`] once per round, [`IoQueue::poll`]. What a
//! host administers is in [`Controller::format`] and its like.
//!
//! Neighbours: registers and layouts from `drivers/nvme-spec`, slots and cursors from
//! `drivers/ring`, the machine from `kernel/env`; used by `runtime/bdev-nvme`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admin;
mod arbitration;
mod cmb;
mod command;
mod controller;
mod dataless;
mod describe;
mod discover;
mod elsewhere;
mod error;
mod events;
mod fused;
mod io_queue;
mod limits;
mod logs;
mod manage;
mod metadata;
mod namespace;
mod options;
mod payload;
mod prp;
mod queue_spec;
mod quirks;
mod raw;
mod registers;
mod rings;
mod shadow;
#[cfg(test)]
mod tests;
mod ticket;
mod transfer;
mod yield_now;
mod zones;

pub use admin::Outcome;
pub use arbitration::ArbitrationOptions;
pub use controller::{Clock, Controller};
pub use error::{
    AdminError, InitError, NotQuiesced, QueueError, RejectReason, Rejected, UnusableNamespace,
};
pub use events::Events;
pub use io_queue::{Direction, Ended, IoQueue};
pub use limits::CommandLimits;
pub use manage::LongLimits;
pub use namespace::{Namespace, ReadsCross, Zones};
pub use options::Options;
pub use payload::{Payload, Window};
pub use queue_spec::{QueueAddress, QueueSpec, Quiesced, Sgls};
pub use ticket::{DoorbellStats, IoQueueStats, Ticket};
