//! Datagrams to few peers, by a socket of the host for each.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use basalt_net::{ConnectError, DatagramError, DatagramId, Endpoint, IpAddress};

/// Most peers at once.
const PEERS_MAX: usize = 4;
/// The most that a datagram holds, bytes (RFC 768, in the largest IPv4 packet).
const BYTES_MAX: usize = 65_507;

/// The peers of one core. The host queues, and asks who takes what is sent.
#[derive(Default)]
pub struct Datagrams {
    sockets: Vec<(DatagramId, UdpSocket)>,
    next: u32,
}

impl Datagrams {
    /// Has datagrams sent to `peer` from now on.
    pub fn open(&mut self, peer: Endpoint) -> Result<DatagramId, ConnectError> {
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return Err(ConnectError::BadAddress);
        }
        if self.sockets.len() >= PEERS_MAX {
            return Err(ConnectError::NoRoom);
        }
        let socket = dial(peer).map_err(|error| {
            log::warn!(target: "net", "cannot send datagrams to {peer}: {error}");
            ConnectError::BadAddress
        })?;
        let id = DatagramId(self.next);
        self.next = self.next.wrapping_add(1);
        self.sockets.push((id, socket));
        Ok(id)
    }

    /// Sends one.
    pub fn send(&mut self, to: DatagramId, bytes: &[u8]) -> Result<(), DatagramError> {
        let socket = self.sockets.iter().find(|(id, _)| *id == to);
        let (_, socket) = socket.ok_or(DatagramError::Closed)?;
        if bytes.len() > BYTES_MAX {
            return Err(DatagramError::TooLong(BYTES_MAX));
        }
        let sent = match socket.send(bytes) {
            // The host tells of one before, at which nobody was there; this one was not sent.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => socket.send(bytes),
            other => other,
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(DatagramError::Full),
            // There is no way there now, or nobody there: it is for the caller to try again.
            Err(_) => Err(DatagramError::NoAddress),
        }
    }

    /// Sends nothing there any more.
    pub fn close(&mut self, to: DatagramId) {
        self.sockets.retain(|(id, _)| *id != to);
    }
}

fn dial(peer: Endpoint) -> io::Result<UdpSocket> {
    let any: IpAddress = match peer {
        Endpoint::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        Endpoint::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(peer)?;
    Ok(socket)
}
