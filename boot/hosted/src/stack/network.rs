//! What all cores' stacks share: the address and the ports.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use basalt_net::{ConnectError, ListenError};
use socket2::{Domain, Protocol, Socket, Type};

/// What Linux calls an error that is none: the connection is being made.
const EINPROGRESS: i32 = 115;
/// Connections that the host holds until they are accepted.
const BACKLOG: i32 = 1024;

/// The address to listen on, and on how many cores each port is listened on. Clones are one.
#[derive(Clone)]
pub struct Network {
    address: Ipv4Addr,
    ports: Arc<Mutex<HashMap<u16, usize>>>,
}

impl Network {
    /// Nobody listens.
    pub fn new(address: Ipv4Addr) -> Self {
        Self { address, ports: Arc::default() }
    }

    /// The address to listen on.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Listens on `port` for one more core. The first one makes sure that no other program does.
    pub fn listen(&self, port: u16) -> Result<TcpListener, ListenError> {
        let at = SocketAddr::from((self.address, port));
        let mut ports = self.lock();
        let cores = ports.entry(port).or_default();
        let alone = if *cores == 0 { TcpListener::bind(at).map(drop) } else { Ok(()) };
        let listener = alone.and_then(|()| shared(at)).map_err(|error| {
            log::error!(target: "net", "cannot listen on {at}: {error}");
            refusal(&error)
        })?;
        *cores += 1;
        Ok(listener)
    }

    /// A core no longer listens on `port`.
    pub fn unlisten(&self, port: u16) {
        if let Some(cores) = self.lock().get_mut(&port) {
            *cores = cores.saturating_sub(1);
        }
    }

    /// A thread that panicked cannot have left the table half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<u16, usize>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has been asked for: the host has yet to say what has become of it.
pub fn dial(peer: SocketAddr) -> Result<TcpStream, ConnectError> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP));
    let asked = socket.and_then(|socket| {
        socket.set_nonblocking(true)?;
        match socket.connect(&peer.into()) {
            // The host's way to say that it has begun.
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => Ok(socket),
            other => other.map(|()| socket),
        }
    });
    asked.map(TcpStream::from).map_err(|error| {
        log::warn!(target: "net", "cannot connect to {peer}: {error}");
        match error.kind() {
            io::ErrorKind::OutOfMemory => ConnectError::NoRoom,
            _ => ConnectError::BadAddress,
        }
    })
}

/// A listener on a port that other sockets of this user may listen on as well.
fn shared(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn refusal(error: &io::Error) -> ListenError {
    match error.kind() {
        io::ErrorKind::OutOfMemory => ListenError::NoMemory,
        _ => ListenError::InUse,
    }
}
