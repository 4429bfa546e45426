//! Bytes on a connection of the JSON-RPC server with all its methods: each call has one answer that
//! is JSON on a line of its own, another client is served beside it, and what has been configured
//! can be saved and loaded.

use std::rc::Rc;
use std::time::Duration;

use basalt_rpc::{Access, Gate, PORT, Server};
use serde_json::Value;

use crate::input::Input;
use crate::rpc::Controlled;
use crate::seed::Seed;

const VERSION: &[u8] = br#"{"jsonrpc":"2.0","id":77,"method":"spdk_get_version"}"#;
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
    served.rounds(400);
    served.ask_version();
    served.controlled.machine.pass(Duration::from_secs(2));
    served.rounds(100);
    check(&served.replies(pipe));
    served.controlled.stack.borrow_mut().pipes[pipe].host_closed = true;
    served.rounds(50);
    served.ask_version();
    if served.server.connections() == 0 {
        served.controlled.check_saved();
    }
}

impl Served {
    /// A server that gets so many bytes at once.
    fn new(chunk: usize) -> Self {
        let controlled = Controlled::new();
        let gate = Rc::new(Gate::default());
        gate.set(Access::Open);
        let server = Server::new(gate, PORT);
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

    fn replies(&self, pipe: usize) -> Vec<u8> {
        self.controlled.stack.borrow().pipes[pipe].to_host.iter().copied().collect()
    }

    /// Another client gets its answer.
    fn ask_version(&mut self) {
        let pipe = self.connect(VERSION);
        for _ in 0..PATIENCE {
            self.rounds(1);
            if self.replies(pipe).ends_with(b"\n") {
                break;
            }
        }
        let reply: Value = serde_json::from_slice(&self.replies(pipe)).expect("no answer");
        assert_eq!(reply["id"], 77);
        self.controlled.stack.borrow_mut().pipes[pipe].host_closed = true;
        self.rounds(3);
    }
}

fn check(replies: &[u8]) {
    for line in replies.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.ends_with(b"\n"), "half an answer");
        let reply: Value = serde_json::from_slice(line).expect("an answer is JSON");
        match &reply {
            Value::Array(replies) => replies.iter().for_each(check_one),
            one => check_one(one),
        }
    }
}

fn check_one(reply: &Value) {
    assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
    let (result, error) = (reply.get("result"), reply.get("error"));
    assert!(result.is_some() != error.is_some() && reply.get("id").is_some(), "{reply}");
    let told = error.is_none_or(|e| e["code"].is_i64() && e["message"].is_string());
    assert!(told, "{reply}");
}

/// Calls of all kinds.
pub fn seeds() -> Vec<Seed> {
    let whole = |calls: &&str| {
        calls.lines().fold(Seed::starting(&[0]), |seed, line| seed.part(line.as_bytes()))
    };
    CALLS.iter().map(whole).collect()
}

const CALLS: [&str; 4] = [
    include_str!("../../seeds/calls-bdev.json"),
    include_str!("../../seeds/calls-nvmf.json"),
    include_str!("../../seeds/calls-mixed.json"),
    include_str!("../../seeds/calls-modules.json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_calls_of_the_seeds_succeed() {
        for seed in seeds() {
            let mut served = Served::new(usize::MAX);
            let pipe = served.connect(&seed.bytes[1..]);
            served.rounds(20_000);
            let text = String::from_utf8(served.replies(pipe)).unwrap();
            let succeeded = text.matches("\"result\"").count();
            let failed: Vec<_> = text.lines().filter(|line| line.contains("\"error\"")).collect();
            assert!(succeeded >= 7 && failed.len() <= 3, "{failed:#?}");
        }
    }
}
