//! Virtio disks as bdevs: the adapter between `drivers/virtio-blk` and `drivers/virtio-scsi` and
//! the block layer (SPDK's `bdev_virtio`).
//!
//! 1. A task on core 0 has the device ([`attach`]); each core has a queue of requests of its own,
//!    from its own memory, that all its channels share. Cores beyond the device's queues use those
//!    of others.
//! 2. What one request cannot carry goes in pieces. What is busy is tried again.
//! 3. A block device is one bdev; a SCSI host has one for each target with a disk, which come, go
//!    and change as the host tells.
//! 4. When a device breaks the rules of a queue or asks for a reset, it is stopped, every Io ends
//!    with an error exactly once, and its bdevs go.
//!
//! [`VirtioControllers`] lists and detaches. The life cycle of a core's queue stands above
//! `CoreQueue`. Neighbours: the drivers below, `runtime/bdev` above; composed by `boot/image`.
#![no_std]

extern crate alloc;

mod attach;
mod bdev;
mod controllers;
mod inbox;
mod job;
mod manager;
mod path;
mod plan;
mod queue;
mod scan;
#[cfg(test)]
mod tests;
mod unit;

pub use attach::{AttachError, attach};
pub use bdev::{BLK_PRODUCT_NAME, SCSI_PRODUCT_NAME};
pub use controllers::{ControlError, ControllerInfo, Kind, VirtioControllers};
pub use path::IoPath;
