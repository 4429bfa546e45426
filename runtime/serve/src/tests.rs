//! A server of lines, which are said again.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::Instant;
use basalt_models::pipes::{Pipe, TestStack};
use basalt_reactor::{Local, Options, Reactor, mesh, yield_now};

use crate::{
    Access, Answer, Content, Conversation, Gate, Patience, Reply, Rules, Server, WhenFull,
};

const PORT: u16 = 7;
const IDLE: Duration = Duration::from_secs(5);

const RULES: Rules = Rules {
    name: "echo",
    connections_max: 2,
    when_full: WhenFull::Refuse,
    unread_bytes_max: 100,
    stall_max: Duration::from_secs(3),
    patience: Some(Patience { idle: IDLE, request: Duration::from_secs(1) }),
    complaints: log::Level::Debug,
};

/// `quiet` is not answered, `end` is answered at once and for the last time, and other lines are
/// later.
#[derive(Default)]
struct Echo {
    line: Vec<u8>,
}

impl Conversation for Echo {
    fn receive(&mut self, _: &Local, bytes: &[u8]) -> (usize, Option<Answer>) {
        let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return (bytes.len(), None);
        };
        self.line.extend_from_slice(&bytes[..=at]);
        let line = core::mem::take(&mut self.line);
        let answer = match line.as_slice() {
            b"end\n" => Answer::Now(Reply::new(line, Content::Static(b"over")).last()),
            b"quiet\n" => Answer::Later(Box::pin(async { None })),
            _ => Answer::Later(Box::pin(async move {
                yield_now().await;
                Some(Reply::new(Vec::new(), Content::Shared(line.into())))
            })),
        };
        (at + 1, Some(answer))
    }

    fn is_amid(&self) -> bool {
        !self.line.is_empty()
    }

    fn give_up(&mut self, _: &Local) -> Option<Reply> {
        Some(Reply::new(b"too late".to_vec(), Content::None).last())
    }
}

struct World {
    reactor: Reactor,
    stack: TestStack,
    server: Server,
    now: Instant,
}

impl World {
    fn new(rules: Rules) -> Self {
        let reactor = mesh(1, Options::default()).remove(0).build();
        let gate = Rc::new(Gate::default());
        gate.set(Access::Open);
        let server = Server::new(rules, gate, PORT, || Box::new(Echo::default()));
        let stack = TestStack::in_pieces(3, 2);
        Self { reactor, stack, server, now: Instant::ZERO }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let _ = self.reactor.poll(self.now);
        let _ = self.server.poll(&self.reactor.local(), &mut self.stack);
    }

    fn run(&mut self, rounds: u32) {
        (0..rounds).for_each(|_| self.pass(Duration::from_millis(1)));
    }

    fn say(&mut self, text: &str) -> usize {
        self.stack.say(PORT, text.as_bytes())
    }

    fn pipe(&self, at: usize) -> &Pipe {
        &self.stack.pipes[at]
    }

    fn said(&self, at: usize) -> String {
        String::from_utf8(self.pipe(at).said()).unwrap()
    }
}

#[test]
fn requests_are_answered_in_order_up_to_the_last_one() {
    let mut world = World::new(RULES);
    let peer = world.say("first\nquiet\nsecond\nend\nno more\n");
    world.run(60);
    assert_eq!(world.said(peer), "first\nsecond\nend\nover");
    assert!(world.pipe(peer).target_closed && world.server.connections() == 0);
}

#[test]
fn a_request_that_does_not_end_is_given_up_and_one_that_does_not_begin_is_not_waited_for() {
    let mut world = World::new(RULES);
    let (slow, silent) = (world.say("half"), world.say(""));
    world.run(5);
    world.pass(Duration::from_secs(2));
    world.run(5);
    assert_eq!(world.said(slow), "too late");
    assert!(world.pipe(slow).target_closed && !world.pipe(silent).target_closed);
    world.pass(IDLE);
    assert!(world.pipe(silent).target_closed && world.said(silent).is_empty());
}

#[test]
fn a_reply_that_nobody_takes_ends_the_connection_and_so_does_one_too_long_to_be_kept() {
    let mut world = World::new(RULES);
    let stuck = world.say("short\n");
    let long = world.say(&("x".repeat(200) + "\n"));
    world.stack.pipes[stuck].window = Some(2);
    world.run(80);
    assert!(world.pipe(long).target_reset && !world.pipe(stuck).target_reset);
    world.pass(Duration::from_secs(4));
    assert!(world.pipe(stuck).target_reset && world.said(stuck) == "sh");
}

#[test]
fn a_round_is_not_for_all_who_have_much_to_say_but_everybody_gets_a_turn() {
    let mut world = World::new(Rules { connections_max: 20, ..RULES });
    let peers: Vec<_> = (0..20).map(|_| world.say("")).collect();
    world.run(20);
    for peer in &peers {
        world.stack.pipes[*peer].to_target.extend(b"x\n".repeat(50));
    }
    let got = |world: &World| peers.iter().map(|peer| world.said(*peer).len()).collect::<Vec<_>>();
    let mut most = 0;
    while got(&world).iter().min() < Some(&40) {
        let before: usize = got(&world).iter().sum();
        world.run(1);
        most = most.max(got(&world).iter().sum::<usize>() - before);
    }
    assert!(most <= 16, "{most} bytes, of at most 2 for each of 8 pieces");
    let (least, most) = (got(&world).into_iter().min(), got(&world).into_iter().max());
    assert!(most.unwrap() - least.unwrap() <= 4, "{:?}", got(&world));
}

#[test]
fn there_are_no_more_connections_than_allowed_and_who_makes_way_follows_the_rules() {
    let mut world = World::new(RULES);
    let peers = [world.say(""), world.say("half"), world.say("")];
    world.run(5);
    assert!(world.pipe(peers[2]).target_reset && world.server.connections() == 2);
    let rules = Rules { when_full: WhenFull::QuietestMakesWay, ..RULES };
    let mut world = World::new(rules);
    let peers = [world.say("half"), world.say(""), world.say("hello\n"), world.say("end\n")];
    world.run(20);
    assert!(world.pipe(peers[1]).target_closed, "it has asked for nothing");
    assert_eq!(world.said(peers[2]), "hello\n");
    assert!(!world.pipe(peers[0]).target_closed && world.pipe(peers[3]).target_reset);
}
