//! The initiator: bdevs over NVMe/TCP (SPDK's `bdev_nvme` with `trtype` TCP).
//!
//! 1. A remote subsystem (`remote`) is reached by one or more paths (`path`): each has an admin
//!    queue on core 0 and an I/O queue on every core, each a TCP connection.
//! 2. A task per path connects it (`session`), keeps it alive, and connects it again when it is
//!    lost.
//! 3. Core 0 tells every core which paths lead to which namespace and how well; a core chooses
//!    among them by itself for each Io. An Io that loses its path is sent again by another; if
//!    there is none, it waits, unless there is no hope for one.
//! 4. Data is copied once in each direction, between its buffers and the TCP stack. Nothing is
//!    allocated per I/O once queues and channels have grown to their size.
//!
//! [`Remotes`] is the way in; [`Discoveries`] finds by itself what there is to attach.
//!
//! `examples/instructions.rs` counts what a read costs, and says how.
//!
//! This is core 0's half, in which nothing is done per I/O; [`basalt_nvmf_host`] is each core's.
//! Neighbours: `drivers/nvme-spec` has the structures; `runtime/bdev` is above, `runtime/rpc`
//! configures it; `runtime/nvmf` is the other end. NVMe base specification 2.0, NVM command set
//! 1.0, NVMe/TCP transport 1.0.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

use alloc::boxed::Box;
use core::pin::Pin;

mod ana;
mod bdev;
mod discover;
mod discovery;
mod error;
mod options;
mod path;
mod remote;
mod remotes;
mod session;
#[cfg(test)]
mod tests;

pub use basalt_nvmf_host::{Access, HostStats, LinkError, Policy};
pub use basalt_nvmf_pdu::Digests;
pub use discovery::{Discoveries, DiscoveryInfo, DiscoveryOptions};
pub use error::PathError;
pub use options::{Host, Loss, Reconnect, RemoteOptions, TransportId};
pub use path::PathState;
pub use remotes::{
    ControllerData, Multipath, PathInfo, PathStat, RemoteBdevInfo, RemoteError, RemoteInfo,
    Remotes, Way,
};

/// Something that takes its time. It is boxed, so that whoever waits for it does not get a copy of
/// all that it does.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + 'a>>;
