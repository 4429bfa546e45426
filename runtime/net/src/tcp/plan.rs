use super::seq::Seq;

/// Why bytes are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// They are next.
    Next,
    /// They are missing at the peer.
    Hole,
}

/// Bytes to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Of the first.
    pub seq: Seq,
    /// Where they are in the queue of [`Sender::parts`](super::send::Sender::parts).
    pub offset: usize,
    /// How many.
    pub len: usize,
    /// Whether nothing is queued behind them.
    pub is_last: bool,
    /// Whether the stream ends behind them.
    pub fin: bool,
    /// Why.
    pub reason: Reason,
}

impl Plan {
    /// Behind the last, and the end of the stream if that comes with them.
    pub fn end(&self) -> Seq {
        self.seq + self.len + usize::from(self.fin)
    }
}
