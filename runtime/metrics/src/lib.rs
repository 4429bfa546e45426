//! Numbers about the running machine, kept per core without locks and read from any core.
//!
//! 1. A number has one writer, its core; readers on other cores see it a little late, never torn.
//! 2. Recording neither allocates nor waits.
//!
//! [`Counter`] is one such number. Neighbours: the reactor's and the block layer's statistics, the
//! RPC methods and the metrics page that print them. Depends on `core` only.
#![no_std]

mod counter;

pub use counter::Counter;
