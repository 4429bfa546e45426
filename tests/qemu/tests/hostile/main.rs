//! Clients that break the rules, by accident or on purpose, hurt nobody but themselves: they get
//! the error the specification has for it, a well-behaved client beside them never notices, and
//! afterwards the image has everything back that they took.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod connect;
mod crowd;
mod frames;
mod garbage;
mod limits;
mod malformed;
mod other_ports;
mod siege;
mod stalled;
