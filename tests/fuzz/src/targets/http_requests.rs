//! Bytes on a connection of the HTTP server: each request has one answer that is HTTP, no two are
//! mixed up, and another client is served beside it.

use std::rc::Rc;
use std::time::Duration;

use basalt_rpc::{Access, WebGate};
use basalt_web::{Collector, Environment, PORT, Server};

use crate::input::Input;
use crate::rpc::Controlled;
use crate::seed::Seed;

const OTHER: &[u8] = b"GET /api/log HTTP/1.1\r\nHost: other\r\n\r\n";
/// Rounds in which the other client is answered.
const PATIENCE: u32 = 2000;

struct Served {
    controlled: Controlled,
    server: Server,
}

/// Byte 0: how much the server gets at once. Then the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let chunk = [usize::MAX, 1, 13, 300][input.below(4)];
    let mut served = Served::new(chunk);
    let pipe = served.connect(input.rest());
    served.rounds(200);
    served.ask_beside();
    check(&served.answers(pipe));
    served.controlled.machine.pass(Duration::from_secs(200));
    served.rounds(100);
    assert_eq!(served.server.connections(), 0, "a client that is done is let go of");
    check(&served.answers(pipe));
    served.ask_beside();
}

impl Served {
    /// A server that gets so many bytes at once.
    fn new(chunk: usize) -> Self {
        let controlled = Controlled::new();
        let environment = Environment { name: "fuzz", started_at: Some(0), heap: || None };
        Collector::start(&controlled.machine.local(0), environment);
        let gate = Rc::new(WebGate::default());
        gate.0.set(Access::Open);
        let server = Server::new(gate, PORT, Some(0));
        controlled.stack.borrow_mut().chunk = chunk;
        let mut served = Self { controlled, server };
        // It listens from its first round on.
        served.rounds(1);
        served
    }

    fn connect(&self, bytes: &[u8]) -> usize {
        let mut stack = self.controlled.stack.borrow_mut();
        let pipe = stack.connect(PORT);
        stack.pipes[pipe].to_target.extend(bytes);
        pipe
    }

    fn rounds(&mut self, count: u32) {
        let local = self.controlled.machine.local(0);
        let stack = Rc::clone(&self.controlled.stack);
        for _ in 0..count {
            self.controlled.machine.step();
            let _ = self.server.poll(&local, &mut *stack.borrow_mut());
        }
    }

    fn answers(&self, pipe: usize) -> Vec<u8> {
        self.controlled.stack.borrow().pipes[pipe].to_host.iter().copied().collect()
    }

    /// Another client gets its answer.
    fn ask_beside(&mut self) {
        let pipe = self.connect(OTHER);
        for _ in 0..PATIENCE {
            self.rounds(1);
            if self.answers(pipe).ends_with(b"}") {
                break;
            }
        }
        let answer = self.answers(pipe);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"}"), "no answer");
        self.controlled.stack.borrow_mut().pipes[pipe].host_closed = true;
        self.rounds(3);
    }
}

/// Heads, each with its content unless it was asked for without.
fn check(mut rest: &[u8]) {
    while !rest.is_empty() {
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("half a head") + 4;
        let head = std::str::from_utf8(&rest[..end]).expect("a head is text");
        let status = head.strip_prefix("HTTP/1.1 ").expect("an answer begins with its status");
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let len: usize = len.map_or(0, |len| len.parse().expect("a length is a number"));
        assert!(len > 0 || status.starts_with("304"), "{head}");
        rest = &rest[end..];
        if !rest.starts_with(b"HTTP/1.1 ") {
            rest = rest.get(len..).unwrap_or_else(|| {
                assert!(rest.is_empty(), "half an answer");
                rest
            });
        }
    }
}

/// Requests of all kinds.
pub fn seeds() -> Vec<Seed> {
    let of = |requests: &[&str]| {
        let part = |seed: Seed, request: &&str| seed.part(request.as_bytes());
        requests.iter().fold(Seed::starting(&[0]), part)
    };
    vec![of(&REQUESTS), of(&REQUESTS[..2]), of(&REQUESTS[4..])]
}

const REQUESTS: [&str; 7] = [
    "GET /metrics HTTP/1.1\r\nHost: a:9090\r\nAccept: application/openmetrics-text;q=0.5, \
     text/plain;version=0.0.4;q=0.3\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\n\
     If-None-Match: \"x\", W/\"y\"\r\n\r\n",
    "HEAD /api/state HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "\r\nGET http://a/api/log?since=3 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "GET /api/state HTTP/1.0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_the_first_seed_are_answered_up_to_the_last_one() {
        let mut served = Served::new(usize::MAX);
        let pipe = served.connect(&seeds()[0].bytes[1..]);
        served.rounds(2000);
        let text = String::from_utf8_lossy(&served.answers(pipe)).into_owned();
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 5, "{text}");
        assert_eq!(text.matches("HTTP/1.1 404").count(), 1, "{text}");
    }
}
