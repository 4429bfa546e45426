//! The control plane as a program of the host: SPDK's client can be tried on it without a machine.
//!
//! `cargo run -p basalt-rpc --example bridge [-- PORT]`, then
//! `spdk-rpc -s 127.0.0.1 -p 5260 bdev_malloc_create 16 512`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant as HostInstant};

use basalt_bdev::Registry;
use basalt_env::{Instant, Work};
use basalt_net::{Endpoint, IpAddress, ListenError, ListenerId, NetStack, SocketError, SocketId};
use basalt_reactor::{Options, mesh};
use basalt_rpc::{PORT, Router, Rpc, Server, State, methods};

/// The host's TCP behind the trait of ours.
struct HostStack {
    port: u16,
    listener: Option<TcpListener>,
    sockets: Vec<Option<HostSocket>>,
}

struct HostSocket {
    stream: TcpStream,
    received: Vec<u8>,
}

impl HostStack {
    fn socket(&mut self, id: SocketId) -> Result<&mut HostSocket, SocketError> {
        let slot = self.sockets.get_mut(id.slot as usize);
        slot.and_then(Option::as_mut).ok_or(SocketError::Reset)
    }

    fn drop_socket(&mut self, id: SocketId) {
        if let Some(slot) = self.sockets.get_mut(id.slot as usize) {
            *slot = None;
        }
    }
}

impl NetStack for HostStack {
    fn poll(&mut self, _: Instant) -> Work {
        Work::IDLE
    }

    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError> {
        let port = if port == PORT { self.port } else { port };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = listener.map_err(|_| ListenError::InUse)?;
        listener.set_nonblocking(true).map_err(|_| ListenError::NoMemory)?;
        self.listener = Some(listener);
        Ok(ListenerId(0))
    }

    fn unlisten(&mut self, _: ListenerId) {
        self.listener = None;
    }

    fn accept(&mut self, _: ListenerId) -> Option<SocketId> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        self.sockets.push(Some(HostSocket { stream, received: Vec::new() }));
        Some(SocketId { slot: self.sockets.len() as u32 - 1, generation: 0 })
    }

    fn recv(
        &mut self,
        id: SocketId,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<usize, SocketError> {
        let socket = self.socket(id)?;
        let mut chunk = [0; 4096];
        let finished = match socket.stream.read(&mut chunk) {
            Ok(0) => true,
            Ok(len) => {
                socket.received.extend_from_slice(&chunk[..len]);
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => return Err(SocketError::Reset),
        };
        if socket.received.is_empty() {
            return if finished { Err(SocketError::Closed) } else { Ok(0) };
        }
        let taken = take(&socket.received);
        socket.received.drain(..taken);
        Ok(taken)
    }

    fn send(&mut self, id: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        match self.socket(id)?.stream.write(bytes) {
            Ok(sent) => Ok(sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(SocketError::Reset),
        }
    }

    fn close(&mut self, id: SocketId) {
        self.drop_socket(id);
    }

    fn abort(&mut self, id: SocketId) {
        self.drop_socket(id);
    }

    fn peer(&self, _: SocketId) -> Option<Endpoint> {
        None
    }

    fn local(&self, _: SocketId) -> Option<Endpoint> {
        None
    }

    fn address(&self) -> Option<IpAddress> {
        Some(Ipv4Addr::LOCALHOST.into())
    }
}

fn main() -> Result<(), String> {
    let port = std::env::args().nth(1).map_or(Ok(PORT), |port| port.parse());
    let port = port.map_err(|error| format!("the argument is a TCP port: {error}"))?;
    let mut stack = HostStack { port, listener: None, sockets: Vec::new() };
    let mut server = Server::listen(&mut stack).map_err(|error| format!("{error:?}"))?;
    println!("JSON-RPC on 127.0.0.1:{port}");

    let seed = mesh(1, Options::default()).pop().ok_or("no core")?;
    let mut reactor = seed.build();
    let local = reactor.local();
    local.provide(Rc::new(Registry::new(1, u64::from(std::process::id()))));
    let mut router = Router::new();
    methods::register_all(&mut router);
    let rpc = Rpc::start(&local, router, State::Runtime);
    rpc.on_kill(|signal| {
        println!("{signal}");
        std::process::exit(0);
    });

    let start = HostInstant::now();
    loop {
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let work = reactor.poll(Instant::from_ns(now)) + server.poll(&local, &mut stack);
        if !work.is_busy() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
