use alloc::collections::VecDeque;
use core::time::Duration;

use basalt_env::Instant;

use super::path::Flow;
use crate::tcp::{Header, Seq};
use crate::wire::TcpFlags;

/// Twice the time that a segment may be under way (RFC 9293 §3.4.2), as Linux has it.
const TIME: Duration = Duration::from_secs(60);
/// Most connections; of more, the oldest are forgotten.
const MAX: usize = 1024;

/// A connection that is over, as far as we know.
struct Past {
    flow: Flow,
    /// Our next sequence number.
    next: Seq,
    /// The peer's.
    expected: Seq,
    until: Instant,
}

/// What a segment of a past connection asks for.
pub enum Claim {
    /// The peer has not heard the last: this, and what it expects.
    Repeat(Seq, Seq),
    /// A new connection, behind everything of the old one.
    New,
    /// Nothing.
    Nothing,
}

/// Connections whose last acknowledgement the peer may have missed: TIME-WAIT (RFC 9293 §3.6.1).
#[derive(Default)]
pub struct Linger {
    past: VecDeque<Past>,
}

impl Linger {
    /// Remembers a connection, our next sequence number and the peer's.
    pub fn add(&mut self, flow: Flow, (next, expected): (Seq, Seq), now: Instant) {
        self.forget(now);
        if self.past.len() >= MAX {
            self.past.pop_front();
        }
        self.past.push_back(Past { flow, next, expected, until: now + TIME });
    }

    fn forget(&mut self, now: Instant) {
        while self.past.front().is_some_and(|past| now >= past.until) {
            self.past.pop_front();
        }
    }

    /// Whether a connection is remembered.
    pub fn knows(&self, flow: &Flow) -> bool {
        self.past.iter().any(|past| past.flow == *flow)
    }

    /// A segment of a flow that has no connection; `None` if it had none lately.
    pub fn claim(&mut self, flow: &Flow, header: &Header, now: Instant) -> Option<Claim> {
        self.forget(now);
        let at = self.past.iter().position(|past| past.flow == *flow)?;
        let Past { next, expected, .. } = self.past[at];
        // A reset ends it if it is the peer's for sure (§3.10.7.4, RFC 5961 §3): a peer that begins
        // anew where the old connection was answers so to what is said of that.
        if header.flags.contains(TcpFlags::RST) {
            if header.seq == expected {
                self.past.remove(at);
            }
            return Some(Claim::Nothing);
        }
        if header.flags.contains(TcpFlags::SYN) && !header.seq.is_before(expected) {
            self.past.remove(at);
            return Some(Claim::New);
        }
        Some(Claim::Repeat(next, expected))
    }
}
