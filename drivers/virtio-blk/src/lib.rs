//! The virtio block device.
//!
//! 1. [`negotiate`] agrees on features and says what the [`Disk`] is like.
//! 2. [`Disk::header`] is what the device reads of a [`Request`] before its data, [`status`] what
//!    its answer means; [`FORMAT`] is for the queues ([`basalt_virtio::Requests`]).
//! 3. The device can change its size: [`blocks`] reads it again.
//!
//! Neighbours: on `drivers/virtio`; `runtime/bdev-virtio` adapts it. After virtio 1.2 §5.2.
#![no_std]

mod disk;
mod request;
#[cfg(test)]
mod tests;

pub use disk::{BlkError, Disk, blocks, negotiate};
pub use request::{FORMAT, Failure, Header, ID_LEN, Request, status};

/// The virtio device type of a block device (virtio 1.2 §5).
pub const DEVICE_TYPE: u16 = 2;

/// The first queue of requests.
pub const FIRST_QUEUE: u16 = 0;

/// Bytes of what the device calls a sector, whatever its blocks are (§5.2.4).
const SECTOR: u32 = 512;
