//! The initiator: bdevs over NVMe/TCP (SPDK's `bdev_nvme` with `trtype` TCP).
//!
//! 1. A remote subsystem (`remote`) is reached by one or more paths (`path`): each has an admin
//!    queue on core 0 and an I/O queue on every core, each a TCP connection (`link`, `queue`).
//! 2. A task per path connects it, keeps it alive, and connects it again when it is lost.
//! 3. Core 0 tells every core which paths lead to which namespace and how well; a core chooses
//!    among them by itself for each Io (`namespace`). An Io that loses its path is sent again by
//!    another; if there is none, it waits, unless there is no hope for one.
//! 4. Data is copied once in each direction, between its buffers and the TCP stack. Nothing is
//!    allocated per I/O once queues and channels have grown to their size.
//!
//! [`Remotes`] is the way in; [`Discoveries`] finds by itself what there is to attach.
//!
//! Neighbours: `runtime/nvmf-pdu` has the PDUs, `drivers/nvme-spec` the structures; `runtime/net` is
//! below, `runtime/bdev` above, `runtime/rpc` configures it; `runtime/nvmf` is the other end. NVMe base
//! specification 2.0, NVM command set 1.0, NVMe/TCP transport 1.0.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ana;
mod bdev;
mod core_host;
mod discover;
mod discovery;
mod error;
mod inbox;
mod link;
mod namespace;
mod options;
mod path;
mod pending;
mod queue;
mod remote;
mod remotes;
mod session;
#[cfg(test)]
mod tests;

pub use basalt_nvmf_pdu::Digests;
pub use discovery::{Discoveries, DiscoveryInfo, DiscoveryOptions};
pub use error::PathError;
pub use namespace::{Access, Policy};
pub use options::{Host, Loss, Reconnect, RemoteOptions, TransportId};
pub use path::PathState;
pub use queue::LinkError;
pub use remotes::{Multipath, PathInfo, RemoteError, RemoteInfo, Remotes};

/// Names a path across cores; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PathId(u32);

/// Names a namespace across cores: that of a remote subsystem, by two numbers; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct NamespaceId(u32, u32);

/// Counts the connections of a path, so that news of an earlier one are known to be old.
type Run = u32;
