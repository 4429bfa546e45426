//! The virtio SCSI host device, and what of SCSI it takes to use disks.
//!
//! 1. [`negotiate`] agrees on features and says what the [`Host`] is like.
//! 2. [`Cdb`] is a command, [`header`] what the host reads of it before its data, [`outcome`] what
//!    its answer means; [`FORMAT`] is for the queues ([`basalt_virtio::Requests`]).
//! 3. [`answers`](Inquiry) are what a disk says of itself, read from bytes that nobody vouches for.
//! 4. [`Event`] is what the host says unasked.
//!
//! Neighbours: on `drivers/virtio`; `runtime/bdev-virtio` adapts it. After virtio 1.2 §5.6, SPC-4
//! and SBC-3.
#![no_std]

mod answers;
mod command;
mod host;
mod outcome;
#[cfg(test)]
mod tests;

pub use answers::{BlockLimits, Capacity, Inquiry, Provisioning, serial_number};
pub use command::{Address, Cdb, FORMAT, HEADER_LEN, UNMAP_LEN, header, unmap_list, vpd};
pub use host::{EVENT_LEN, Event, Host, negotiate};
pub use outcome::{Failure, RESPONSE_LEN, Sense, outcome};

/// The virtio device type of a SCSI host (virtio 1.2 §5).
pub const DEVICE_TYPE: u16 = 8;

/// The queue for task management, which nothing is sent to (§5.6.2).
pub const CONTROL_QUEUE: u16 = 0;
/// The queue of events.
pub const EVENT_QUEUE: u16 = 1;
/// The first queue of requests.
pub const FIRST_QUEUE: u16 = 2;
