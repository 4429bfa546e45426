//! What a connection sends.

use basalt_env::Instant;

use super::super::header::{Header, Offer};
use super::super::plan::Plan;
use super::super::receive::AckDue;
use super::super::seq::Seq;
use super::{Connection, State};
use crate::port::Frame;
use crate::wire::TcpFlags;

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Its header.
    pub header: Header,
    /// Its payload: so many bytes at an offset in the queue; see [`Connection::parts`].
    pub payload: (usize, usize),
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Syn,
    Data(Plan),
    Ack,
    Probe,
    Reset,
}

impl<F: Frame> Connection<F> {
    /// What to send now, if anything: at most `most` bytes of payload. Once it is, [`Self::sent`]
    /// has to hear of it.
    pub fn outgoing(&mut self, most: usize, now: Instant) -> Option<Outgoing> {
        match self.state {
            State::Closed if self.reset_due => Some(self.reset()),
            State::Closed => None,
            State::SynSent | State::SynReceived if self.syn_due => Some(self.syn()),
            State::SynSent => None,
            State::SynReceived => self.acknowledgement(),
            State::Open => self.segment(most, now),
        }
    }

    fn segment(&mut self, most: usize, now: Instant) -> Option<Outgoing> {
        self.sender.refresh(now);
        if let Some(plan) = self.sender.plan(most) {
            let mut flags = TcpFlags::ACK;
            flags.set(TcpFlags::PSH, plan.is_last && plan.len > 0);
            flags.set(TcpFlags::FIN, plan.fin);
            let (header, payload) = (self.header(plan.seq, flags), (plan.offset, plan.len));
            return Some(Outgoing { header, payload, kind: Kind::Data(plan) });
        }
        self.sender.settle(now);
        if self.sender.is_probing() {
            // Out of place by one, so that the peer says where it is (RFC 9293 §3.8.4).
            let header = self.header(self.sender.una() - 1, TcpFlags::ACK);
            return Some(Outgoing { header, payload: (0, 0), kind: Kind::Probe });
        }
        self.acknowledgement()
    }

    fn acknowledgement(&self) -> Option<Outgoing> {
        if self.receiver.ack() != AckDue::Now {
            return None;
        }
        // Not from where something is sent again: the peer would not look at what comes twice, and
        // wait for us for ever, as we for it.
        let mut header = self.header(self.sender.max(), TcpFlags::ACK);
        if self.sack && self.receiver.inbox().has_early() {
            header.blocks = self.receiver.inbox().blocks();
        }
        Some(Outgoing { header, payload: (0, 0), kind: Kind::Ack })
    }

    #[cold]
    fn reset(&self) -> Outgoing {
        let header = self.header(self.sender.max(), TcpFlags::RST | TcpFlags::ACK);
        Outgoing { header, payload: (0, 0), kind: Kind::Reset }
    }

    #[cold]
    fn syn(&self) -> Outgoing {
        let asked = self.state == State::SynReceived;
        let flags = if asked { TcpFlags::SYN | TcpFlags::ACK } else { TcpFlags::SYN };
        let mut header = self.header(self.terms.iss, flags);
        // Never scaled (RFC 7323 §2.2).
        header.window = self.receiver.window().min(u16::MAX.into()) as u16;
        let scales = !asked || self.peer.shift.is_some();
        header.offer = Offer {
            mss: Some(self.terms.mss.min(u16::MAX.into()) as u16),
            shift: scales.then_some(self.shift),
            sack: self.sack,
        };
        if !asked {
            header.ack = Seq(0);
        }
        Outgoing { header, payload: (0, 0), kind: Kind::Syn }
    }

    fn header(&self, seq: Seq, flags: TcpFlags) -> Header {
        let window = (self.receiver.window() >> self.shift).min(u16::MAX.into()) as u16;
        Header::plain(seq, self.receiver.next(), flags, window)
    }

    /// What [`Self::outgoing`] gave is sent.
    pub fn sent(&mut self, outgoing: &Outgoing, now: Instant) {
        match &outgoing.kind {
            Kind::Syn => {
                self.syn_due = false;
                self.sender.syn_sent(now);
            }
            Kind::Data(plan) => self.sender.sent(plan, now),
            Kind::Probe => self.sender.probed(),
            Kind::Ack => {}
            Kind::Reset => self.reset_due = false,
        }
        if outgoing.header.flags.contains(TcpFlags::ACK) {
            self.receiver.acked();
        }
    }
}
