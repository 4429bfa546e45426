//! The block layer: named block devices, opened through descriptors, driven through per-core
//! channels.
//!
//! 1. A [`Bdev`] is a description any core may hold; all work happens in an [`IoChannel`], which
//!    belongs to one core.
//! 2. An [`Io`] is handed over by value and comes back by value. A refused submission hands it
//!    straight back; an accepted one comes back exactly once, from [`IoChannel::poll`].
//! 3. Completions are pulled, not called back: no allocation, no dynamic re-entry, and a layer sees
//!    its Ios on the way down and on the way up.
//! 4. A module's channel trusts its Ios, because a [`Channel`] has checked each of them.
//!
//! From the top: the [`Registry`] on core 0 holds the bdevs by name; [`Registry::open`] gives a
//! [`Descriptor`] with an [`Access`]; [`Descriptor::channel`] gives a core its [`Channel`], which
//! checks and counts ([`IoStat`]); an [`AsyncChannel`] around that makes operations awaitable. A
//! core that a device has no queue for gets its channel by another core ([`remote_channel`]).
//! [`malloc`] and [`null`] are the modules without hardware, [`vbdev`] has those over other bdevs.
//!
//! Neighbours: adapters (`runtime/bdev-nvme`) implement [`Bdev`]; `runtime/nvmf` and `runtime/rpc`
//! use it. The nouns are SPDK's (`include/spdk/bdev.h`).
#![no_std]

extern crate alloc;

mod asynchronous;
mod channel;
mod claim;
mod copy;
mod counters;
mod create;
mod depth;
mod descriptor;
mod done;
mod emulate;
mod gate;
mod io;
mod json;
mod latency;
mod limited;
pub mod malloc;
mod node;
pub mod null;
mod nvme_order;
mod qos;
mod registry;
mod remote;
mod scatter;
mod stat;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
#[cfg(test)]
mod tests;
mod traits;
pub mod uuid;
pub mod vbdev;
mod watch;

pub use asynchronous::{AsyncChannel, Transfer};
pub use channel::{BaseChannel, Channel};
pub use claim::Access;
pub use counters::IoCounters;
pub use create::CreateError;
pub use depth::DepthStat;
pub use descriptor::Descriptor;
pub use gate::{open_channels, under_way};
pub(crate) use io::OpSet;
pub use io::{Io, IoError, IoStatus, NvmePassthru, Op, SgList};
pub use json::json_string;
pub use latency::{HistogramShape, LatencyHistogram};
pub use nvme_order::{NvmeNamespaces, NvmeOrder, NvmeReport, NvmeSubject};
pub use qos::QosLimits;
pub use registry::{Event, RegisterError, Registry, ResizeError, UnregisterError};
pub use remote::{Lenders, remote_channel};
pub use scatter::{Bounce, Run, Scattered};
pub use stat::{IoStat, Latency, OpStat, StatReset};
pub use traits::{Bdev, BdevInfo, BlockCount, IoChannel, OpenError, RejectReason, Rejected, Zones};
pub use watch::UnderWay;
