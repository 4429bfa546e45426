//! Bytes on a connection of the JSON-RPC server with all its methods: each call has one answer that
//! is JSON on a line of its own, another client is served beside it, and what has been configured
//! can be saved and loaded.

use std::rc::Rc;
use std::time::Duration;

use basalt_rpc::PORT;
use basalt_serve::{Access, Gate, Server};
use serde_json::Value;

use crate::input::Input;
use crate::rpc::Controlled;
use crate::seed::Seed;
use crate::served::Served;

const VERSION: &[u8] = br#"{"jsonrpc":"2.0","id":77,"method":"spdk_get_version"}"#;

/// Byte 0: how much the server gets at once. Then the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut served = Served::new(&mut input, PORT, start);
    let pipe = served.connect(input.rest());
    served.rounds(400);
    ask_version(&mut served);
    served.pass(Duration::from_secs(2));
    check(&served.replies(pipe));
    served.close(pipe);
    served.rounds(50);
    ask_version(&mut served);
    if served.server.connections() == 0 {
        served.controlled.check_saved();
    }
}

fn start(_: &Controlled) -> Server {
    let gate = Rc::new(Gate::default());
    gate.set(Access::Open);
    basalt_rpc::server(gate, PORT)
}

/// Another client gets its answer.
fn ask_version(served: &mut Served) {
    let reply = served.ask_beside(VERSION, b"\n");
    let reply: Value = serde_json::from_slice(&reply).expect("no answer");
    assert_eq!(reply["id"], 77);
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
            let mut served = Served::new(&mut Input::new(&[]), PORT, start);
            let pipe = served.connect(&seed.bytes[1..]);
            served.rounds(20_000);
            let text = String::from_utf8(served.replies(pipe)).unwrap();
            let succeeded = text.matches("\"result\"").count();
            let failed: Vec<_> = text.lines().filter(|line| line.contains("\"error\"")).collect();
            assert!(succeeded >= 7 && failed.len() <= 3, "{failed:#?}");
        }
    }
}
