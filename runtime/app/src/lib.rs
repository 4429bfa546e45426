//! The application: what Basalt runs once an environment has started its reactors.
//!
//! An environment's composition root (`boot/image`, `boot/hosted`) provides each core's services:
//! a DMA pool, a network stack. What it then starts is the same everywhere and is here:
//!
//! 1. [`roll_call`]: every core answers every other one.
//! 2. [`first_read`]: every drive can be read.
//! 3. [`control`]: the JSON-RPC methods, with [`memory`]'s own.
//! 4. [`services`]: the NVMe/TCP target, the JSON-RPC server and the page on every core with a
//!    stack.
//! 5. [`mod@syslog`]: what sends the log, if that is asked for.
//! 6. [`configuration`]: what the machine was told to be.
//! 7. [`export`]: what is served when that says nothing of it.
//! 8. [`announce`]: how to reach it.
//!
//! An [`Application`] is what a program of one's own adds. [`mod@bench`] measures the block layer
//! of the running program.
//!
//! Neighbours: the crates of `runtime/` below, `boot/` above. It names no environment.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod announce;
mod application;
pub mod bench;
pub mod configuration;
pub mod control;
pub mod export;
pub mod first_read;
pub mod memory;
pub mod roll_call;
pub mod services;
pub mod syslog;

pub use application::{Application, NO_APPLICATION};
pub use basalt_web::{Environment, HeapUse};
pub use services::Ports;
