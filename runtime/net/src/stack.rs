use core::fmt;

use basalt_env::{DmaRun, Instant, Work};

use crate::StackStats;

/// An IP address.
pub type IpAddress = core::net::IpAddr;

/// An IP address and a TCP port.
pub type Endpoint = core::net::SocketAddr;

/// A listening port of one [`NetStack`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub u32);

/// A connection of one [`NetStack`]: slot and generation, so a stale one is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketId {
    /// Slot in the stack.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

/// Why a port cannot be listened on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    /// Somebody already listens there.
    InUse,
    /// No socket buffers left.
    NoMemory,
}

/// Why no connection can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// We have no address yet from which the peer could be reached.
    NoAddress,
    /// The peer's address is none that a connection can go to, or is our own.
    BadAddress,
    /// There are as many connections as there may be, or no memory for another.
    NoRoom,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "there is no address of our own yet to connect from",
            Self::BadAddress => "no connection can go to that address",
            Self::NoRoom => "there is no room for another connection",
        })
    }
}

/// Why a connection can no longer be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketError {
    /// The peer closed its side and everything it sent has been read.
    Closed,
    /// Reset by the peer, timed out, or the identifier is stale.
    Reset,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the peer closed the connection",
            Self::Reset => "the connection was reset",
        })
    }
}

/// Whom a [`NetStack`] sends datagrams to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DatagramId(pub u32);

/// Why a datagram was not taken to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramError {
    /// As many wait to be sent there as may.
    Full,
    /// It is longer than that many bytes, which is the most that one holds.
    TooLong(usize),
    /// We have no address yet from which the peer could be reached.
    NoAddress,
    /// Nothing is sent there any more.
    Closed,
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("as many datagrams wait to be sent as may"),
            Self::TooLong(most) => write!(f, "a datagram holds at most {most} bytes"),
            Self::NoAddress => f.write_str("there is no address of our own yet to send from"),
            Self::Closed => f.write_str("nothing is sent there any more"),
        }
    }
}

/// One core's TCP/IP stack. Nothing blocks; everything moves in [`Self::poll`].
pub trait NetStack {
    /// Moves frames and timers; call once per reactor round, before and after using sockets.
    fn poll(&mut self, now: Instant) -> Work;

    /// Listens on a TCP port on every local address.
    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError>;

    /// Stops listening; accepted connections live on.
    fn unlisten(&mut self, listener: ListenerId);

    /// The next established connection of a listener, if any.
    fn accept(&mut self, listener: ListenerId) -> Option<SocketId>;

    /// Asks `peer` for a connection. It can be used at once: nothing is taken to be sent and
    /// nothing is received until the peer answers, and [`SocketError::Reset`] says that it does
    /// not.
    fn connect(&mut self, peer: Endpoint) -> Result<SocketId, ConnectError>;

    /// Hands received bytes to `take`, which says how many it consumed, and again for as long as it
    /// consumes all and there are more. Gives how many that were; 0 when there is nothing now.
    /// `Closed` once the peer has finished and all bytes were consumed.
    fn recv(
        &mut self,
        socket: SocketId,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<usize, SocketError>;

    /// Queues as many of `bytes` as there is room for; gives that number.
    fn send(&mut self, socket: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        self.send_vectored(socket, &[DmaRun::Lent(bytes)])
    }

    /// Queues as many bytes of `runs`, in order, as there is room for; gives that number. Buffers
    /// that are shared may be kept, until the peer has what is queued of them or the connection is
    /// given up.
    fn send_vectored(
        &mut self,
        socket: SocketId,
        runs: &[DmaRun<'_>],
    ) -> Result<usize, SocketError>;

    /// Whether it keeps buffers that are shared with it; if not, it copies them as it does others.
    fn keeps_shared(&self) -> bool {
        false
    }

    /// Memory of shared buffers that is kept for a connection, bytes.
    fn held(&self, socket: SocketId) -> usize {
        let _ = socket;
        0
    }

    /// Sends what is queued, then closes; the identifier is stale from now on.
    fn close(&mut self, socket: SocketId);

    /// Resets the connection; the identifier is stale from now on.
    fn abort(&mut self, socket: SocketId);

    /// The peer's endpoint.
    fn peer(&self, socket: SocketId) -> Option<Endpoint>;

    /// Our endpoint.
    fn local(&self, socket: SocketId) -> Option<Endpoint>;

    /// Our address, once there is one.
    fn address(&self) -> Option<IpAddress>;

    /// Has datagrams (UDP, RFC 768) to `peer` sent from now on, from a port of ours that is chosen
    /// here. None are received. Without this method there is room for none.
    fn open_datagrams(&mut self, peer: Endpoint) -> Result<DatagramId, ConnectError> {
        let _ = peer;
        Err(ConnectError::NoRoom)
    }

    /// Queues a datagram. It is sent once it is known who on the link takes it; whether it arrives,
    /// nobody says. One that is refused was not taken, so that it can be sent again.
    fn send_datagram(&mut self, to: DatagramId, bytes: &[u8]) -> Result<(), DatagramError> {
        let _ = (to, bytes);
        Err(DatagramError::Closed)
    }

    /// Sends nothing there any more; what is still queued is dropped.
    fn close_datagrams(&mut self, to: DatagramId) {
        let _ = to;
    }

    /// What it has counted, if it counts.
    fn stats(&self) -> StackStats {
        StackStats::default()
    }
}
