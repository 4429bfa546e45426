//! What Basalt tells over HTTP, and nothing more: a page, its state and log in JSON, and its
//! metrics.
//!
//! 1. [`RequestReader`] is sans-I/O: bytes in, a [`Request`] or the [`Status`] that refuses it out.
//! 2. A [`server`] serves the connections of one core that its gate lets in: one request of a
//!    connection at a time, read only.
//! 3. A [`Collector`] on the boot core gathers what all cores have counted into a snapshot, once
//!    for all who ask at about the same time, and renders it in parts between which the core does
//!    its other work.
//!
//! Neighbours: `runtime/serve` serves connections; `runtime/rpc` says who may come in, and how
//! network and drives are reached; `runtime/bdev`, `runtime/nvmf` and `runtime/reactor` count.
//! HTTP/1.1 (RFC 9110, RFC 9112), OpenMetrics 1.0 and the text format 0.0.4 of Prometheus.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod accept;
mod collector;
mod families;
mod json;
mod lines;
mod of;
mod openmetrics;
mod page;
mod request;
mod response;
mod server;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use collector::{Collector, Environment, HeapUse};
pub use request::{
    After, Method, REQUEST_BYTES_MAX, Request, RequestReader, Resource, TARGET_BYTES_MAX,
};
pub use response::Status;
pub use server::{CONNECTIONS_MAX, PORT, server};
