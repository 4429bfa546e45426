extern crate std;

mod closing;
mod opening;
mod parts;
mod receiving;
mod sending;

use std::time::Duration;
use std::vec;
use std::vec::Vec;

use basalt_env::Instant;

use super::connection::{Connection, State, Terms};
use super::header::{Blocks, Header, Offer};
use super::inbox::{Arrived, Keep};
use super::seq::{Seq, Span};
use crate::port::{ChecksumState, Frame};
use crate::wire::TcpFlags;

/// Our first byte, and the peer's; both streams pass the end of the numbers soon.
pub const OURS: Seq = Seq(u32::MAX - 999);
pub const THEIRS: Seq = Seq(u32::MAX - 499);
pub const MSS: usize = 1000;
pub const CAPACITY: usize = 32_000;
pub const ACK: TcpFlags = TcpFlags::ACK;

/// A payload as a frame.
#[derive(Debug)]
pub struct Payload(pub Vec<u8>);

impl Frame for Payload {
    fn head(&self) -> &[u8] {
        &self.0
    }

    fn checksum(&self) -> ChecksumState {
        ChecksumState::Good
    }
}

/// What a connection has sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub header: Header,
    pub payload: Vec<u8>,
}

/// A connection whose peer is the test.
pub struct Rig {
    pub tcp: Connection<Payload>,
    pub now: Instant,
    pub keep: Keep,
    /// Frames that were given back.
    pub returned: usize,
}

pub const TERMS: Terms = Terms {
    iss: Seq(OURS.0.wrapping_sub(1)),
    mss: MSS,
    rx_capacity: CAPACITY,
    tx_capacity: CAPACITY,
};

pub fn syn(offer: Offer) -> Header {
    Header { offer, ..Header::plain(THEIRS - 1, Seq(0), TcpFlags::SYN, 60_000) }
}

pub const OFFER: Offer = Offer { mss: Some(MSS as u16), shift: Some(0), sack: true };

impl Rig {
    pub fn of(tcp: Connection<Payload>) -> Self {
        Self { tcp, now: Instant::from_ns(1_000_000_000), keep: Keep::Frame, returned: 0 }
    }

    /// One that a peer of such an offer has opened.
    pub fn opened(offer: Offer) -> Self {
        let now = Instant::from_ns(1_000_000_000);
        let mut rig = Self::of(Connection::accept(TERMS, &syn(offer), now));
        assert_eq!(rig.sent().len(), 1);
        rig.takes(Header::plain(THEIRS, OURS, ACK, 60_000), b"");
        assert_eq!(rig.tcp.state(), State::Open);
        assert_eq!(rig.sent(), []);
        rig
    }

    pub fn open() -> Self {
        Self::opened(OFFER)
    }

    /// A segment of the peer's; gives the reset that answers it.
    pub fn takes(&mut self, header: Header, payload: &[u8]) -> Option<Header> {
        let frame = Payload(payload.to_vec());
        let arrived = Arrived { frame, start: 0, end: payload.len(), keep: self.keep };
        let verdict = self.tcp.on_segment(&header, arrived, self.now);
        self.returned += usize::from(verdict.frame.is_some());
        verdict.reset
    }

    /// So many bytes at an offset of the peer's stream.
    pub fn data(&mut self, offset: usize, payload: &[u8]) {
        let acked = self.tcp.edges().0;
        assert_eq!(self.takes(Header::plain(THEIRS + offset, acked, ACK, 60_000), payload), None);
    }

    /// The peer acknowledges our first `count` bytes.
    pub fn acks(&mut self, count: usize, window: u16) {
        let next = self.tcp.edges().1;
        assert_eq!(self.takes(Header::plain(next, OURS + count, ACK, window), b""), None);
    }

    /// The same, and names what it has besides, by offsets of our stream.
    pub fn acks_with(&mut self, count: usize, blocks: &[(usize, usize)]) {
        let next = self.tcp.edges().1;
        let mut header = Header::plain(next, OURS + count, ACK, 60_000);
        for (start, end) in blocks {
            header.blocks.push(Span { start: OURS + *start, end: OURS + *end });
        }
        assert_eq!(self.takes(header, b""), None);
    }

    /// All that it sends now, in segments of up to [`MSS`].
    pub fn sent(&mut self) -> Vec<Sent> {
        self.sent_by(MSS)
    }

    pub fn sent_by(&mut self, most: usize) -> Vec<Sent> {
        let mut all = vec![];
        while let Some(out) = self.tcp.outgoing(most, self.now) {
            let parts = self.tcp.parts(out.payload);
            let payload = parts.flat_map(|part| part.as_slice().to_vec()).collect();
            self.tcp.sent(&out, self.now);
            all.push(Sent { header: out.header, payload });
            assert!(all.len() < 1000, "it never ends");
        }
        all
    }

    /// Where in our stream it sends now, and how much.
    pub fn spans(&mut self) -> Vec<(usize, usize)> {
        let offset = |seq: Seq| seq.0.wrapping_sub(OURS.0) as i32 as usize;
        self.sent().iter().map(|sent| (offset(sent.header.seq), sent.payload.len())).collect()
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let _ = self.tcp.tick(self.now);
    }

    /// Goes to the next time that the connection wants to look at its timers; gives how long.
    pub fn pass_to_deadline(&mut self) -> Duration {
        let at = self.tcp.deadline().unwrap();
        let time = at.since(self.now);
        self.pass(time);
        time
    }

    /// Reads all that is in order.
    pub fn read(&mut self) -> Vec<u8> {
        let mut all = vec![];
        while let count @ 1.. = self.tcp.front().len() {
            all.extend_from_slice(self.tcp.front());
            self.returned += usize::from(self.tcp.read(count).is_some());
        }
        all
    }

    pub fn write(&mut self, len: usize) {
        assert_eq!(self.tcp.write(&pattern(0, len)), len);
    }
}

/// Bytes of a stream from an offset on.
pub fn pattern(offset: usize, len: usize) -> Vec<u8> {
    (offset..offset + len)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

pub fn blocks(sent: &Sent) -> Vec<(usize, usize)> {
    let offset = |seq: Seq| seq.0.wrapping_sub(THEIRS.0) as usize;
    let blocks: &Blocks = &sent.header.blocks;
    blocks.iter().map(|span| (offset(span.start), offset(span.end))).collect()
}
