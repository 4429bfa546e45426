use core::time::Duration;

use basalt_env::Instant;

use super::inbox::{Arrived, Inbox};
use super::seq::Seq;
use crate::port::Frame;

/// How long an answer may take that is to acknowledge as well (RFC 9293 §3.8.6.3 allows 500 ms).
const ACK_DELAY: Duration = Duration::from_millis(1);

/// Whether the peer is to hear what has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckDue {
    /// It has.
    No,
    /// With what is sent next, or then.
    Until(Instant),
    /// At once.
    Now,
}

/// The receiving half of a connection.
pub struct Receiver<F> {
    /// The next byte.
    next: Seq,
    /// Most bytes that wait to be read.
    capacity: usize,
    /// Behind what the peer was told that it may send.
    edge: Seq,
    /// Where the peer's stream ends, once that is known.
    end: Option<Seq>,
    finished: bool,
    inbox: Inbox<F>,
    ack: AckDue,
    /// Bytes that arrived and are not acknowledged.
    owed: usize,
    /// Payload of a full segment of the peer's, bytes.
    mss: usize,
    /// Segments that came before one that is missing.
    early: u64,
}

impl<F: Frame> Receiver<F> {
    /// For at most `capacity` bytes that are not read, in segments of up to `mss`.
    pub fn new(capacity: usize, mss: usize) -> Self {
        Self {
            next: Seq(0),
            capacity,
            edge: Seq(0),
            end: None,
            finished: false,
            inbox: Inbox::new(),
            ack: AckDue::No,
            owed: 0,
            mss,
            early: 0,
        }
    }

    /// Segments that came before one that is missing.
    pub fn early(&self) -> u64 {
        self.early
    }

    /// The peer's stream begins at `first`.
    pub fn open(&mut self, first: Seq) {
        self.next = first;
        self.edge = first + self.window();
        self.ack = AckDue::Now;
    }

    /// No window that the peer is told of is larger than that from now on: it knows of no scaling.
    pub fn limit(&mut self, window_max: usize) {
        self.capacity = self.capacity.min(window_max);
    }

    /// The next byte.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Bytes that there is room for.
    pub fn window(&self) -> usize {
        self.capacity.saturating_sub(self.inbox.len())
    }

    /// Whether the peer has ended its stream, and all of it is here.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What is to be read.
    pub fn inbox(&self) -> &Inbox<F> {
        &self.inbox
    }

    /// See [`Inbox::clear`].
    pub fn clear(&mut self, give_back: &mut dyn FnMut(F)) {
        self.inbox.clear(give_back);
    }

    /// Whether an acknowledgement is due.
    pub fn ack(&self) -> AckDue {
        self.ack
    }

    /// Acknowledge at once.
    pub fn ack_now(&mut self) {
        self.ack = AckDue::Now;
    }

    /// The peer was sent an acknowledgement, and with it the window.
    pub fn acked(&mut self) {
        self.ack = AckDue::No;
        self.owed = 0;
        self.edge = self.edge.later(self.next + self.window());
    }

    /// An acknowledgement that waited for an answer waits no longer.
    pub fn tick(&mut self, now: Instant) {
        if matches!(self.ack, AckDue::Until(at) if now >= at) {
            self.ack = AckDue::Now;
        }
    }

    /// Takes a payload that begins at `seq` and in part or in whole lies within the window, and
    /// where the stream ends if it says so; gives the frame back unless it stays.
    pub fn take(
        &mut self,
        seq: Seq,
        arrived: Arrived<F>,
        end: Option<Seq>,
        now: Instant,
    ) -> Option<F> {
        let edge = self.next + self.window();
        self.end = self.end.or(end.filter(|end| !edge.is_before(*end)));
        let limit = self.end.map_or(self.window(), |end| end.since(self.next).min(self.window()));
        let frame = if self.next.is_before(seq) {
            let room = limit.saturating_sub(seq.since(self.next));
            self.ack = AckDue::Now;
            self.early += 1;
            Some(self.inbox.push_early(seq, arrived, room, self.capacity))
        } else {
            self.take_next(seq, arrived, limit, now)
        };
        if self.end == Some(self.next) && !self.finished {
            self.finished = true;
            self.next = self.next + 1;
            self.ack = AckDue::Now;
        }
        frame
    }

    fn take_next(
        &mut self,
        seq: Seq,
        arrived: Arrived<F>,
        limit: usize,
        now: Instant,
    ) -> Option<F> {
        let (len, known) = (arrived.len(), self.next.since(seq));
        let (taken, frame) = self.inbox.push(arrived, known, limit);
        self.next = self.next + taken;
        self.owed += taken;
        let filled = self.inbox.has_early();
        if filled {
            self.next = self.inbox.catch_up(self.next);
        }
        if len == 0 {
            return frame;
        }
        // Twice, more than there is room for, or a gap that is filled: the peer is to know at once
        // (RFC 5681 §4.2), as of every second full segment.
        if taken < len || filled || self.owed >= 2 * self.mss {
            self.ack = AckDue::Now;
        } else if self.ack == AckDue::No {
            self.ack = AckDue::Until(now + ACK_DELAY);
        }
        frame
    }

    /// So many bytes of the inbox were read; gives the frame they were in, if they were its last.
    pub fn read(&mut self, count: usize) -> Option<F> {
        let frame = self.inbox.consume(count);
        // RFC 9293 §3.8.6.2.2: the window opens by much or not at all.
        let told = self.edge.since(self.next);
        let more = self.window().saturating_sub(told);
        let much = (self.capacity / 4).max(self.mss).min(self.capacity / 2);
        if more >= much && !self.finished || told < self.mss && more >= self.mss {
            self.ack = AckDue::Now;
        }
        frame
    }
}
