//! Virtio over PCI: the modern transport and the split queue.
//!
//! 1. [`Transport`] finds a device's registers through its PCI capabilities, resets it, agrees on
//!    features and sets up queues. Dropping it stops the device.
//! 2. [`Queue`] is a split virtqueue as a state machine over shared memory: it owns the buffers the
//!    device works on and keeps a private copy of everything the device could overwrite.
//!    [`Requests`] is one whose entries are requests with header, data and response.
//! 3. Nothing waits for an interrupt: the driver polls, and tells the device of new buffers with
//!    [`Doorbell`] at most once per round.
//! 4. Lengths, indexes and offsets that come from the device are checked; a lie breaks the queue
//!    with a [`QueueError`] and nothing else.
//!
//! Neighbours: below `drivers/virtio-net`, `drivers/virtio-blk` and `drivers/virtio-scsi`, on
//! `drivers/pci`. After virtio 1.2 (OASIS, 2022).
#![no_std]

extern crate alloc;

mod layout;
mod queue;
mod requests;
mod ring;
#[cfg(test)]
mod tests;
mod transport;

pub use layout::{device_type, feature};
pub use queue::{Direction, Insert, Notice, Queue, Used};
pub use requests::{Finished, Payload, RequestFormat, Requests, ResponsePlace};
pub use ring::{QueueError, RingAddress};
pub use transport::{Doorbell, Transport, TransportError};
