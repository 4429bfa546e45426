//! One core's half of the NVMe/TCP initiator: connections to remote controllers, the commands under
//! way on them, and which path each Io takes. `runtime/nvmf-initiator` is the other half.
//!
//! 1. [`CoreHost`], a service of each core, polls the core's connections ([`Link`]); core 0 makes
//!    and ends them, and is told when one is lost ([`News`]).
//! 2. A [`HostQueue`] is one queue of a controller: it takes commands, and speaks in PDUs.
//! 3. A [`CoreNamespace`] knows the paths to a namespace ([`Routes`]), and chooses one for each Io.
//!    Of each channel it has an [`Inbox`], where Ios wait for a path and in the end for their
//!    owner.
//!
//! All that an I/O needs is here, and built for speed; what is done once per connection is not.
//! Neighbours: `runtime/nvmf-pdu` has the PDUs, `runtime/net` is below, `runtime/bdev` above.
//! NVMe/TCP transport specification 1.0, NVM command set 1.0.
#![no_std]

extern crate alloc;

mod core_host;
mod counters;
mod inbox;
mod link;
mod namespace;
mod pending;
mod queue;

pub use core_host::{CoreHost, Hear, News};
pub use counters::HostStats;
pub use inbox::Inbox;
pub use link::{CallError, Link};
pub use namespace::{Access, CoreNamespace, Hope, Limits, Policy, Route, Routes};
pub use pending::Pending;
pub use queue::{ADMIN_IN_CAPSULE, Answer, Data, Ended, HostQueue, LinkError, Load, QueueOptions};

/// Names a path across cores; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathId(pub u32);

/// Names a namespace across cores: that of a remote subsystem, by two numbers; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamespaceId(pub u32, pub u32);

/// Counts the connections of a path, so that news of an earlier one are known to be old.
pub type Run = u32;
