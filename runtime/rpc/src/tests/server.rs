use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_env::{Instant, Work};
use basalt_models::pipes::{Pipe, TestStack};
use basalt_reactor::Local;
use basalt_serve::Server;
use serde_json::{Value, json};

use super::Machine;
use crate::{Access, CONNECTIONS_MAX, Gate, PORT, State, server};

/// A machine of two cores, whose second one serves.
pub(super) struct Served {
    pub machine: Machine,
    pub stack: TestStack,
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
        let stack = TestStack::in_pieces(11, 7);
        Self { machine, stack, server: server(gate, PORT) }
    }

    fn connect(&mut self, text: &str) -> usize {
        self.stack.say(PORT, text.as_bytes())
    }

    /// As [`Self::connect`], from one address to another.
    pub fn connect_from(&mut self, ends: [&str; 2], text: &str) -> usize {
        self.stack.say_from(ends.map(|ip| ip.parse().unwrap()), PORT, text.as_bytes())
    }

    pub fn listens(&self) -> bool {
        self.stack.ports == [PORT]
    }

    pub fn peer(&mut self, peer: usize) -> &mut Pipe {
        &mut self.stack.pipes[peer]
    }

    pub fn replies(&self, peer: usize) -> Vec<Value> {
        let text = String::from_utf8(self.stack.pipes[peer].said()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
    let peer = served.connect(calls);
    served.run(2000);
    let replies = served.replies(peer);
    let ids: Vec<&Value> = replies.iter().map(|reply| &reply["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(served.server.connections(), 1);
}

#[test]
fn a_peer_that_has_finished_sending_still_gets_its_reply() {
    let mut served = Served::new();
    let peer = served.connect("{\"id\": 1, \"method\": \"spdk_get_version\"}");
    served.peer(peer).host_closed = true;
    served.run(200);
    assert_eq!(served.replies(peer).len(), 1);
    assert!(served.peer(peer).target_closed);
    assert_eq!(served.server.connections(), 0);
}

#[test]
fn garbage_gets_an_error_and_a_closed_connection() {
    let mut served = Served::new();
    let peer = served.connect("GET / HTTP/1.1\r\n\r\n");
    served.run(200);
    assert_eq!(served.replies(peer)[0]["error"]["code"], -32700);
    assert!(served.peer(peer).target_closed);
}

#[test]
fn a_reset_peer_is_forgotten_once_its_call_has_ended() {
    let mut served = Served::new();
    let call = "{\"id\": 1, \"method\": \"bdev_get_bdevs\", \"params\": {\"name\": \"x\", \
                \"timeout\": 500}}";
    let peer = served.connect(call);
    served.run(20);
    served.peer(peer).target_reset = true;
    served.run(20);
    assert_eq!(served.server.connections(), 1, "nobody reads or writes while a call runs");
    served.run(6_000);
    assert_eq!(served.server.connections(), 0);
}

#[test]
fn a_peer_that_does_not_read_its_reply_is_dropped() {
    let mut served = Served::new();
    let peer = served.connect("{\"id\": 1, \"method\": \"rpc_get_methods\"}");
    served.peer(peer).window = Some(10);
    let rounds = Duration::from_secs(61).as_micros() / 100;
    served.run(rounds as usize);
    assert!(served.peer(peer).target_reset);
    assert_eq!(served.server.connections(), 0);
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let mut served = Served::new();
    for _ in 0..=CONNECTIONS_MAX {
        served.connect("");
    }
    served.run(CONNECTIONS_MAX + 2);
    assert_eq!(served.server.connections(), CONNECTIONS_MAX);
    assert!(served.peer(CONNECTIONS_MAX).target_reset);
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
        let peer = served.connect("{\"id\": 1, \"method\": \"long\"}");
        served.peer(peer).window = Some(100);
        peers.push(peer);
    }
    served.run(200);
    let dropped = |served: &Served| {
        peers.iter().filter(|peer| served.stack.pipes[**peer].target_reset).count()
    };
    // Ten times three mebibytes are as much as may be left unread.
    assert_eq!(dropped(&served), 6);
    let other = served.connect("{\"id\": 2, \"method\": \"spdk_get_version\"}");
    served.run(100);
    assert_eq!(served.replies(other)[0]["id"], 2);
    assert_eq!(dropped(&served), 6);
}

#[test]
fn calls_are_answered_while_a_long_batch_is_carried_out() {
    let mut served = Served::new();
    let call = "{\"id\": 1, \"method\": \"rpc_get_methods\"}";
    let batch = alloc::format!("[{}{call}]", alloc::format!("{call},").repeat(500));
    let slow = served.connect(&batch);
    // It comes eleven bytes at a time.
    served.run(batch.len() / 11 + 20);
    let quick = served.connect("{\"id\": 2, \"method\": \"spdk_get_version\"}");
    served.run(100);
    assert_eq!(served.replies(quick).len(), 1);
    assert!(served.peer(slow).to_host.is_empty(), "the batch is not over");
}

#[test]
fn calls_get_their_share_of_a_core_that_has_io_and_all_of_one_that_has_none() {
    const CALLS: usize = 200;
    let mut machine = Machine::new();
    let (clock, is_busy) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(true)));
    let passing = |us: u64| {
        let clock = Rc::clone(&clock);
        move || clock.set(clock.get() + us * 1000)
    };
    let mut router = crate::Router::new();
    let take = passing(2000);
    router.register("slow", crate::When::Any, move |_, _| {
        take();
        Ok(Value::Null)
    });
    machine.rpc = crate::Rpc::start(&machine.boot(), router, State::Runtime);
    let (pass, busy) = (passing(5), Rc::clone(&is_busy));
    let io = move |_: &Local| {
        pass();
        Work(u32::from(busy.get()))
    };
    machine.boot().poller("io", io).detach();
    let gate = Rc::new(Gate::default());
    gate.set(Access::Open);
    let (mut server, stack) = (server(gate, PORT), Rc::new(RefCell::new(TestStack::new())));
    let peer = stack.borrow_mut().say(PORT, &b"{\"id\": 1, \"method\": \"slow\"}".repeat(CALLS));
    let served = Rc::clone(&stack);
    let poll = move |local: &Local| server.poll(local, &mut *served.borrow_mut());
    machine.boot().background_poller("rpc", poll).detach();
    let mut answered_after = |ms: u64| {
        let end = clock.get() + ms * 1_000_000;
        while clock.get() < end {
            machine.reactors[0].turn(|| Instant::from_ns(clock.get()), |_| {});
        }
        String::from_utf8(stack.borrow().pipes[peer].said()).unwrap().lines().count()
    };
    let answered = answered_after(1000);
    assert!((40..=51).contains(&answered), "{answered} calls of 2 ms in a tenth of a second");
    is_busy.set(false);
    assert!(answered_after(400) > CALLS - 20, "all the time there is");
}
