//! The control plane: a JSON-RPC 2.0 server that SPDK's own client drives unchanged, and the
//! configuration file in SPDK's form.
//!
//! 1. A [`Framer`] is sans-I/O: bytes in, messages out.
//! 2. A [`server`] serves the connections of one core that its [`Gate`] lets in; every method runs
//!    on the boot core, in [`Rpc`], one message of a connection at a time.
//! 3. A [`Router`] knows the methods. Those of this crate are in [`methods`]; an adapter or the
//!    image registers its own.
//! 4. The boot [`Config`] is a list of the same calls, and what [`Rpc`] has carried out can be
//!    saved as one, which [`kept`] does in a partition of the machine's own.
//!
//! Neighbours: `runtime/serve` serves connections; `runtime/bdev`, `runtime/nvmf` and
//! `runtime/reactor` do what the methods ask for. Protocol: JSON-RPC 2.0 (2013-01-04), with the
//! framing, limits, error codes and result shapes of SPDK 26.09.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ask;
mod config;
mod error;
mod framing;
mod gate;
pub mod kept;
mod message;
pub mod methods;
mod params;
mod router;
mod saved;
mod server;
mod service;
mod text;

#[cfg(test)]
mod tests;

pub use ask::{Finding, Found, Question, ask};
pub use basalt_serve::{Access, BadPrefix, Gate, Prefix};
pub use config::{Applying, Complaint, Config, ConfigError, InterfaceSetting};
pub use error::{RpcError, errno};
pub use framing::{DEPTH_MAX, Framer, FramingError, MESSAGE_BYTES_MAX, VALUES_MAX};
pub use gate::{Door, Entrance, WebGate};
pub use kept::Keeper;
pub use message::{BadRequest, ID_BYTES_MAX, Id, Message, Request};
pub use params::Params;
pub use router::{Outcome, Pending, Router, State, When};
pub use saved::Saved;
pub use server::{CONNECTIONS_MAX, PENDING_BYTES_MAX, PORT, server};
pub use service::{Context, Rpc};
