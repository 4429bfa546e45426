//! NVMe/TCP protocol data units (NVMe/TCP transport specification 1.0, §3.6).
//!
//! Two levels: [`wire`] has the layouts as they travel, [`parse`] turns a checked layout into a
//! value. [`Receiver`] takes bytes in any chunks and drives both; payload bytes go straight to
//! their [`Sink`], so they are copied once. An [`Outbox`] sends PDUs, their payload from where it
//! is. What a host sends is the side [`ToController`], what a
//! controller sends the side [`ToHost`].
//!
//! Neighbours: `runtime/nvmf` is the controllers' end of a connection, `runtime/nvmf-host` the
//! hosts'.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod digest;
mod encode;
mod fault;
mod from_controller;
mod outbox;
pub mod parse;
mod receive;
#[cfg(test)]
mod tests;
pub mod wire;

pub use digest::{Crc, crc32c};
pub use encode::{common_header, data_offset, put_header};
pub use fault::{Fault, FaultKind, term_request};
pub use from_controller::{C2hData, DataRest, FromController, IcResp, ReadyToTransfer, ToHost};
pub use outbox::{Outbox, Parts};
pub use parse::{H2cData, IcReq, Limits, Pdu, Shape, ToController};
pub use receive::{Admit, DataDigest, Inbound, Receiver, Sink};

/// Which digests a connection uses (§3.3.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// CRC-32C after each header.
    pub header: bool,
    /// CRC-32C after each payload.
    pub data: bool,
}

/// Size of a digest on the wire, bytes.
pub const DIGEST_LEN: usize = 4;
