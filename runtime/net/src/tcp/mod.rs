//! TCP without I/O (RFC 9293): a [`Connection`] is shown the segments that arrive and the time, and
//! says what to send.
//!
//! Nothing is copied on the way in where it can be helped: the payload stays in the frame that it
//! came in until it is read, so that the reader copies it to where it belongs, once. Nor on the way
//! out: what is sent out of a shared buffer stays there, and may be sent again from there; other
//! bytes are copied once into the queue.
//!
//! Besides RFC 9293: round-trip times (RFC 6298), congestion control (RFC 5681, RFC 6582, RFC 3042,
//! RFC 6928), window scaling (RFC 7323 §2), selective acknowledgements in both directions (RFC
//! 2018), hardening against forged segments (RFC 5961). Absent: urgent data, which is taken as data
//! like any, time stamps, Nagle's algorithm, as requests and replies are latency, and explicit
//! congestion notification.

mod congestion;
mod connection;
mod header;
mod inbox;
mod plan;
mod queue;
mod receive;
mod ring;
mod rtt;
mod sacked;
mod send;
mod seq;
#[cfg(test)]
mod tests;

pub use connection::{Connection, InPlace, State, Terms, reset_for};
pub use header::Header;
pub use inbox::{Arrived, Keep};
pub use queue::{Part, Parts};
pub use send::Ticked;
pub use seq::Seq;

/// Segments that did not simply come and go in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentStats {
    /// Segments sent again.
    pub resent: u64,
    /// Segments that came before one that is missing.
    pub early: u64,
    /// Segments that had come before.
    pub repeated: u64,
}

impl SegmentStats {
    /// Those of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            resent: self.resent + other.resent,
            early: self.early + other.early,
            repeated: self.repeated + other.repeated,
        }
    }
}
