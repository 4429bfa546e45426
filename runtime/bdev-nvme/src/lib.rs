//! NVMe namespaces as bdevs: the adapter between `drivers/nvme` and the block layer.
//!
//! 1. The admin queue of a controller belongs to a task on core 0; each core has an I/O queue pair
//!    of its own, from its own memory, that all its channels share. No lock, no hand-over.
//! 2. The first channel of a core that asks in a round empties the completion queue: what is its
//!    own it gets where it lies, what is another's goes to that one's inbox. A poller at the end of
//!    the round rings the doorbell, and empties the queue if nobody has asked.
//! 3. What one command cannot carry goes in pieces; what no command can describe goes through a
//!    bounce buffer. Nothing is allocated from the heap on the way.
//! 4. When a queue fails (a lie, a late command, a fatal status, a device that is gone), all
//!    queues are suspended, the controller is stopped, and it is brought up again or given up, all
//!    in bounded time. Every Io ends exactly once: it is sent again where that is safe and has not
//!    been in vain too often, and else ends with an error.
//! 5. What is administered of a controller is done while its task goes on with the rest; what loses
//!    data only to namespaces that nobody has open.
//!
//! [`attach`] is the way in; [`NvmeControllers`] lists, resets, manages and detaches. Above the
//! functions stand the life cycles: [`ControllerState`] of a controller, `CoreQueue` of a core's
//! queue.
//!
//! Neighbours: `drivers/nvme` below, `runtime/bdev` above; composed by `boot/image`. Follows the
//! NVM Express base specification 2.0 as far as the driver leaves it to its user.
#![no_std]

extern crate alloc;

mod attach;
mod bdev;
mod controllers;
mod errand;
mod inbox;
mod jobs;
mod json;
mod manage;
mod manager;
mod path;
mod pending;
mod poll_group;
mod queue;
mod split;
#[cfg(test)]
mod tests;

pub use attach::{AttachError, Options, attach};
pub use basalt_nvme::{AdminError, LongLimits};
pub use bdev::PRODUCT_NAME;
pub use controllers::{
    ControlError, ControllerInfo, ControllerOrder, ControllerState, NvmeControllers,
};
pub use manage::ManageError;
pub use path::IoPath;
pub use poll_group::PollGroupStats;
