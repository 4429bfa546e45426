//! How segments come to their connections, and leave them.

use basalt_env::Instant;

use super::life::NoRoom;
use super::linger::Claim;
use super::neighbours::PATIENCE;
use super::path::{Flow, Path, headers_len};
use super::{IpStack, Sweep};
use crate::checksum;
use crate::port::{Frame, FramePort, IpVersion, TxFull};
use crate::tcp::{Arrived, Header, InPlace, Keep, Parts, State, Ticked, reset_for};
use crate::wire::{Segment, TcpFlags};
use crate::{Endpoint, IpAddress};

/// Segments sent per poll, so that one core's network does not starve the rest of it.
const EGRESS_BUDGET: u32 = 256;
/// Of these for one connection, before others get their turn.
const TURN: u32 = 32;
/// Into smaller segments than that no card is to cut: too many would come of one packet.
const CUT_MIN: usize = 536;
/// What goes unanswered so often may have lost its way: neighbours are asked for it again.
const RETRIES_MAX: u32 = 2;

/// Whether a connection has sent all that it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Over,
    /// Others have theirs first.
    More,
}

impl<P: FramePort> IpStack<P> {
    /// Takes a frame with a TCP segment.
    pub(super) fn take_segment(&mut self, frame: P::Frame, segment: &Segment) {
        let bytes = frame.head();
        let flow = Flow {
            peer: Endpoint::new(segment.ip.source, segment.source_port),
            local: Endpoint::new(segment.ip.destination, segment.destination_port),
        };
        let header =
            segment.payload.and_then(|end| Header::parse(bytes.get(segment.ip.start..end)?));
        let Some((header, start)) = header.zip(segment.payload) else {
            return self.phy.drop(frame);
        };
        let is_mine = bytes.starts_with(&self.mac)
            && checksum::verify_header(bytes, &segment.ip)
            && !is_mapped(segment.ip.source);
        let Some(link) = bytes[6..].first_chunk().copied().filter(|_| is_mine) else {
            return self.phy.drop(frame);
        };
        let keep = if self.phy.port.can_spare(&frame) { Keep::Frame } else { Keep::Copy };
        let arrived = Arrived { frame, start, end: segment.ip.end, keep };
        let Some(slot) = self.table.find(&flow.key()) else {
            self.take_strange(&flow, &header, arrived.len(), link);
            return self.phy.port.recycle(arrived.frame);
        };
        self.deliver(slot, &header, arrived, link);
    }

    fn deliver(&mut self, slot: u32, header: &Header, arrived: Arrived<P::Frame>, link: [u8; 6]) {
        let Some(connection) = self.table.get_mut(slot) else {
            return self.phy.port.recycle(arrived.frame);
        };
        let verdict = connection.tcp.on_segment(header, arrived, self.now);
        if verdict.in_place == InPlace::Yes {
            connection.path.learn(link);
            connection.asked_at = None;
        }
        if connection.tcp.state() == State::Closed {
            // Nobody reads what came before a reset.
            connection.tcp.clear(&mut |frame| self.phy.port.recycle(frame));
        }
        let flow = *connection.path.flow();
        if let Some(frame) = verdict.frame {
            self.phy.port.recycle(frame);
        }
        if let Some(reset) = verdict.reset {
            self.reply(&flow, &reset, link);
        }
        self.queue(slot);
    }

    /// A segment of a flow without a connection: it may begin one.
    #[cold]
    fn take_strange(&mut self, flow: &Flow, header: &Header, payload: usize, link: [u8; 6]) {
        if !self.is_ours(flow) {
            return;
        }
        match self.linger.claim(flow, header, self.now) {
            Some(Claim::Repeat(next, expected)) => {
                let last = Header::plain(next, expected, TcpFlags::ACK, 0);
                return self.reply(flow, &last, link);
            }
            Some(Claim::Nothing) => return,
            Some(Claim::New) | None => {}
        }
        let control = TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN;
        let opens = header.flags & control == TcpFlags::SYN;
        let port = flow.local.port();
        let listener = self.listeners.iter().find(|listener| listener.port == port);
        let listener = listener.map(|listener| listener.id).filter(|_| opens);
        let Some(listener) = listener else {
            if let Some(reset) = reset_for(header, payload) {
                self.reply(flow, &reset, link);
            }
            return;
        };
        match self.admit(flow, header, listener, link) {
            Ok(id) => self.queue(id.slot),
            Err(NoRoom) => self.stats.refused += 1,
        }
    }

    /// Whether a flow is one between us and somebody else.
    fn is_ours(&self, flow: &Flow) -> bool {
        let (peer, local) = (flow.peer.ip(), flow.local.ip());
        can_be_peer(peer)
            && flow.peer.port() != 0
            && self.interface.has_ip_addr(local)
            && !self.interface.has_ip_addr(peer)
    }

    /// Answers a segment that came from `link`.
    fn reply(&mut self, flow: &Flow, header: &Header, link: [u8; 6]) {
        let path = Path::new(*flow, self.mac, Some(link));
        if path.send(&mut self.phy, header, Parts::default(), usize::MAX).is_err() {
            self.phy.tx_dropped += 1;
        }
    }

    /// Has a connection send what it has to at the next egress.
    pub(super) fn queue(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_mut(slot) {
            connection.join(&mut self.queued, slot);
        }
    }

    /// Sends what connections have to send, as far as there is room.
    pub(super) fn transmit_queued(&mut self) {
        let mut budget = EGRESS_BUDGET;
        while budget > 0
            && let Some(slot) = self.queued.pop_front()
        {
            self.sweep = Sweep::Due;
            match self.transmit(slot, &mut budget) {
                Ok(Turn::Over) => {}
                Ok(Turn::More) => self.queued.push_back(slot),
                Err(TxFull) => return self.queued.push_front(slot),
            }
        }
    }

    fn transmit(&mut self, slot: u32, budget: &mut u32) -> Result<Turn, TxFull> {
        let Some(connection) = self.table.get_mut(slot) else { return Ok(Turn::Over) };
        let version = connection.path.flow().version();
        for _ in 0..TURN.min(*budget) {
            let mss = connection.tcp.mss();
            let most = most(&self.phy.port, version, mss);
            let Some(outgoing) = connection.tcp.outgoing(most, self.now) else {
                connection.is_queued = false;
                connection.asked_at = None; // Nothing waits for who takes it.
                let deadline = connection.tcp.deadline();
                self.tcp_timer = self.tcp_timer.into_iter().chain(deadline).min();
                return Ok(Turn::Over);
            };
            if !connection.path.is_known() {
                return Ok(self.wait_for_neighbour(slot));
            }
            *budget -= 1;
            let payload = connection.tcp.parts(outgoing.payload);
            connection.path.send(&mut self.phy, &outgoing.header, payload, mss)?;
            connection.tcp.sent(&outgoing, self.now);
        }
        Ok(Turn::More)
    }

    /// What a connection has to send waits for who takes it.
    #[cold]
    fn wait_for_neighbour(&mut self, slot: u32) -> Turn {
        let now = self.now;
        let Some(connection) = self.table.get_mut(slot) else { return Turn::Over };
        connection.is_queued = false;
        let flow = *connection.path.flow();
        let deadline = connection.tcp.deadline();
        if connection.asked_at.is_none_or(|at| now.since(at) >= PATIENCE) {
            connection.asked_at = Some(now);
            self.ask(&flow);
        }
        self.tcp_timer = self.tcp_timer.into_iter().chain(deadline).chain([now + PATIENCE]).min();
        Turn::Over
    }

    /// Looks at the timers of all connections.
    #[cold]
    pub(super) fn tick(&mut self) {
        self.sweep = Sweep::Due;
        let mut next: Option<Instant> = None;
        for (slot, connection) in self.table.iter_mut() {
            let again = connection.asked_at.map(|at| at + PATIENCE);
            let ticked = connection.tcp.tick(self.now);
            if ticked == Ticked::Due && connection.tcp.retries() >= RETRIES_MAX {
                connection.path.forget();
            }
            if ticked != Ticked::Nothing || again.is_some_and(|again| self.now >= again) {
                connection.join(&mut self.queued, slot);
            }
            let deadlines = [again, connection.tcp.deadline(), connection.deadline()];
            next = next.into_iter().chain(deadlines.into_iter().flatten()).min();
        }
        self.tcp_timer = next;
    }
}

/// The most payload of a segment that goes to `port`.
fn most(port: &impl FramePort, version: IpVersion, mss: usize) -> usize {
    let large = port.large_send_max(version);
    if large > port.mtu() && mss >= CUT_MIN { large - headers_len(version) } else { mss }
}

/// Whether it is an IPv4 address in an IPv6 packet, which has no business on a link (RFC 4291
/// §2.5.5.2 is about programs), and must not pass for one in an IPv4 packet.
fn is_mapped(address: IpAddress) -> bool {
    matches!(address, IpAddress::V6(address) if address.to_ipv4_mapped().is_some())
}

/// Whether a connection can go there.
pub(super) fn can_be_peer(address: IpAddress) -> bool {
    match address {
        IpAddress::V4(address) => {
            !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
        }
        IpAddress::V6(address) => !address.is_multicast() && !address.is_unspecified(),
    }
}
