//! Datagrams (UDP, RFC 768), which are sent and not received.
//!
//! What waits for a peer is queued here, and goes to smoltcp one after the other, which asks who on
//! the link takes it and keeps it until somebody answers.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use basalt_env::Instant;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};

use super::IpStack;
use super::neighbours::PATIENCE;
use super::path::Flow;
use super::segments::can_be_peer;
use crate::port::FramePort;
use crate::{ConnectError, DatagramError, DatagramId, Endpoint};

/// Most peers at once.
const PEERS_MAX: usize = 4;
/// Most datagrams that wait for a peer.
const QUEUED_MAX: usize = 32;
/// Bytes of the IP and UDP headers.
const V4_HEADERS_LEN: usize = 20 + 8;
const V6_HEADERS_LEN: usize = 40 + 8;

/// Whom datagrams go to.
pub(super) struct Addressee {
    id: DatagramId,
    peer: Endpoint,
    /// Holds the next one.
    socket: SocketHandle,
    /// Since when there is one, or when it was last asked who takes it; as far as is known here.
    given_at: Option<Instant>,
    /// Those behind it.
    queue: VecDeque<Vec<u8>>,
}

impl<P: FramePort> IpStack<P> {
    /// Makes room for datagrams to `peer`.
    #[cold]
    pub(super) fn add_addressee(&mut self, peer: Endpoint) -> Result<DatagramId, ConnectError> {
        let is_other = can_be_peer(peer.ip()) && !self.interface.has_ip_addr(peer.ip());
        if peer.port() == 0 || !is_other {
            return Err(ConnectError::BadAddress);
        }
        if self.addressees.len() >= PEERS_MAX {
            return Err(ConnectError::NoRoom);
        }
        let none = PacketBuffer::new(Vec::new(), Vec::new());
        let one = PacketBuffer::new(vec![PacketMetadata::EMPTY], vec![0; self.phy.port.mtu()]);
        let mut socket = Socket::new(none, one);
        socket.bind(self.ports.next()).map_err(|_| ConnectError::NoRoom)?;
        let id = DatagramId(self.addressee_next);
        self.addressee_next = self.addressee_next.wrapping_add(1);
        let socket = self.sockets.add(socket);
        self.addressees.push(Addressee {
            id,
            peer,
            socket,
            given_at: None,
            queue: VecDeque::new(),
        });
        Ok(id)
    }

    /// Queues a datagram.
    #[cold]
    pub(super) fn queue_datagram(
        &mut self,
        to: DatagramId,
        bytes: &[u8],
    ) -> Result<(), DatagramError> {
        let at = self.addressees.iter().position(|addressee| addressee.id == to);
        let at = at.ok_or(DatagramError::Closed)?;
        let Addressee { peer, ref queue, .. } = self.addressees[at];
        let headers = if peer.is_ipv4() { V4_HEADERS_LEN } else { V6_HEADERS_LEN };
        let most = self.phy.port.mtu().saturating_sub(headers);
        if bytes.len() > most {
            return Err(DatagramError::TooLong(most));
        }
        if !self.can_reach(&peer) {
            return Err(DatagramError::NoAddress);
        }
        if queue.len() >= QUEUED_MAX {
            return Err(DatagramError::Full);
        }
        self.addressees[at].queue.push_back(bytes.into());
        self.dirty = true;
        Ok(())
    }

    /// Drops what is queued, and forgets whom it was for.
    #[cold]
    pub(super) fn remove_addressee(&mut self, id: DatagramId) {
        let Some(at) = self.addressees.iter().position(|addressee| addressee.id == id) else {
            return;
        };
        self.drop_datagrams(at);
        let Addressee { socket, .. } = self.addressees.swap_remove(at);
        self.sockets.remove(socket);
    }

    /// Gives smoltcp what it is to send next, where it has sent what it was given.
    #[cold]
    pub(super) fn feed_datagrams(&mut self) {
        for Addressee { peer, socket, given_at, queue, .. } in &mut self.addressees {
            let socket = self.sockets.get_mut::<Socket<'_>>(*socket);
            if !socket.can_send() {
                continue;
            }
            self.stats.datagrams += u64::from(given_at.take().is_some());
            let Some(datagram) = queue.pop_front() else { continue };
            // There is room for one of any length that was taken.
            *given_at = socket.send_slice(&datagram, *peer).is_ok().then_some(self.now);
            self.stats.datagrams_dropped += u64::from(given_at.is_none());
        }
    }

    /// Asks for those who have kept a datagram waiting. smoltcp asks for one neighbour a second, of
    /// whom the first that does not answer keeps it from asking for any other.
    #[cold]
    pub(super) fn ask_for_addressees(&mut self) {
        for at in 0..self.addressees.len() {
            let Addressee { peer, given_at, .. } = &mut self.addressees[at];
            let peer = *peer;
            if given_at.is_none_or(|since| self.now.since(since) < PATIENCE) {
                continue;
            }
            *given_at = Some(self.now);
            if let Some(local) = self.interface.get_source_address(&peer.ip().into()) {
                self.ask(&Flow { peer, local: Endpoint::new(local.into(), 0) });
            }
        }
    }

    /// Drops what can only be sent from an address that is not ours any more.
    #[cold]
    pub(super) fn drop_unsendable(&mut self) {
        for at in 0..self.addressees.len() {
            if !self.can_reach(&self.addressees[at].peer) {
                self.drop_datagrams(at);
            }
        }
    }

    /// Whether there is an address to send from to `peer`.
    #[cold]
    fn can_reach(&self, peer: &Endpoint) -> bool {
        let source = self.interface.get_source_address(&peer.ip().into());
        source.is_some_and(|source| self.interface.has_ip_addr(source))
    }

    #[cold]
    fn drop_datagrams(&mut self, at: usize) {
        self.feed_datagrams();
        let Addressee { socket, given_at, queue, .. } = &mut self.addressees[at];
        let socket = self.sockets.get_mut::<Socket<'_>>(*socket);
        if given_at.take().is_some() {
            self.stats.datagrams_dropped += 1;
            let from = socket.endpoint();
            socket.close();
            // That port it had before.
            let _ = socket.bind(from);
        }
        self.stats.datagrams_dropped += queue.len() as u64;
        queue.clear();
    }
}
