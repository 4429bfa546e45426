//! A stack without a network.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_env::{Instant, Work};
use basalt_net::{
    ConnectError, Endpoint, IpAddress, ListenError, ListenerId, NetStack, SocketError, SocketId,
};

use crate::PORT;

/// A peer as the test plays it.
#[derive(Default)]
pub struct Peer {
    pub to_server: VecDeque<u8>,
    pub finished: bool,
    pub from_server: Vec<u8>,
    pub window: usize,
    pub closed: bool,
    pub aborted: bool,
    /// Where it is, and where it thinks that we are.
    ends: Option<[Endpoint; 2]>,
}

/// A stack without a network: every socket is a [`Peer`], received a few bytes at a time.
#[derive(Default)]
pub struct FakeStack {
    pub peers: Vec<Peer>,
    accepted: usize,
    /// Ports that are listened on.
    pub ports: Vec<u16>,
}

impl FakeStack {
    fn peer(&mut self, socket: SocketId) -> Result<&mut Peer, SocketError> {
        let peer = self.peers.get_mut(socket.slot as usize).ok_or(SocketError::Reset)?;
        if peer.closed || peer.aborted { Err(SocketError::Reset) } else { Ok(peer) }
    }

    pub fn connect(&mut self, text: &str) -> usize {
        let to_server = text.bytes().collect();
        self.peers.push(Peer { to_server, window: usize::MAX, ..Peer::default() });
        self.peers.len() - 1
    }

    /// As [`Self::connect`], from one address to another.
    pub fn connect_from(&mut self, ends: [&str; 2], text: &str) -> usize {
        let at = self.connect(text);
        self.peers[at].ends = Some(ends.map(|ip| Endpoint::new(ip.parse().unwrap(), PORT)));
        at
    }

    /// Whether a peer has got a whole answer to a request that is no `HEAD`.
    pub fn has_answer(&self, peer: usize) -> bool {
        let bytes = &self.peers[peer].from_server;
        let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
        let head = core::str::from_utf8(&bytes[..at]).unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        bytes.len() - at - 4 >= len.map_or(0, |len| len.parse().unwrap())
    }

    /// The head and the content of what a peer has got.
    pub fn answer(&self, peer: usize) -> (String, Vec<u8>) {
        let bytes = &self.peers[peer].from_server;
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("no answer") + 4;
        (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end..].to_vec())
    }

    /// The first lines of all answers that a peer has got.
    pub fn statuses(&self, peer: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.peers[peer].from_server);
        text.lines().filter(|line| line.contains("HTTP/1.1 ")).map(String::from).collect()
    }
}

impl NetStack for FakeStack {
    fn poll(&mut self, _: Instant) -> Work {
        Work::IDLE
    }

    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError> {
        self.ports.push(port);
        Ok(ListenerId(port.into()))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.ports.retain(|port| u32::from(*port) != listener.0);
    }

    fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        assert!(self.ports.iter().any(|port| u32::from(*port) == listener.0));
        let slot = self.accepted;
        (slot < self.peers.len()).then(|| {
            self.accepted += 1;
            SocketId { slot: slot as u32, generation: 0 }
        })
    }

    /// There is nobody to connect to.
    fn connect(&mut self, _: Endpoint) -> Result<SocketId, ConnectError> {
        Err(ConnectError::BadAddress)
    }

    fn recv(
        &mut self,
        socket: SocketId,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<usize, SocketError> {
        let peer = self.peer(socket)?;
        let chunk: Vec<u8> = peer.to_server.iter().take(11).copied().collect();
        match (chunk.is_empty(), peer.finished) {
            (true, true) => return Err(SocketError::Closed),
            (true, false) => return Ok(0),
            _ => {}
        }
        let taken = take(&chunk);
        peer.to_server.drain(..taken);
        Ok(taken)
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        let peer = self.peer(socket)?;
        let sent = bytes.len().min(700).min(peer.window);
        peer.window -= sent;
        peer.from_server.extend_from_slice(&bytes[..sent]);
        Ok(sent)
    }

    fn close(&mut self, socket: SocketId) {
        self.peers[socket.slot as usize].closed = true;
    }

    fn abort(&mut self, socket: SocketId) {
        self.peers[socket.slot as usize].aborted = true;
    }

    fn peer(&self, socket: SocketId) -> Option<Endpoint> {
        self.peers[socket.slot as usize].ends.map(|[peer, _]| peer)
    }

    fn local(&self, socket: SocketId) -> Option<Endpoint> {
        self.peers[socket.slot as usize].ends.map(|[_, local]| local)
    }

    fn address(&self) -> Option<IpAddress> {
        None
    }
}
