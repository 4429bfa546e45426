//! The virtio network device.
//!
//! 1. [`VirtioNet::bring_up`] agrees on features, fills the receive queue and lets the device go.
//! 2. Everything after is polled: [`VirtioNet::receive`] gives whole [`Frame`]s, which go back by
//!    [`VirtioNet::recycle`]; [`VirtioNet::transmit`] fills a frame in place, and has the device
//!    read others' bytes from where they are ([`Insert`]); [`VirtioNet::commit`], once a round,
//!    tells the device of both.
//! 3. A card may have a pair of queues for each of several cores (virtio 1.2 §5.1.5): [`Opening`]
//!    is told of them. Each core polls its own, and none needs the others.
//! 4. All buffers are made at bring-up. Nothing is allocated afterwards.
//! 5. The driver knows nothing of protocols: what there is to say about a checksum, or a segment
//!    that is to be cut, is passed on in the terms of the device, [`PartialChecksum`], [`Cut`] and
//!    [`ChecksumState`].
//!
//! Neighbours: on `drivers/virtio`; `runtime/net` adapts it. After virtio 1.2 §5.1.
#![no_std]

extern crate alloc;

mod bring_up;
mod control;
mod device;
mod frame;
mod layout;
mod pair;
#[cfg(test)]
mod tests;

pub use basalt_virtio::Insert;
pub use bring_up::{BringUpError, CardOptions, Opening};
pub use device::{NetStats, TxFull, VirtioNet};
pub use frame::{ChecksumState, Cut, Frame, IpVersion, PartialChecksum};
pub use pair::{PairAddress, PairBells, PairMemory, PairPlan};

/// The virtio device type of a network card (virtio 1.2 §5).
pub const DEVICE_TYPE: u16 = 1;
