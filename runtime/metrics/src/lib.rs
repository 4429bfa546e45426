//! Numbers about the running machine, kept per core without locks and read from any core.
//!
//! 1. A number has one writer, its core; readers on other cores see it a little late, never torn.
//! 2. Recording neither allocates nor waits, and takes a few nanoseconds.
//! 3. Numbers of several cores are added when they are read, never when they are written.
//!
//! [`Counter`] is one number and [`PerCore`] one of anything per core; [`Histogram`] keeps
//! latencies for percentiles, [`Operations`] what is done to data; [`Trace`] is a core's last
//! events, readable after a panic, and [`Tpoint`] what may be traced.
//! Neighbours: the reactor's and the block layer's statistics, the image's benchmark, the RPC
//! methods and the metrics page that print them. Depends on `core` and `alloc` only.
#![no_std]

extern crate alloc;

mod counter;
mod histogram;
mod operation;
mod tpoint;
mod trace;

pub use counter::{Counter, PerCore};
pub use histogram::{Histogram, Summary};
pub use operation::{Operation, OperationStats, Operations};
pub use tpoint::{OPS, Tpoint, TraceField, TraceGroup, TraceValue};
pub use trace::{Trace, TraceEntry};

#[cfg(test)]
mod tests;
