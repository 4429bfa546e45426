//! A machine of two cores with everything that is told of, a stack without a network, and tests by
//! subject.

mod conformance;
mod page;
mod request;
mod server;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::Registry;
use basalt_env::Instant;
use basalt_models::pipes::{Pipe, TestStack};
use basalt_nvmf::{Target, TransportConfig};
use basalt_reactor::{Local, Options, Reactor, mesh};
use basalt_rpc::{Access, Router, Rpc, State, WebGate, methods};
use basalt_serve::Server;
use serde_json::{Value, json};

use crate::{Collector, Environment, HeapUse, PORT};

/// The time of day when the clocks of tests start: Sun, 06 Nov 1994 08:49:37 GMT.
const STARTED_AT: u64 = 784_111_777;

/// A machine whose second core serves.
struct Machine {
    reactors: Vec<Reactor>,
    rpc: Rc<Rpc>,
    stack: TestStack,
    server: Server,
    gate: Rc<WebGate>,
    now: Instant,
}

impl Machine {
    /// One that lets everybody in.
    fn new() -> Self {
        let machine = Self::closed();
        machine.gate.0.set(Access::Open);
        machine
    }

    fn closed() -> Self {
        let seeds = mesh(2, Options::default());
        let reactors: Vec<Reactor> = seeds.into_iter().map(|seed| seed.build()).collect();
        let boot = reactors[0].local();
        boot.provide(Rc::new(Registry::new(2, 1)));
        let mut router = Router::new();
        methods::register_all(&mut router);
        let rpc = Rpc::start(&boot, router, State::Runtime);
        Target::start(&boot, TransportConfig::default());
        let heap = || Some(HeapUse { bytes_total: 1000, bytes_free: 600, bytes_peak: 700 });
        let environment = Environment { name: "test", started_at: Some(STARTED_AT), heap };
        Collector::start(&boot, environment);
        let gate = Rc::new(WebGate::default());
        reactors[1].local().provide(Rc::clone(&gate));
        let server = crate::server(Rc::clone(&gate.0), PORT, Some(STARTED_AT));
        let stack = TestStack::in_pieces(11, 700);
        let now = Instant::ZERO;
        Self { reactors, rpc, stack, server, gate, now }
    }

    fn local(&self) -> Local {
        self.reactors[1].local()
    }

    /// Rounds of every core, each 100 µs after the last.
    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.pass(Duration::from_micros(100));
        }
    }

    /// One round after some time.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for reactor in &mut self.reactors {
            let _ = reactor.poll(self.now);
        }
        let local = self.local();
        let _ = self.server.poll(&local, &mut self.stack);
    }

    fn call(&mut self, method: &'static str, params: Value) {
        let rpc = Rc::clone(&self.rpc);
        let done = Rc::new(core::cell::Cell::new(false));
        let is_done = Rc::clone(&done);
        self.reactors[0].local().spawn("test", async move {
            rpc.call(method, Some(params)).await.unwrap();
            is_done.set(true);
        });
        self.run(200);
        assert!(done.get(), "{method} did not end");
    }

    /// With a bdev that is in a subsystem, of an odd name.
    fn with_subsystem(mut self) -> Self {
        let bdev = json!({"name": "odd \"na\\me\"", "num_blocks": 64, "block_size": 512});
        self.call("bdev_malloc_create", bdev);
        let over = json!({"name": "Over", "base_bdev_name": "odd \"na\\me\""});
        self.call("bdev_passthru_create", over);
        self.call("nvmf_create_transport", json!({"trtype": "TCP"}));
        let nqn = "nqn.2026-11.io.basalt:web";
        self.call("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
        let namespace = json!({"nqn": nqn, "namespace": {"bdev_name": "Over"}});
        self.call("nvmf_subsystem_add_ns", namespace);
        self
    }

    /// What is answered to a request on a connection of its own, and the content of it.
    fn ask(&mut self, request: &str) -> (String, Vec<u8>) {
        let peer = self.connect(request);
        for _ in 0..5000 {
            self.run(1);
            if self.has_answer(peer) {
                break;
            }
        }
        self.answer(peer)
    }

    /// A client that says `text`.
    fn connect(&mut self, text: &str) -> usize {
        self.stack.say(PORT, text.as_bytes())
    }

    /// One at `address` that says it to a port.
    fn connect_from(&mut self, address: &str, port: u16, text: &str) -> usize {
        let ends = [address, "10.0.0.1"].map(|ip| ip.parse().unwrap());
        self.stack.say_from(ends, port, text.as_bytes())
    }

    fn peer(&mut self, peer: usize) -> &mut Pipe {
        &mut self.stack.pipes[peer]
    }

    /// Whether a peer has got a whole answer to a request that is no `HEAD`.
    fn has_answer(&self, peer: usize) -> bool {
        let bytes = self.stack.pipes[peer].said();
        let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
        let head = core::str::from_utf8(&bytes[..at]).unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        bytes.len() - at - 4 >= len.map_or(0, |len| len.parse().unwrap())
    }

    /// The head and the content of what a peer has got.
    fn answer(&self, peer: usize) -> (String, Vec<u8>) {
        let bytes = self.stack.pipes[peer].said();
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("no answer") + 4;
        (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end..].to_vec())
    }

    /// The first lines of all answers that a peer has got.
    fn statuses(&self, peer: usize) -> Vec<String> {
        let bytes = self.stack.pipes[peer].said();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| line.contains("HTTP/1.1 ")).map(String::from).collect()
    }

    fn get(&mut self, target: &str) -> (String, String) {
        let (head, content) =
            self.ask(&alloc::format!("GET {target} HTTP/1.1\r\nHost: basalt\r\n\r\n"));
        (head, String::from_utf8(content).unwrap())
    }
}
