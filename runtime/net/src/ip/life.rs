//! How connections come to be and go.

use core::time::Duration;

use basalt_env::Instant;

use super::path::{Flow, Path, headers_len};
use super::segments::can_be_peer;
use super::table::{Connection, Fate, Phase};
use super::{IpStack, Sweep};
use crate::port::FramePort;
use crate::tcp::{self, Header, Seq, State, Terms};
use crate::{ConnectError, Endpoint, IpAddress, ListenerId, SocketId};

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often our initial sequence numbers go up by one (RFC 9293 §3.4.1).
const ISN_TICK_US: u64 = 4;

/// There is no room for another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoRoom;

impl<P: FramePort> IpStack<P> {
    /// Asks `peer` for a connection, from a port of ours that no other one to it has.
    pub(super) fn dial(&mut self, peer: Endpoint) -> Result<SocketId, ConnectError> {
        if peer.is_ipv4() && self.addresses.v4.is_none() {
            return Err(ConnectError::NoAddress);
        }
        let is_other = can_be_peer(peer.ip()) && !self.interface.has_ip_addr(peer.ip());
        if peer.port() == 0 || !is_other {
            return Err(ConnectError::BadAddress);
        }
        let source = self.interface.get_source_address(&peer.ip().into());
        let source = source.filter(|source| self.interface.has_ip_addr(*source));
        let from = source.ok_or(ConnectError::NoAddress)?;
        if self.table.is_full() {
            return Err(ConnectError::NoRoom);
        }
        let flow = self.free_flow(peer, from.into());
        let tcp = tcp::Connection::connect(self.terms(&flow), self.now);
        let path = Path::new(flow, self.mac, None);
        let id = self.insert(Connection {
            tcp,
            path,
            listener: None,
            phase: Phase::Open,
            deadline: self.now,
            asked_at: None,
            is_queued: false,
        });
        Ok(id)
    }

    /// A flow to `peer` from the next port of this stack's own from which nothing goes there yet.
    /// There is one, for there are more ports than connections.
    fn free_flow(&mut self, peer: Endpoint, from: IpAddress) -> Flow {
        loop {
            let flow = Flow { peer, local: Endpoint::new(from, self.ports.next()) };
            if self.table.find(&flow.key()).is_none() && !self.linger.knows(&flow) {
                return flow;
            }
        }
    }

    /// Makes a connection that `syn` asks for, which came from `link`.
    pub(super) fn admit(
        &mut self,
        flow: &Flow,
        syn: &Header,
        listener: ListenerId,
        link: [u8; 6],
    ) -> Result<SocketId, NoRoom> {
        let waiting = |c: &&Connection<P::Frame>| {
            c.listener == Some(listener) && matches!(c.phase, Phase::Opening | Phase::Ready)
        };
        let backlog = self.table.iter().filter(waiting).count();
        if backlog >= self.options.backlog_max || self.table.is_full() {
            return Err(NoRoom);
        }
        Ok(self.insert(Connection {
            tcp: tcp::Connection::accept(self.terms(flow), syn, self.now),
            path: Path::new(*flow, self.mac, Some(link)),
            listener: Some(listener),
            phase: Phase::Opening,
            deadline: self.now + HANDSHAKE_TIME_MAX,
            asked_at: None,
            is_queued: false,
        }))
    }

    fn insert(&mut self, connection: Connection<P::Frame>) -> SocketId {
        let deadline = connection.deadline();
        let id = self.table.insert(connection);
        self.look_by(deadline);
        self.queue(id.slot);
        id
    }

    /// Has the timers of connections looked at by then.
    fn look_by(&mut self, deadline: Option<Instant>) {
        self.tcp_timer = self.tcp_timer.into_iter().chain(deadline).min();
    }

    /// What both halves of a connection of that flow begin with.
    fn terms(&self, flow: &Flow) -> Terms {
        Terms {
            iss: self.initial_sequence(flow),
            mss: self.phy.port.mtu() - headers_len(flow.version()),
            rx_capacity: self.options.rx_buffer_len,
            tx_capacity: self.options.tx_buffer_len,
        }
    }

    /// RFC 6528: nobody who does not see the flow can tell where its numbers begin, and those of
    /// its next use lie behind.
    fn initial_sequence(&self, flow: &Flow) -> Seq {
        let hidden = self.secret.of(flow);
        Seq((self.now.as_us() / ISN_TICK_US) as u32) + hidden as usize
    }

    /// Resets the connections a listener has not accepted.
    pub(super) fn abandon(&mut self, listener: ListenerId) {
        self.abort_all(|c| {
            c.listener == Some(listener) && matches!(c.phase, Phase::Opening | Phase::Ready)
        });
    }

    /// Resets every connection from an address that is not ours any more, and drops what can no
    /// longer be sent.
    pub(super) fn reset_foreign(&mut self) {
        self.drop_unsendable();
        let addresses = self.interface.ip_addrs().to_vec();
        let is_ours = |address: IpAddress| {
            addresses.iter().any(|cidr| IpAddress::from(cidr.address()) == address)
        };
        self.abort_all(|connection| !is_ours(connection.path.flow().local.ip()));
    }

    fn abort_all(&mut self, is_meant: impl Fn(&Connection<P::Frame>) -> bool) {
        let Self { table, queued, .. } = self;
        for (slot, connection) in table.iter_mut() {
            if is_meant(connection) && connection.tcp.state() != State::Closed {
                connection.tcp.abort();
                connection.join(queued, slot);
            }
        }
        self.sweep = Sweep::Due;
    }

    /// Takes a connection from its user, to be cut off after `time`.
    pub(super) fn let_go(
        &mut self,
        id: SocketId,
        time: Duration,
        how: fn(&mut tcp::Connection<P::Frame>),
    ) {
        let deadline = self.now + time;
        if let Some(connection) = self.table.start_closing(id, deadline) {
            how(&mut connection.tcp);
            self.look_by(Some(deadline));
            self.queue(id.slot);
            self.sweep = Sweep::Due;
        }
    }

    /// Moves on every connection that no user holds. Runs after egress, so that one that was reset
    /// has said so.
    #[inline(never)]
    pub(super) fn sweep(&mut self) {
        self.sweep = Sweep::Idle;
        let Self { table, now, stats, queued, phy, linger, ended, .. } = self;
        table.sweep(|slot, connection| {
            let late = *now >= connection.deadline;
            let tcp = &mut connection.tcp;
            let fate = match (connection.phase, tcp.state()) {
                // It has a reset to send before it goes, if there is somebody to send it to.
                (_, State::Closed) if tcp.is_pressed() && connection.path.is_known() => Fate::Kept,
                (Phase::Opening | Phase::Closing | Phase::Ready, State::Closed) => Fate::Done,
                (Phase::Opening, State::Open) => {
                    connection.phase = Phase::Ready;
                    stats.accepted += 1;
                    Fate::Kept
                }
                (Phase::Closing, State::Open) if tcp.is_done() && !tcp.is_pressed() => {
                    if tcp.lingers() {
                        linger.add(*connection.path.flow(), tcp.edges(), *now);
                    }
                    Fate::Done
                }
                (Phase::Opening | Phase::Closing, _) if late => {
                    tcp.abort();
                    Fate::Kept
                }
                (Phase::Closing, _) => {
                    // Nobody reads any more; keep the window open for the end of the stream.
                    while let count @ 1.. = tcp.front().len() {
                        tcp.read(count).into_iter().for_each(|frame| phy.port.recycle(frame));
                    }
                    Fate::Kept
                }
                (Phase::Opening | Phase::Ready | Phase::Open, _) => Fate::Kept,
            };
            if fate == Fate::Done {
                *ended = ended.plus(tcp.segments());
                tcp.clear(&mut |frame| phy.port.recycle(frame));
            } else if tcp.is_pressed() {
                connection.join(queued, slot);
            }
            fate
        });
        if !self.queued.is_empty() {
            self.sweep = Sweep::Due;
        }
    }
}
