//! The block layer: named block devices, opened through descriptors, driven through per-core
//! channels.
//!
//! 1. A [`Bdev`] is a description any core may hold; all work happens in an [`IoChannel`], which
//!    belongs to one core.
//! 2. An [`Io`] is handed over by value and comes back by value. A refused submission hands it
//!    straight back; an accepted one comes back exactly once, from [`IoChannel::poll`].
//! 3. Completions are pulled, not called back: no allocation, no dynamic re-entry, and a layer sees
//!    its Ios on the way down and on the way up.
//!
//! Neighbours: adapters (`runtime/bdev-nvme`) implement [`Bdev`]; `runtime/nvmf` and `runtime/rpc`
//! use it. The nouns are SPDK's (`include/spdk/bdev.h`).
#![no_std]

extern crate alloc;

mod io;
mod traits;

pub use io::{Io, IoError, IoStatus, Op, SgList};
pub use traits::{Bdev, BdevInfo, IoChannel, OpenError, Rejected, RejectReason};
