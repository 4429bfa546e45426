mod arrive;
mod depart;

use core::time::Duration;

use basalt_env::{DmaSlice, Instant};

use super::SegmentStats;
use super::header::{Header, Offer};
use super::queue::Parts;
use super::receive::{AckDue, Receiver};
use super::send::{Sender, Ticked};
use super::seq::Seq;
use crate::port::Frame;
pub use arrive::{InPlace, reset_for};

/// How often a silent peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a peer may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What both halves of a connection begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Our initial sequence number.
    pub iss: Seq,
    /// Largest segment that we take and send, bytes without headers.
    pub mss: usize,
    /// Most bytes that wait to be read.
    pub rx_capacity: usize,
    /// Most bytes that wait to be sent and acknowledged.
    pub tx_capacity: usize,
}

/// How far a connection is. Beyond the handshake, its halves know how far they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// We have asked.
    SynSent,
    /// The peer has asked, and we have answered.
    SynReceived,
    /// Both agree.
    Open,
    /// Reset, or given up.
    Closed,
}

/// A TCP connection (RFC 9293), without I/O: what arrives is shown to it, and it says what to send.
///
/// ```text
///   connect -> SynSent ----+
///                          +--> Open --> both halves finished: done
///   accept -> SynReceived -+      |
///      any --------------------> Closed: reset by either side, or silence
/// ```
pub struct Connection<F> {
    state: State,
    terms: Terms,
    /// What the peer's SYN says.
    peer: Offer,
    sender: Sender,
    receiver: Receiver<F>,
    /// How far windows that we announce are shifted; that we offer while there is no agreement.
    shift: u8,
    /// Whether the peer understands selective acknowledgements.
    sack: bool,
    syn_due: bool,
    reset_due: bool,
    /// Whether we were the first to end our stream (RFC 9293 §3.6).
    ended_first: bool,
    heard_at: Instant,
    /// When the peer was last asked whether it is there.
    asked_at: Instant,
    challenged_at: Option<Instant>,
    /// Segments that had come before.
    repeated: u64,
}

impl<F: Frame> Connection<F> {
    /// One that we ask for.
    pub fn connect(terms: Terms, now: Instant) -> Self {
        Self::new(State::SynSent, terms, now)
    }

    /// One that the peer asks for, by `syn`.
    pub fn accept(terms: Terms, syn: &Header, now: Instant) -> Self {
        let mut connection = Self::new(State::SynReceived, terms, now);
        connection.learn(syn);
        connection
    }

    fn new(state: State, terms: Terms, now: Instant) -> Self {
        let room = terms.rx_capacity.max(1);
        // So that a window of all of it fits into 16 bits.
        let shift = (usize::BITS - room.leading_zeros()).saturating_sub(16) as u8;
        Self {
            state,
            terms,
            peer: Offer::default(),
            sender: Sender::new(terms.iss, terms.tx_capacity, now),
            receiver: Receiver::new(terms.rx_capacity, terms.mss),
            shift,
            sack: true,
            syn_due: true,
            reset_due: false,
            ended_first: false,
            heard_at: now,
            asked_at: now,
            challenged_at: None,
            repeated: 0,
        }
    }

    /// What did not simply come and go in order.
    pub fn segments(&self) -> SegmentStats {
        let (resent, early) = (self.sender.resent(), self.receiver.early());
        SegmentStats { resent, early, repeated: self.repeated }
    }

    /// Notes what the peer's SYN says.
    fn learn(&mut self, syn: &Header) {
        self.sack = syn.offer.sack;
        if syn.offer.shift.is_none() {
            self.shift = 0;
            self.receiver.limit(u16::MAX.into());
        }
        self.receiver.open(syn.seq + 1);
        self.peer = syn.offer;
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether both streams have ended and all of both has arrived.
    pub fn is_done(&self) -> bool {
        self.sender.is_finished() && self.receiver.is_finished()
    }

    /// Whether the last acknowledgement may have to be sent again: we were the first to end our
    /// stream (RFC 9293 §3.6.1, TIME-WAIT).
    pub fn lingers(&self) -> bool {
        self.ended_first
    }

    /// Our next sequence number and the peer's.
    pub fn edges(&self) -> (Seq, Seq) {
        (self.sender.max(), self.receiver.next())
    }

    /// Whether the peer has ended its stream, and all of it is here.
    pub fn peer_finished(&self) -> bool {
        self.receiver.is_finished()
    }

    /// The next bytes to be read; none if there are none.
    pub fn front(&self) -> &[u8] {
        self.receiver.inbox().front()
    }

    /// So many bytes of [`Self::front`] were read; gives the frame they were in if they were its
    /// last.
    pub fn read(&mut self, count: usize) -> Option<F> {
        self.receiver.read(count)
    }

    /// Throws away what is not read and what is not sent; hands frames to `give_back`.
    #[cold]
    pub fn clear(&mut self, give_back: &mut dyn FnMut(F)) {
        self.receiver.clear(give_back);
        self.sender.clear();
    }

    /// Queues bytes to be sent; gives how many there was room for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.state == State::Open { self.sender.write(bytes) } else { 0 }
    }

    /// Queues bytes of `slice`, from `from` on, where they are; gives how many there was room for.
    pub fn write_shared(&mut self, slice: &DmaSlice, from: usize) -> usize {
        if self.state == State::Open { self.sender.write_shared(slice, from) } else { 0 }
    }

    /// Memory of the buffers that it keeps for what is to be sent, bytes.
    pub fn held(&self) -> usize {
        self.sender.held()
    }

    /// Ends our stream behind what is queued. Its user is gone and cannot account for buffers that
    /// are kept: what is in them is copied.
    pub fn finish(&mut self) {
        match self.state {
            State::SynSent => self.state = State::Closed,
            _ if self.sender.copy_shared() => self.sender.finish(),
            _ => self.abort(),
        }
    }

    /// Ends both streams at once, and tells the peer.
    #[cold]
    pub fn abort(&mut self) {
        self.reset_due = matches!(self.state, State::Open | State::SynReceived);
        self.state = State::Closed;
        self.sender.clear();
    }

    /// Bytes of the queue that an [`Outgoing`] names.
    pub fn parts(&self, payload: (usize, usize)) -> Parts<'_> {
        self.sender.parts(payload.0, payload.1)
    }

    /// Payload of a full segment, bytes.
    pub fn mss(&self) -> usize {
        self.sender.mss()
    }

    /// How often what was sent last was not answered in time.
    pub fn retries(&self) -> u32 {
        self.sender.retries()
    }

    /// Whether an acknowledgement, or a reset, is to be sent at once.
    pub fn is_pressed(&self) -> bool {
        self.reset_due || self.state != State::Closed && self.receiver.ack() == AckDue::Now
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let ack = match self.receiver.ack() {
            AckDue::Until(at) => Some(at),
            AckDue::No | AckDue::Now => None,
        };
        let lost = self.heard_at + SILENCE_MAX;
        let silence = match self.state {
            State::Open => lost.min(self.asked_at.max(self.heard_at) + KEEP_ALIVE),
            _ => lost,
        };
        [Some(silence), self.sender.deadline(), ack].into_iter().flatten().min()
    }

    /// Looks at the timers; whether something may have to be sent.
    pub fn tick(&mut self, now: Instant) -> Ticked {
        if self.state == State::Closed {
            return Ticked::Nothing;
        }
        self.receiver.tick(now);
        let mut ticked = self.sender.tick(now);
        if ticked == Ticked::Due && self.state != State::Open {
            self.syn_due = true;
        }
        let silent = now.since(self.heard_at);
        if ticked == Ticked::Stuck || silent >= SILENCE_MAX {
            self.abort();
            return Ticked::Due;
        }
        if now.since(self.asked_at.max(self.heard_at)) >= KEEP_ALIVE && self.state == State::Open {
            self.asked_at = now;
            self.sender.probe();
            ticked = Ticked::Due;
        }
        if self.receiver.ack() == AckDue::Now { Ticked::Due } else { ticked }
    }
}
