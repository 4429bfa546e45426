//! A polled server of requests and replies over TCP: what JSON-RPC and HTTP have in common.
//!
//! 1. A [`Gate`] says who is let in, to which port, and may say otherwise at any time.
//! 2. A [`Server`] listens, lets in whom the gate does, and serves the connections of one core by
//!    its [`Rules`]: how many, how much they may leave unread, and how long they may take.
//! 3. What is spoken is a [`Conversation`] for each connection, without the socket: bytes in, an
//!    [`Answer`] out, which is a [`Reply`] now or one that is still to be found.
//!
//! Neighbours: `runtime/net` carries the bytes; `runtime/rpc` and `runtime/web` say what is spoken.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod client;
mod gate;
mod reply;
mod server;
#[cfg(test)]
mod tests;

pub use gate::{Access, BadPrefix, Gate, Prefix};
pub use reply::{Answer, Content, Conversation, Finding, Reply};
pub use server::{Patience, Rules, Server, WhenFull};
