use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::{Instant, Work};
use basalt_net::{
    ConnectError, Endpoint, IpAddress, ListenError, ListenerId, NetStack, SocketError, SocketId,
};
use serde_json::{Value, json};

use super::Machine;
use crate::{Access, CONNECTIONS_MAX, Gate, PORT, Server, State};

/// A peer as the test plays it.
#[derive(Default)]
pub(super) struct Peer {
    to_server: VecDeque<u8>,
    finished: bool,
    from_server: Vec<u8>,
    window: usize,
    pub closed: bool,
    pub aborted: bool,
    /// Where it is, and where it thinks that we are.
    ends: Option<[Endpoint; 2]>,
}

/// A stack without a network: every socket is a [`Peer`], received a few bytes at a time.
#[derive(Default)]
pub(super) struct FakeStack {
    pub peers: Vec<Peer>,
    accepted: usize,
    pub listens: bool,
}

impl FakeStack {
    fn peer(&mut self, socket: SocketId) -> Result<&mut Peer, SocketError> {
        let peer = self.peers.get_mut(socket.slot as usize).ok_or(SocketError::Reset)?;
        if peer.closed || peer.aborted { Err(SocketError::Reset) } else { Ok(peer) }
    }

    fn connect(&mut self, text: &str) -> usize {
        let to_server = text.bytes().collect();
        self.peers.push(Peer { to_server, window: usize::MAX, ..Peer::default() });
        self.peers.len() - 1
    }

    /// As [`Self::connect`], from one address to another.
    pub fn connect_from(&mut self, [peer, local]: [&str; 2], text: &str) -> usize {
        let at = self.connect(text);
        let end = |address: &str| Endpoint::new(address.parse().unwrap(), PORT);
        self.peers[at].ends = Some([end(peer), end(local)]);
        at
    }

    pub fn replies(&self, peer: usize) -> Vec<Value> {
        let text = String::from_utf8(self.peers[peer].from_server.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl NetStack for FakeStack {
    fn poll(&mut self, _: Instant) -> Work {
        Work::IDLE
    }

    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError> {
        self.listens = true;
        Ok(ListenerId(port.into()))
    }

    fn unlisten(&mut self, _: ListenerId) {
        self.listens = false;
    }

    fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        assert_eq!(listener, ListenerId(PORT.into()));
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
        let sent = bytes.len().min(7).min(peer.window);
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

/// A machine of two cores, whose second one serves.
pub(super) struct Served {
    pub machine: Machine,
    pub stack: FakeStack,
    pub server: Server,
}

impl Served {
    fn new() -> Self {
        let served = Self::in_state(State::Runtime);
        let gate = served.machine.reactors[1].local().service::<Gate>().unwrap();
        gate.set(Access::Open);
        served
    }

    /// One that nobody may connect to yet.
    pub fn in_state(state: State) -> Self {
        let machine = Machine::in_state(2, state);
        let gate = Rc::new(Gate::default());
        machine.reactors[1].local().provide(Rc::clone(&gate));
        Self { machine, stack: FakeStack::default(), server: Server::new(gate, PORT) }
    }

    pub fn run(&mut self, rounds: usize) {
        let local = self.machine.reactors[1].local();
        for _ in 0..rounds {
            self.machine.round();
            let _ = self.server.poll(&local, &mut self.stack);
        }
    }
}

#[test]
fn calls_that_arrive_together_are_answered_in_order_from_the_boot_core() {
    let mut served = Served::new();
    let calls = "{\"id\": 1, \"method\": \"framework_wait_init\"}\n\
                 {\"id\": 2, \"method\": \"bdev_get_bdevs\", \"params\": {\"name\": \"x\", \
                 \"timeout\": 50}}{\"method\": \"framework_wait_init\"}\
                 {\"id\": 3, \"method\": \"spdk_get_version\"}";
    let peer = served.stack.connect(calls);
    served.run(2000);
    let replies = served.stack.replies(peer);
    let ids: Vec<&Value> = replies.iter().map(|reply| &reply["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(served.server.connections(), 1);
}

#[test]
fn a_peer_that_has_finished_sending_still_gets_its_reply() {
    let mut served = Served::new();
    let peer = served.stack.connect("{\"id\": 1, \"method\": \"spdk_get_version\"}");
    served.stack.peers[peer].finished = true;
    served.run(200);
    assert_eq!(served.stack.replies(peer).len(), 1);
    assert!(served.stack.peers[peer].closed);
    assert_eq!(served.server.connections(), 0);
}

#[test]
fn garbage_gets_an_error_and_a_closed_connection() {
    let mut served = Served::new();
    let peer = served.stack.connect("GET / HTTP/1.1\r\n\r\n");
    served.run(200);
    assert_eq!(served.stack.replies(peer)[0]["error"]["code"], -32700);
    assert!(served.stack.peers[peer].closed);
}

#[test]
fn a_reset_peer_is_forgotten_once_its_call_has_ended() {
    let mut served = Served::new();
    let call = "{\"id\": 1, \"method\": \"bdev_get_bdevs\", \"params\": {\"name\": \"x\", \
                \"timeout\": 500}}";
    let peer = served.stack.connect(call);
    served.run(20);
    served.stack.peers[peer].aborted = true;
    served.run(20);
    assert_eq!(served.server.connections(), 1, "nobody reads or writes while a call runs");
    served.run(6_000);
    assert_eq!(served.server.connections(), 0);
}

#[test]
fn a_peer_that_does_not_read_its_reply_is_dropped() {
    let mut served = Served::new();
    let peer = served.stack.connect("{\"id\": 1, \"method\": \"rpc_get_methods\"}");
    served.stack.peers[peer].window = 10;
    let rounds = Duration::from_secs(61).as_micros() / 100;
    served.run(rounds as usize);
    assert!(served.stack.peers[peer].aborted);
    assert_eq!(served.server.connections(), 0);
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let mut served = Served::new();
    for _ in 0..=CONNECTIONS_MAX {
        served.stack.connect("");
    }
    served.run(CONNECTIONS_MAX + 2);
    assert_eq!(served.server.connections(), CONNECTIONS_MAX);
    assert!(served.stack.peers[CONNECTIONS_MAX].aborted);
}

#[test]
fn clients_that_never_read_are_dropped_before_they_fill_the_memory_and_others_are_served() {
    let mut served = Served::new();
    let mut router = crate::Router::new();
    crate::methods::register_all(&mut router);
    router.register("long", crate::When::Any, |_, _| Ok(Value::from("x".repeat(3 << 20))));
    served.machine.rpc = crate::Rpc::start(&served.machine.boot(), router, State::Runtime);
    let mut peers = Vec::new();
    for _ in 0..16 {
        let peer = served.stack.connect("{\"id\": 1, \"method\": \"long\"}");
        served.stack.peers[peer].window = 100;
        peers.push(peer);
    }
    served.run(200);
    let dropped =
        |served: &Served| peers.iter().filter(|peer| served.stack.peers[**peer].aborted).count();
    // Ten times three mebibytes are as much as may be left unread.
    assert_eq!(dropped(&served), 6);
    let other = served.stack.connect("{\"id\": 2, \"method\": \"spdk_get_version\"}");
    served.run(100);
    assert_eq!(served.stack.replies(other)[0]["id"], 2);
    assert_eq!(dropped(&served), 6);
}

#[test]
fn calls_are_answered_while_a_long_batch_is_carried_out() {
    let mut served = Served::new();
    let call = "{\"id\": 1, \"method\": \"rpc_get_methods\"}";
    let batch = alloc::format!("[{}{call}]", alloc::format!("{call},").repeat(500));
    let slow = served.stack.connect(&batch);
    // It comes eleven bytes at a time.
    served.run(batch.len() / 11 + 20);
    let quick = served.stack.connect("{\"id\": 2, \"method\": \"spdk_get_version\"}");
    served.run(100);
    assert_eq!(served.stack.replies(quick).len(), 1);
    assert!(served.stack.peers[slow].from_server.is_empty(), "the batch is not over");
}
