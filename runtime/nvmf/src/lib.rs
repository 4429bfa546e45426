//! The NVMe-oF target over TCP.
//!
//! 1. A connection lives on the core its TCP flow was given to and never leaves it; a
//!    [`PollGroup`] per core drives the connections, with one bdev channel per core and bdev.
//! 2. Subsystems and controllers live in the [`Target`] on core 0. Connect and admin commands go
//!    there as messages; reads and writes never do.
//! 3. What is written is copied once, from the TCP stack to the `DmaBuf` that moves through the Io;
//!    what is read goes to the stack in that buffer, which it keeps as long as it needs it. Nothing
//!    is allocated per I/O.
//! 4. What a host sends is checked before it is used: a violation of the transport ends that
//!    connection with a C2HTermReq, a bad command fails with its status, and nobody else notices.
//!
//! Neighbours: `runtime/net` below, `runtime/bdev` behind, `runtime/rpc` configures it;
//! `runtime/nvmf-pdu` has the [`pdu`]s, `drivers/nvme-spec` the structures; `runtime/nvmf-host` and
//! `runtime/nvmf-initiator` are the other end. NVMe base specification 2.0, NVM command set 1.0,
//! NVMe/TCP transport 1.0.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod behavior;
mod command;
mod config;
mod connection;
mod control;
mod group;
mod health;
#[cfg(test)]
mod tests;

pub use basalt_nvmf_pdu as pdu;

pub use basalt_nvme_spec::AnaState;
pub use basalt_nvme_spec::fabrics::DISCOVERY_NQN;
pub use basalt_nvme_spec::identify::Oncs;
pub use config::{C2hSuccess, FusedOperations, TransportConfig};
pub use connection::{ConnectionId, QueueInfo};
pub use control::{
    AdminPassthru, ConfigError, ControllerInfo, DEFAULT_NQN, DiscoveryFilter, DuplicateHosts,
    HostPolicy, Listener, NamespaceInfo, NamespaceOptions, Referral, SubsystemInfo,
    SubsystemOptions, SubsystemReset, Target,
};
pub use group::{GroupStats, PollGroup, SharedStack};
