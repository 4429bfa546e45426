//! The host's TCP behind the runtime's [`NetStack`]: one stack per core, each with listening
//! sockets of its own on shared ports, among which the host spreads the connections.

mod buffer;
mod connection;
mod datagrams;
mod network;
mod table;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use basalt_env::{DmaRun, Instant, Work};
use basalt_hosted::{Readiness, Ready};
use basalt_net::{
    ConnectError, DatagramError, DatagramId, Endpoint, IpAddress, ListenError, ListenerId,
    NetStack, SocketError, SocketId, StackStats,
};
use basalt_reactor::Local;

use connection::Connection;
use datagrams::Datagrams;
pub use network::Network;
use table::Table;

/// Connections of one core.
const CONNECTIONS_MAX: usize = 1024;
/// How long a connection that its user closed may take to send what is left.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(30);
/// Readiness words of listeners have this bit; those of connections are slot and generation.
const LISTENER: u64 = 1 << 63;
/// The readiness word of a file that is looked at anyway: it only ends a sleep.
pub const WAKE_ONLY: u64 = u64::MAX;

struct Listener {
    id: ListenerId,
    port: u16,
    socket: TcpListener,
    /// Whether there may be connections to accept.
    ready: bool,
}

/// One core's sockets.
///
/// Life of a connection: accepted from the host by [`NetStack::accept`] -> open ->
/// [`NetStack::close`] (sends what is left, then waits for the peer's end, up to 30 seconds) or
/// [`NetStack::abort`] -> gone.
pub struct HostStack {
    network: Network,
    readiness: Rc<Readiness>,
    table: Table,
    /// Given up by their users, not yet gone.
    closing: Vec<(SocketId, Instant)>,
    /// Those with something to send.
    unsent: Vec<SocketId>,
    listeners: Vec<Listener>,
    listener_next: u32,
    datagrams: Datagrams,
    stats: StackStats,
    now: Instant,
}

impl HostStack {
    /// A stack with its pollers `net_stack`, which finds out what has arrived, and `net_flush`,
    /// which sends what a round has produced.
    pub fn start(local: &Local, network: Network, readiness: Rc<Readiness>) -> Rc<RefCell<Self>> {
        let stack = Rc::new(RefCell::new(Self::new(network, readiness)));
        let (polled, flushed) = (Rc::clone(&stack), Rc::clone(&stack));
        let poll = move |local: &Local| polled.borrow_mut().poll(local.now());
        local.poller("net_stack", poll).for_both().detach();
        let flush = move |_: &Local| flushed.borrow_mut().flush();
        local.late_poller("net_flush", flush).for_both().detach();
        stack
    }

    fn new(network: Network, readiness: Rc<Readiness>) -> Self {
        Self {
            network,
            readiness,
            table: Table::new(CONNECTIONS_MAX),
            closing: Vec::new(),
            unsent: Vec::new(),
            listeners: Vec::new(),
            listener_next: 0,
            datagrams: Datagrams::default(),
            stats: StackStats::default(),
            now: Instant::ZERO,
        }
    }

    /// Sends what the connections have queued.
    fn flush(&mut self) -> Work {
        let mut work = Work::IDLE;
        let table = &mut self.table;
        self.unsent.retain(|&id| {
            let Some(connection) = table.get_mut(id) else { return false };
            work += connection.flush();
            connection.mark_unsent()
        });
        work
    }

    /// Lets those go that have sent everything and heard the peer's end, or that took too long.
    fn sweep(&mut self) {
        let (table, now) = (&mut self.table, self.now);
        self.closing.retain(|&(id, deadline)| {
            let Some(connection) = table.get_mut(id) else { return false };
            if now < deadline && !connection.finish() {
                return true;
            }
            table.remove(id);
            false
        });
    }

    fn open(&mut self, id: SocketId) -> Result<&mut Connection, SocketError> {
        let connection = self.table.get_mut(id).ok_or(SocketError::Reset)?;
        if connection.is_closing() { Err(SocketError::Reset) } else { Ok(connection) }
    }

    /// Takes a connection over from the host.
    fn admit(&mut self, mut connection: Connection) -> Option<SocketId> {
        if self.table.len() == CONNECTIONS_MAX {
            log::warn!(target: "net", "refused a connection: {CONNECTIONS_MAX} are open");
            connection.reset();
            self.stats.refused += 1;
            return None;
        }
        let id = self.table.insert(connection);
        let added = self
            .table
            .get_mut(id)
            .map(|connection| self.readiness.add(connection.stream(), token(id)));
        if !matches!(added, Some(Ok(()))) {
            log::warn!(target: "net", "refused a connection: the host cannot watch it");
            self.table.remove(id);
            return None;
        }
        Some(id)
    }
}

fn token(id: SocketId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.slot)
}

fn note(table: &mut Table, listeners: &mut [Listener], ready: Ready) {
    if ready.token == WAKE_ONLY {
        return;
    }
    if ready.token & LISTENER != 0 {
        let id = ListenerId(ready.token as u32);
        listeners.iter_mut().filter(|other| other.id == id).for_each(|other| other.ready = true);
        return;
    }
    let id = SocketId { slot: ready.token as u32, generation: (ready.token >> 32) as u32 };
    if let Some(connection) = table.get_mut(id) {
        connection.note(ready);
    }
}

impl NetStack for HostStack {
    fn poll(&mut self, now: Instant) -> Work {
        self.now = now;
        let (table, listeners) = (&mut self.table, &mut self.listeners);
        let count = self.readiness.look(|ready| note(table, listeners, ready));
        if !self.closing.is_empty() {
            self.sweep();
        }
        Work(count)
    }

    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError> {
        if port == 0 || self.listeners.iter().any(|listener| listener.port == port) {
            return Err(ListenError::InUse);
        }
        let id = ListenerId(self.listener_next);
        let socket = self.network.listen(port)?;
        if let Err(error) = self.readiness.add(&socket, LISTENER | u64::from(id.0)) {
            log::error!(target: "net", "port {port}: the host cannot watch it: {error}");
            self.network.unlisten(port);
            return Err(ListenError::NoMemory);
        }
        self.listener_next = (self.listener_next + 1) % (1 << 31);
        self.listeners.push(Listener { id, port, socket, ready: true });
        Ok(id)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let at = self.listeners.iter().position(|other| other.id == listener);
        if let Some(at) = at {
            let Listener { port, .. } = self.listeners.swap_remove(at);
            self.network.unlisten(port);
        }
    }

    fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        loop {
            let listener = self.listeners.iter_mut().find(|other| other.id == listener)?;
            if !listener.ready {
                return None;
            }
            match listener.socket.accept() {
                Ok((stream, _)) => {
                    let connection = Connection::new(stream).ok();
                    if let Some(id) = connection.and_then(|connection| self.admit(connection)) {
                        self.stats.accepted += 1;
                        return Some(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.ready = false;
                    return None;
                }
                // The peer gave up meanwhile; the next one may be there.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of files or memory: tried again when the next one comes.
                    log::warn!(target: "net", "port {}: cannot accept: {error}", listener.port);
                    listener.ready = false;
                    return None;
                }
            }
        }
    }

    fn connect(&mut self, peer: Endpoint) -> Result<SocketId, ConnectError> {
        let connection = Connection::asked_for(network::dial(peer)?);
        let id = connection.ok().and_then(|connection| self.admit(connection));
        id.ok_or(ConnectError::NoRoom)
    }

    fn recv(
        &mut self,
        socket: SocketId,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<usize, SocketError> {
        self.open(socket)?.recv(take)
    }

    /// The host copies: nothing is kept.
    fn send_vectored(
        &mut self,
        socket: SocketId,
        runs: &[DmaRun<'_>],
    ) -> Result<usize, SocketError> {
        let connection = self.open(socket)?;
        let first = !connection.is_unsent();
        let sent = connection.send(runs)?;
        if connection.mark_unsent() && first {
            self.unsent.push(socket);
        }
        Ok(sent)
    }

    fn close(&mut self, socket: SocketId) {
        let deadline = self.now + CLOSE_TIME_MAX;
        if let Ok(connection) = self.open(socket) {
            connection.start_closing();
            self.closing.push((socket, deadline));
        }
    }

    fn abort(&mut self, socket: SocketId) {
        if let Ok(connection) = self.open(socket) {
            connection.reset();
            self.table.remove(socket);
        }
    }

    fn peer(&self, socket: SocketId) -> Option<Endpoint> {
        self.table.get(socket)?.stream().peer_addr().ok()
    }

    fn local(&self, socket: SocketId) -> Option<Endpoint> {
        self.table.get(socket)?.stream().local_addr().ok()
    }

    fn address(&self) -> Option<IpAddress> {
        Some(self.network.address().into())
    }

    fn open_datagrams(&mut self, peer: Endpoint) -> Result<DatagramId, ConnectError> {
        self.datagrams.open(peer)
    }

    fn send_datagram(&mut self, to: DatagramId, bytes: &[u8]) -> Result<(), DatagramError> {
        self.datagrams.send(to, bytes)?;
        self.stats.datagrams += 1;
        Ok(())
    }

    fn close_datagrams(&mut self, to: DatagramId) {
        self.datagrams.close(to);
    }

    /// Segments and frames are the host's.
    fn stats(&self) -> StackStats {
        StackStats { connections: self.table.len(), ..self.stats }
    }
}
