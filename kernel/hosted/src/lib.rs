//! The environment on Linux: the same drivers and runtime, hosted in a process.
//!
//! [`Machine`] owns arenas whose bus addresses differ from their virtual ones and whose freed
//! memory is poisoned, so that a driver that confuses the two or uses memory too late fails a
//! test. [`Bus`] is how a device model reaches that memory: by bus address, checked.
//!
//! Neighbours: implements `kernel/env`; used by `tests/models` and the host tests of every driver.

mod bus;
#[cfg(test)]
mod tests;

pub use bus::{Bus, BusError, Machine};
