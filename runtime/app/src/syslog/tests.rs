extern crate std;

use alloc::string::String;
use alloc::vec;
use core::cell::{Cell, RefCell};
use core::net::Ipv4Addr;
use std::format;
use std::string::ToString as _;

use basalt_env::{Instant, keep_log_line};
use basalt_net::{
    Address, Addresses, Endpoint, Frame as _, FramePort as _, InterfaceConfig, IpStack, Ipv4Cidr,
    MemoryPort, NetStack as _, StackOptions,
};
use basalt_reactor::{Options, Reactor, mesh};
use basalt_rpc::{Outcome, Router, Rpc, State};
use serde_json::{Value, json};

use super::message::{Sender, message, next_sequence};
use super::*;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SENDER: Sender<'_> = Sender { facility: 23, hostname: None, started_at: Some(1_700_000_000) };

fn line(n: u64, target: &str, message: &str) -> LogLine {
    LogLine { n, us: n * 1_000_000 + 7, level: 3, target: target.into(), message: message.into() }
}

fn text_of(sender: &Sender<'_>, line: &LogLine) -> String {
    message(sender, line, 1).0
}

#[test]
fn a_line_is_a_message_of_rfc_5424() {
    let text = text_of(&SENDER, &line(90, "nvmf", "a host came"));
    let expected = "<190>1 2023-11-14T22:14:50.000007Z - basalt - nvmf \
                    [meta sequenceId=\"1\" sysUpTime=\"9000\"] a host came";
    assert_eq!(text, expected);
    let named = Sender { hostname: Some("storage-1.example"), facility: 0, started_at: None };
    let expected = "<6>1 - storage-1.example basalt - - [meta sequenceId=\"1\" sysUpTime=\"0\"] x";
    assert_eq!(text_of(&named, &line(0, " ü", "x")), expected);
    let (text, head) = message(&SENDER, &line(1, "net", "up"), 77);
    assert_eq!((&text[head..], text.contains(" [meta sequenceId=\"77\" ")), ("up", true));
}

#[test]
fn levels_are_severities() {
    let priority = |level| {
        let line = LogLine { level, ..line(0, "t", "m") };
        let text = text_of(&SENDER, &line);
        text[..text.find('>').unwrap()].to_string()
    };
    assert_eq!([1, 2, 3, 4, 5].map(priority), ["<187", "<188", "<190", "<191", "<191"]);
}

#[test]
fn what_is_more_than_ascii_is_marked_and_nothing_breaks_the_line() {
    let text = text_of(&SENDER, &line(0, "a_target::of::more::than::thirty::two", "Größe\n\u{7}2"));
    assert!(text.contains(" a_target::of::more::than::thirty ["), "{text}");
    assert!(text.ends_with("] \u{feff}Größe  2"), "{text}");
    let far = Sender { started_at: Some(u64::MAX / 2), ..SENDER };
    assert!(text_of(&far, &line(0, "t", "m")).starts_with("<190>1 - - basalt"), "no such year");
}

#[test]
fn numbers_begin_again_with_one() {
    let last = 2_147_483_647;
    assert_eq!([next_sequence(1), next_sequence(last - 1), next_sequence(last)], [2, last, 1]);
}

/// A log that is filled by hand.
#[derive(Default)]
struct Kept {
    lines: RefCell<Vec<LogLine>>,
    lost: Cell<u64>,
}

impl Kept {
    fn of(lines: impl IntoIterator<Item = LogLine>) -> Self {
        Self { lines: RefCell::new(lines.into_iter().collect()), ..Self::default() }
    }
}

impl Lines for Kept {
    fn count(&self) -> u64 {
        self.lines.borrow().last().map_or(0, |line| line.n + 1)
    }

    fn from(&self, since: u64) -> Vec<LogLine> {
        let lines = self.lines.borrow();
        lines.iter().filter(|line| line.n >= since).take(10).cloned().collect()
    }

    fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// A machine's stack, and the server at the other end of the wire.
struct Wire {
    stack: Rc<RefCell<IpStack<MemoryPort>>>,
    far: MemoryPort,
    now: Instant,
}

impl Wire {
    fn new() -> Self {
        let (near, far) = MemoryPort::pair();
        let stack = IpStack::new(near, StackOptions::default(), 1, Instant::ZERO);
        let mut wire = Self { stack: Rc::new(RefCell::new(stack)), far, now: Instant::ZERO };
        wire.configure(Some(OWN));
        wire
    }

    fn configure(&mut self, own: Option<Ipv4Addr>) {
        let address = |own| Address { cidr: Ipv4Cidr::new(own, 24).unwrap(), gateway: None };
        let addresses = own.map(|own| Addresses::from(address(own))).unwrap_or_default();
        self.stack.borrow_mut().configure(InterfaceConfig::Static(addresses));
    }

    /// Moves frames for a while; gives the texts that came to the server.
    fn texts(&mut self) -> Vec<String> {
        let mut texts = vec![];
        for _ in 0..50 {
            self.now = self.now + Duration::from_millis(1);
            let _ = self.stack.borrow_mut().poll(self.now);
            texts.extend(self.receive());
        }
        texts
    }

    fn receive(&mut self) -> Vec<String> {
        let mut texts = vec![];
        while let Some(frame) = self.far.receive() {
            match frame.head() {
                [_, _, _, _, _, _, from @ ..] if from[6..8] == [8, 6] => self.answer(&from[..6]),
                head if head[12..14] == [8, 0] && head[23] == 17 && head[36..38] == [2, 2] => {
                    let end = 14 + usize::from(u16::from_be_bytes([head[16], head[17]]));
                    texts.push(String::from_utf8(head[42..end].to_vec()).unwrap());
                }
                _ => {}
            }
        }
        texts
    }

    /// Says who takes what goes to the server (RFC 826).
    fn answer(&mut self, asker: &[u8]) {
        let own = self.far.mac();
        let parts: [&[u8]; 7] = [
            asker,
            &own,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
            &own,
            &SERVER.octets(),
            asker,
            &OWN.octets(),
        ];
        let reply = parts.concat();
        let sent = self.far.transmit(reply.len(), |frame| {
            frame.copy_from_slice(&reply);
            None
        });
        sent.unwrap();
    }

    /// A forwarder to the server.
    fn forwarder(&self) -> Forwarder {
        let mut forwarder = Forwarder::new(None);
        let server = Endpoint::from((SERVER, 514));
        let id = self.stack.borrow_mut().open_datagrams(server).unwrap();
        let setting = SyslogSetting { server, facility: 16, hostname: None };
        assert_eq!(forwarder.send_to(Some((id, setting))), None);
        forwarder
    }

    fn step(&mut self, forwarder: &mut Forwarder, log: &Kept) -> Step {
        forwarder.step(log, &mut *self.stack.borrow_mut())
    }
}

/// The numbers and texts of messages.
fn told(texts: &[String]) -> Vec<(u32, &str)> {
    let one = |text| {
        let (_, rest) = str::split_once(text, "sequenceId=\"").unwrap();
        let (number, rest) = rest.split_once('"').unwrap();
        (number.parse().unwrap(), rest.split_once("] ").unwrap().1)
    };
    texts.iter().map(|text| one(text.as_str())).collect()
}

#[test]
fn every_line_is_sent_once_in_order_but_for_those_about_sending() {
    let mut wire = Wire::new();
    let mut forwarder = wire.forwarder();
    let log = Kept::of([line(0, "a", "one"), line(1, TARGET, "no"), line(2, "b", "two")]);
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    let texts = wire.texts();
    assert!(texts[0].starts_with("<134>1 - 10.0.0.1 basalt - a ["), "{texts:?}");
    assert_eq!(told(&texts), [(1, "one"), (2, "two")]);
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    log.lines.borrow_mut().push(line(3, "c", "three"));
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    assert_eq!(told(&wire.texts()), [(3, "three")]);
    let state = forwarder.state();
    assert_eq!((state.lines_sent, state.lines_lost), (3, 0));
}

#[test]
fn lines_that_are_gone_are_told_of_once_and_counted() {
    let mut wire = Wire::new();
    let mut forwarder = wire.forwarder();
    let log = Kept::of([line(5, "a", "five"), line(6, "a", "six")]);
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    log.lost.set(2);
    log.lines.borrow_mut().push(line(7, "a", "seven"));
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    log.lines.borrow_mut().push(line(8, "a", "eight"));
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    let missing = |count| format!("{count} lines of the log before this are missing");
    let (five, two) = (missing(5), missing(2));
    let all = [&five, "five", "six", &two, "seven", "eight"];
    let texts = wire.texts();
    assert_eq!(told(&texts), (1..).zip(all).collect::<Vec<_>>());
    assert!(texts[0].contains(" syslog [") && texts[0].starts_with("<132>1 "), "{}", texts[0]);
    let state = forwarder.state();
    assert_eq!((state.lines_sent, state.lines_lost), (4, 7));
}

#[test]
fn a_line_that_is_too_long_is_cut_between_characters() {
    let mut wire = Wire::new();
    let mut forwarder = wire.forwarder();
    let log = Kept::of([line(0, "a", &"ü".repeat(1000)), line(1, "a", &"x".repeat(1000))]);
    assert_eq!(wire.step(&mut forwarder, &log), Step::Done);
    let texts = wire.texts();
    assert!(texts[0].ends_with("üü"), "{}", texts[0]);
    assert_eq!([texts[0].len().div_ceil(2), texts[1].len()], [512, 1024]);
    assert_eq!(forwarder.state().lines_sent, 2);
}

#[test]
fn without_an_address_or_an_answer_lines_stay_in_the_log() {
    let mut wire = Wire::new();
    let mut forwarder = wire.forwarder();
    let log = Kept::of((0..100).map(|n| line(n, "a", &format!("line {n}"))));
    wire.configure(None);
    assert_eq!(wire.step(&mut forwarder, &log), Step::Stuck);
    wire.configure(Some(OWN));
    let mut texts = vec![];
    for round in 0.. {
        assert!(round < 10, "never done");
        let step = wire.step(&mut forwarder, &log);
        texts.extend(wire.texts());
        if step == Step::Done {
            break;
        }
        assert_eq!(step, Step::Full);
    }
    let expected: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
    let all = told(&texts);
    assert!(all.iter().map(|(_, text)| *text).eq(expected.iter()), "{all:?}");
    let state = forwarder.state();
    assert_eq!((state.lines_sent, state.lines_lost), (100, 0));
}

/// The control plane of a machine at the end of such a wire.
struct Machine {
    wire: Wire,
    reactor: Reactor,
    rpc: Rc<Rpc>,
    /// What has come and nobody has looked for yet.
    texts: Vec<String>,
}

impl Machine {
    fn new() -> Self {
        let seed = mesh(1, Options::default()).into_iter().next().unwrap();
        let (reactor, wire) = (seed.build(), Wire::new());
        let local = reactor.local();
        local.provide(Rc::new(NetHandle::new(wire.stack.clone())));
        start(&local, Some(1_700_000_000));
        let mut router = Router::default();
        basalt_rpc::methods::register_all(&mut router);
        let rpc = Rpc::start(&local, router, State::Runtime);
        Self { wire, reactor, rpc, texts: Vec::new() }
    }

    fn call(&mut self, method: &'static str, params: Option<Value>) -> Outcome {
        let (rpc, result) = (Rc::clone(&self.rpc), Rc::new(RefCell::new(None)));
        let slot = Rc::clone(&result);
        self.reactor.local().spawn("test", async move {
            *slot.borrow_mut() = Some(rpc.call(method, params).await);
        });
        while result.borrow().is_none() {
            self.round();
        }
        result.take().unwrap()
    }

    fn round(&mut self) {
        let _ = self.reactor.poll(self.wire.now);
        self.texts.extend(self.wire.texts());
    }

    /// Whether a text with that in it comes within two seconds.
    fn comes(&mut self, part: &str) -> bool {
        (0..40).any(|_| {
            self.round();
            self.texts.drain(..).any(|text| text.contains(part))
        })
    }
}

#[test]
fn the_log_is_sent_where_the_control_plane_says_and_no_longer_than_that() {
    let mut machine = Machine::new();
    assert_eq!(machine.call("log_get_syslog", None).unwrap()["enabled"], false);
    let note = |text: &str| keep_log_line(3, "a_test", 1, format_args!("{text}"));
    note("first of the syslog test");
    let params = json!({"address": "10.0.0.2", "facility": "daemon", "hostname": "sb-1"});
    assert_eq!(machine.call("log_set_syslog", Some(params.clone())).unwrap(), true);
    assert!(machine.comes("first of the syslog test"), "what was logged before is sent too");
    note("second of the syslog test");
    assert!(machine.comes("] second of the syslog test"));
    let state = machine.call("log_get_syslog", None).unwrap();
    assert_eq!((&state["port"], &state["facility"]), (&json!(514), &json!("daemon")));
    assert_eq!((&state["hostname"], &state["address"]), (&json!("sb-1"), &json!("10.0.0.2")));
    assert!(state["lines_sent"].as_u64().unwrap() >= 2, "{state}");
    let saved = |machine: &mut Machine| {
        machine.call("framework_get_config", Some(json!({"name": "log"}))).unwrap()
    };
    assert_eq!(saved(&mut machine), json!([{"method": "log_set_syslog", "params": params}]));
    let off = json!({"enabled": false});
    assert_eq!(machine.call("log_set_syslog", Some(off)).unwrap(), true);
    assert_eq!(saved(&mut machine), json!([]));
    note("third of the syslog test");
    assert!(!machine.comes("third of the syslog test"));
    let own = machine.call("log_set_syslog", Some(json!({"address": "10.0.0.1"})));
    assert!(own.unwrap_err().message.contains("one of our own"));
    assert_eq!(machine.call("log_get_syslog", None).unwrap()["enabled"], false);
}
