//! Bytes on a connection of the HTTP server: each request has one answer that is HTTP, no two are
//! mixed up, and another client is served beside it.

use std::rc::Rc;
use std::time::Duration;

use basalt_serve::{Access, Gate, Server};
use basalt_web::{Collector, Environment, PORT};

use crate::input::Input;
use crate::rpc::Controlled;
use crate::seed::Seed;
use crate::served::Served;

const OTHER: &[u8] = b"GET /api/log HTTP/1.1\r\nHost: other\r\n\r\n";

/// Byte 0: how much the server gets at once. Then the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut served = Served::new(&mut input, PORT, start);
    let pipe = served.connect(input.rest());
    served.rounds(200);
    ask_log(&mut served);
    check(&served.replies(pipe));
    served.pass(Duration::from_secs(200));
    assert_eq!(served.server.connections(), 0, "a client that is done is let go of");
    check(&served.replies(pipe));
    ask_log(&mut served);
}

fn start(controlled: &Controlled) -> Server {
    let environment = Environment { name: "fuzz", started_at: Some(0), heap: || None };
    Collector::start(&controlled.machine.local(0), environment);
    let gate = Rc::new(Gate::default());
    gate.set(Access::Open);
    basalt_web::server(gate, PORT, Some(0))
}

/// Another client gets its answer.
fn ask_log(served: &mut Served) {
    let answer = served.ask_beside(OTHER, b"}");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"}"), "no answer");
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
        let mut served = Served::new(&mut Input::new(&[]), PORT, start);
        let pipe = served.connect(&seeds()[0].bytes[1..]);
        served.rounds(2000);
        let text = String::from_utf8_lossy(&served.replies(pipe)).into_owned();
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 5, "{text}");
        assert_eq!(text.matches("HTTP/1.1 404").count(), 1, "{text}");
    }
}
