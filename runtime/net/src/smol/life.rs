//! How connections come to be and go.

use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::Instant;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::wire::IpEndpoint;

use super::SmolStack;
use super::table::{Connection, Fate, Phase};
use crate::port::FramePort;
use crate::wire::Segment;
use crate::{ConnectError, Endpoint, ListenerId, SocketId};

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a peer may leave what we sent unacknowledged, and a probe unanswered.
const SILENCE_MAX: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);
/// How often a silent peer is probed.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(20);

/// There is no room for another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoRoom;

impl<P: FramePort> SmolStack<P> {
    /// Asks `peer` for a connection, from a port of ours that no other one to it has.
    pub(super) fn dial(&mut self, peer: Endpoint) -> Result<SocketId, ConnectError> {
        if peer.is_ipv4() && self.addresses.v4.is_none() {
            return Err(ConnectError::NoAddress);
        }
        let remote = IpEndpoint::from(peer);
        let from = self.free_port(remote);
        let mut socket = self.socket().map_err(|NoRoom| ConnectError::NoRoom)?;
        let asked = socket.connect(self.interface.context(), remote, from);
        if asked.is_err() || self.interface.has_ip_addr(remote.addr) {
            return Err(ConnectError::BadAddress);
        }
        let handle = self.sockets.add(socket);
        self.dirty = true;
        let deadline = self.now;
        Ok(self.table.insert(Connection { handle, listener: None, phase: Phase::Open, deadline }))
    }

    /// The next port of this stack's own from which nothing goes to `remote` yet. There is one, for
    /// there are more ports than connections.
    fn free_port(&mut self, remote: IpEndpoint) -> u16 {
        for _ in 0..=self.table.len() {
            let port = self.ports.next();
            let mut flows = self.flows();
            if !flows.any(|(local, peer)| (local.port, peer) == (port, remote)) {
                return port;
            }
        }
        self.ports.next()
    }

    /// Both ends of every connection.
    fn flows(&self) -> impl Iterator<Item = (IpEndpoint, IpEndpoint)> {
        self.table.iter().filter_map(|connection| {
            let socket = self.sockets.get::<Socket>(connection.handle);
            Some((socket.local_endpoint()?, socket.remote_endpoint()?))
        })
    }

    /// Makes a socket for a segment that asks for a connection, if it is to get one.
    pub(super) fn admit(&mut self, segment: &Segment) -> Result<Option<SocketHandle>, NoRoom> {
        let port = segment.destination_port;
        let ours = self.interface.has_ip_addr(segment.ip.destination);
        let listener = self.listeners.iter().find(|listener| listener.port == port);
        let Some(listener) = listener.map(|listener| listener.id) else { return Ok(None) };
        // A repeated request belongs to the socket that the first one made.
        if !ours || self.is_known(segment) {
            return Ok(None);
        }
        let waiting = |c: &&Connection| {
            c.listener == Some(listener) && matches!(c.phase, Phase::Opening | Phase::Ready)
        };
        if self.table.iter().filter(waiting).count() >= self.options.backlog_max {
            return Err(NoRoom);
        }
        let mut socket = self.socket()?;
        socket.listen(port).map_err(|_| NoRoom)?;
        let handle = self.sockets.add(socket);
        let (listener, deadline) = (Some(listener), self.now + HANDSHAKE_TIME_MAX);
        self.table.insert(Connection { handle, listener, phase: Phase::Opening, deadline });
        Ok(Some(handle))
    }

    /// Has smoltcp see the staged segment of a handshake so that it sends large ones, if that
    /// begins a connection: one that was admitted just now, or that we asked for.
    pub(super) fn present(&mut self, segment: &Segment, admitted: Option<SocketHandle>) {
        if !self.phy.presents() {
            return;
        }
        let Self { phy, table, sockets, .. } = self;
        let flows = table.iter().filter_map(|connection| {
            let socket = sockets.get::<Socket>(connection.handle);
            Some((socket.state(), socket.remote_endpoint()?, socket.local_endpoint()?.port))
        });
        let peer = IpEndpoint::new(segment.ip.source.into(), segment.source_port);
        let asked_for = (State::SynSent, peer, segment.destination_port);
        if admitted.is_some() || flows.clone().any(|flow| flow == asked_for) {
            phy.present(segment, |address, theirs, ours| {
                let peer = IpEndpoint::new(address.into(), theirs);
                flows.clone().any(|(_, remote, local)| (remote, local) == (peer, ours))
            });
        }
    }

    /// After smoltcp saw the segment: a socket that does not answer it is not kept.
    pub(super) fn settle(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<Socket>(handle);
        if socket.state() == State::Listen {
            socket.close(); // The next sweep frees it.
            self.dirty = true;
        }
    }

    /// Resets the connections a listener has not accepted.
    pub(super) fn abandon(&mut self, listener: ListenerId) {
        let handles = self
            .table
            .iter()
            .filter(|c| c.listener == Some(listener))
            .filter(|c| matches!(c.phase, Phase::Opening | Phase::Ready))
            .map(|connection| connection.handle);
        for handle in handles {
            self.sockets.get_mut::<Socket>(handle).abort();
        }
        self.dirty = true;
    }

    /// Moves on every connection that no user holds. Runs after egress, so that a socket that was
    /// reset has said so.
    pub(super) fn sweep(&mut self) {
        let Self { table, sockets, now, stats, dirty, .. } = self;
        table.sweep(|connection| {
            let socket = sockets.get_mut::<Socket>(connection.handle);
            let late = *now >= connection.deadline;
            let fate = match (connection.phase, socket.state()) {
                (Phase::Opening | Phase::Closing, State::Closed) => Fate::Done,
                (Phase::Ready, State::Closed) if socket.recv_queue() == 0 => Fate::Done,
                (Phase::Opening, State::Listen | State::SynReceived) if late => cut_off(socket),
                (Phase::Opening, State::Listen | State::SynReceived) => Fate::Kept,
                (Phase::Opening, _) => {
                    connection.phase = Phase::Ready;
                    stats.accepted += 1;
                    Fate::Kept
                }
                // Both sides have everything. A lost last acknowledgement costs the peer a reset.
                (Phase::Closing, State::TimeWait) => Fate::Done,
                (Phase::Closing, _) if late => cut_off(socket),
                (Phase::Closing, _) => {
                    // Nobody reads any more; keep the window open for the end of the stream.
                    while socket.recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|n| n > 0) {}
                    Fate::Kept
                }
                (Phase::Ready | Phase::Open, _) => Fate::Kept,
            };
            if fate == Fate::Done {
                sockets.remove(connection.handle);
            } else if late && socket_is_closed(sockets, connection.handle) {
                *dirty = true; // It has a reset to send, and to be freed after.
            }
            fate
        });
    }

    /// When the sweep next has to cut something off.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let transient = |c: &&Connection| matches!(c.phase, Phase::Opening | Phase::Closing);
        self.table.iter().filter(transient).map(|connection| connection.deadline).min()
    }

    /// Resets every connection from an address that is not ours any more.
    pub(super) fn reset_foreign(&mut self) {
        for connection in self.table.iter() {
            let socket = self.sockets.get_mut::<Socket>(connection.handle);
            let local = socket.local_endpoint();
            if local.is_some_and(|local| !self.interface.has_ip_addr(local.addr)) {
                socket.abort();
            }
        }
        self.dirty = true;
    }

    fn is_known(&self, segment: &Segment) -> bool {
        let local = IpEndpoint::new(segment.ip.destination.into(), segment.destination_port);
        let remote = IpEndpoint::new(segment.ip.source.into(), segment.source_port);
        self.flows().any(|flow| flow == (local, remote))
    }

    fn socket(&self) -> Result<Socket<'static>, NoRoom> {
        if self.table.is_full() {
            return Err(NoRoom);
        }
        let rx = buffer(self.options.rx_buffer_len)?;
        let mut socket = Socket::new(rx, buffer(self.options.tx_buffer_len)?);
        // Requests and replies are latency: nothing is held back to be merged.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        // Others use the network too (RFC 5681).
        socket.set_congestion_control(CongestionControl::Reno);
        Ok(socket)
    }
}

fn socket_is_closed(sockets: &smoltcp::iface::SocketSet<'static>, handle: SocketHandle) -> bool {
    sockets.get::<Socket>(handle).state() == State::Closed
}

fn cut_off(socket: &mut Socket<'_>) -> Fate {
    socket.abort();
    Fate::Kept
}

fn buffer(len: usize) -> Result<SocketBuffer<'static>, NoRoom> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| NoRoom)?;
    bytes.resize(len, 0);
    Ok(SocketBuffer::new(bytes))
}
