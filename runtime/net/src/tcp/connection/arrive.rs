//! What a segment that arrives does to a connection (RFC 9293 §3.10.7, RFC 5961).

use core::time::Duration;

use basalt_env::Instant;

use super::super::header::{Header, MSS_DEFAULT};
use super::super::inbox::Arrived;
use super::super::send::Only;
use super::super::seq::Seq;
use super::{Connection, State};
use crate::port::Frame;
use crate::wire::TcpFlags;

/// How often segments that are out of place are answered, at most (RFC 5961 §7).
const CHALLENGE_GRAIN: Duration = Duration::from_millis(100);
/// A peer that takes less than that is sent as much all the same.
const MSS_MIN: usize = 64;

/// What came of a segment.
pub struct Verdict<F> {
    /// Its frame, unless that stays.
    pub frame: Option<F>,
    /// A reset to be sent back.
    pub reset: Option<Header>,
    /// Whether it was in its place, and so surely the peer's.
    pub in_place: InPlace,
}

/// Whether a segment was where one of the peer's can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InPlace {
    /// It was.
    Yes,
    /// It may be old, or forged.
    No,
}

impl<F> Verdict<F> {
    fn refused(frame: F, reset: Option<Header>) -> Self {
        Self { frame: Some(frame), reset, in_place: InPlace::No }
    }
}

impl<F: Frame> Connection<F> {
    /// Takes a segment of this connection, with a right checksum (RFC 9293 §3.10.7).
    pub fn on_segment(&mut self, header: &Header, arrived: Arrived<F>, now: Instant) -> Verdict<F> {
        match self.state {
            State::Closed => Verdict::refused(arrived.frame, None),
            State::SynSent => {
                let reset = self.on_answer(header, now);
                let in_place =
                    if self.state == State::SynSent { InPlace::No } else { InPlace::Yes };
                Verdict { frame: Some(arrived.frame), reset, in_place }
            }
            State::SynReceived | State::Open => self.in_sync(header, arrived, now),
        }
    }

    /// §3.10.7.3.
    #[cold]
    fn on_answer(&mut self, header: &Header, now: Instant) -> Option<Header> {
        let Header { flags, ack, .. } = *header;
        let acks = flags.contains(TcpFlags::ACK);
        if acks && ack != self.sender.max() {
            return (!flags.contains(TcpFlags::RST)).then(|| reset_at(ack));
        }
        if flags.contains(TcpFlags::RST) {
            if acks {
                self.state = State::Closed;
            }
            return None;
        }
        if !flags.contains(TcpFlags::SYN) {
            return None;
        }
        self.heard_at = now;
        self.learn(header);
        if acks {
            self.open(header, header.window.into(), now);
        } else {
            // Both have asked at once.
            self.state = State::SynReceived;
            self.syn_due = true;
        }
        None
    }

    #[cold]
    fn open(&mut self, header: &Header, window: usize, now: Instant) {
        let mss = usize::from(self.peer.mss.unwrap_or(MSS_DEFAULT)).clamp(MSS_MIN, self.terms.mss);
        self.sender.open(header, window, mss, self.peer_shift(), now);
        self.state = State::Open;
    }

    /// The peer shifts its windows by so much.
    fn peer_shift(&self) -> u8 {
        self.peer.shift.unwrap_or(0)
    }

    /// §3.10.7.4, with RFC 5961.
    fn in_sync(&mut self, header: &Header, arrived: Arrived<F>, now: Instant) -> Verdict<F> {
        let flags = header.flags;
        let payload = arrived.len();
        if !self.is_acceptable(header, payload) {
            if payload > 0 && header.seq.is_before(self.receiver.next()) {
                self.repeated += 1;
            }
            if self.state == State::SynReceived && flags.contains(TcpFlags::SYN) {
                self.syn_due = true; // Our answer was lost.
            } else if !flags.contains(TcpFlags::RST) {
                self.challenge(payload, now);
            }
            return Verdict::refused(arrived.frame, None);
        }
        if flags.contains(TcpFlags::RST) && header.seq == self.receiver.next() {
            self.state = State::Closed;
            return Verdict::refused(arrived.frame, None);
        }
        if flags.intersects(TcpFlags::RST | TcpFlags::SYN) {
            self.challenge(0, now);
            return Verdict::refused(arrived.frame, None);
        }
        if !flags.contains(TcpFlags::ACK) {
            return Verdict::refused(arrived.frame, None);
        }
        if self.state == State::SynReceived {
            if header.ack != self.sender.max() {
                return Verdict::refused(arrived.frame, Some(reset_at(header.ack)));
            }
            let window = usize::from(header.window) << self.peer_shift();
            self.open(header, window, now);
        } else if !self.take_acknowledgement(header, payload, now) {
            return Verdict::refused(arrived.frame, None);
        }
        self.heard_at = now;
        let frame = self.take_payload(header, arrived, now);
        Verdict { frame, reset: None, in_place: InPlace::Yes }
    }

    fn take_payload(&mut self, header: &Header, arrived: Arrived<F>, now: Instant) -> Option<F> {
        let payload = arrived.len();
        let fin = header.flags.contains(TcpFlags::FIN);
        if payload == 0 && !fin {
            return Some(arrived.frame);
        }
        let finished = self.receiver.is_finished();
        let end = fin.then(|| header.seq + payload);
        let frame = self.receiver.take(header.seq, arrived, end, now);
        if self.receiver.is_finished() && !finished {
            self.ended_first = self.sender.fin_sent();
        }
        frame
    }

    /// Whether the acknowledgement of a segment is of something that was sent, and not long ago.
    fn take_acknowledgement(&mut self, header: &Header, payload: usize, now: Instant) -> bool {
        let (una, max) = (self.sender.una(), self.sender.max());
        let oldest = una - self.sender.window_max();
        if max.is_before(header.ack) || header.ack.is_before(oldest) {
            self.challenge(payload, now);
            return false;
        }
        let more = payload > 0 || header.flags.contains(TcpFlags::FIN);
        let only = if more { Only::More } else { Only::Acknowledges };
        self.sender.acknowledge(header, only, now);
        true
    }

    /// Whether anything of a segment lies where we expect it (§3.10.7.4, "first").
    fn is_acceptable(&self, header: &Header, payload: usize) -> bool {
        let control = TcpFlags::SYN | TcpFlags::FIN;
        let len = payload + (header.flags & control).iter().count();
        let (next, window) = (self.receiver.next(), self.receiver.window());
        if header.seq == next {
            // Even with no room: then only the payload is refused.
            return true;
        }
        let edge = next + window;
        let end = header.seq + len;
        header.seq.is_before(edge)
            && if len == 0 { next.is_before(header.seq) } else { next.is_before(end) }
    }

    /// Says where we are, to a segment that is out of place.
    #[cold]
    fn challenge(&mut self, payload: usize, now: Instant) {
        let lately = |at: Instant| now.since(at) < CHALLENGE_GRAIN;
        // What has a payload was sent twice, or there was no room; its sender waits for an answer.
        if payload == 0 && self.challenged_at.is_some_and(lately) {
            return;
        }
        if payload == 0 {
            self.challenged_at = Some(now);
        }
        self.receiver.ack_now();
    }
}

/// Resets a connection that the peer believes to be at `ack`.
fn reset_at(ack: Seq) -> Header {
    Header::plain(ack, Seq(0), TcpFlags::RST, 0)
}

/// What answers a segment that belongs to no connection (§3.10.7.1).
pub fn reset_for(header: &Header, payload: usize) -> Option<Header> {
    if header.flags.contains(TcpFlags::RST) {
        return None;
    }
    if header.flags.contains(TcpFlags::ACK) {
        return Some(reset_at(header.ack));
    }
    let control = header.flags & (TcpFlags::SYN | TcpFlags::FIN);
    let ack = header.seq + payload + control.iter().count();
    let flags = TcpFlags::RST | TcpFlags::ACK;
    Some(Header { ack, flags, ..reset_at(Seq(0)) })
}
