//! TCP/IP behind a small trait.
#![no_std]

extern crate alloc;

mod stack;

pub use stack::{Endpoint, IpAddress, ListenError, ListenerId, NetStack, SocketError, SocketId};
