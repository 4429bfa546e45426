//! Connections: who is served how, and who is not.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_rpc::Access;
use serde_json::{Value, json};

use super::Machine;
use crate::page::PAGE;
use crate::{CONNECTIONS_MAX, PORT};

const ASK: &str = "GET /api/state HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn requests_that_arrive_together_are_answered_in_order_on_one_connection() {
    let mut machine = Machine::new();
    let requests = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n\
                    HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n\
                    GET /api/log HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
                    GET / HTTP/1.1\r\n";
    let peer = machine.connect(requests);
    machine.run(400);
    let ok = "HTTP/1.1 200 OK";
    let statuses = machine.statuses(peer);
    assert_eq!(statuses[0], "HTTP/1.1 404 Not Found");
    assert!(statuses[1].ends_with(ok) && statuses[2] == ok && statuses.len() == 3, "{statuses:?}");
    assert!(machine.peer(peer).target_closed, "the last request was said to be the last");
    assert_eq!(machine.server.connections(), 0);
}

#[test]
fn heads_tell_what_the_content_is_and_what_nobody_may_do_with_it() {
    let mut machine = Machine::new();
    let (head, content) = machine.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for line in [
        "HTTP/1.1 200 OK",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "Content-Type: text/html; charset=utf-8",
        "Content-Encoding: gzip",
        "X-Content-Type-Options: nosniff",
        &format!("Content-Length: {}", content.len()),
    ] {
        assert!(head.lines().any(|other| other == line), "{line} is missing in {head}");
    }
    assert!(head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
    assert!(content == PAGE, "{} bytes that are not the page's", content.len());
    let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    let again = format!("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n");
    let (head, content) = machine.ask(&again);
    assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\n") && content.is_empty(), "{head}");
    let (head, content) = machine.ask("PUT / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nAllow: GET, HEAD\r\n"));
    assert!(head.contains("Connection: close") && content.starts_with(b"405 Method Not Allowed"));
    let (head, content) = machine.ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.contains("Content-Length: ") && content.is_empty());
}

#[test]
fn the_state_has_what_the_contract_names() {
    let mut machine = Machine::new().with_subsystem();
    let (head, text) = machine.get("/api/state");
    assert!(head.contains("Content-Type: application/json\r\nCache-Control: no-store"), "{head}");
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["product"], "Basalt");
    assert_eq!(state["environment"], "test");
    assert_eq!(state["cores"].as_array().unwrap().len(), 2);
    assert_eq!(state["memory"]["heap"], json!({"size": 1000, "used": 400, "peak": 700}));
    let bdev = &state["bdevs"][0];
    assert_eq!(bdev["name"], "odd \"na\\me\"");
    assert_eq!((&bdev["blocks"], &bdev["claimed"]), (&json!(64), &json!(true)));
    assert_eq!(bdev["latency"], json!({"read": [], "write": []}));
    assert_eq!(state["bdevs"][1]["name"], "Over");
    let subsystem = &state["subsystems"][1];
    assert_eq!(subsystem["namespaces"], json!([{"nsid": 1, "bdev": "Over"}]));
    assert_eq!(state["subsystems"][0]["type"], "Discovery");
    let kinds: Vec<_> = state["errors"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert!(
        kinds.contains(&&json!("nvmf_pdu_header_digest")) && kinds.contains(&&json!("timeout"))
    );
}

#[test]
fn the_log_is_told_from_the_line_that_was_asked_for() {
    let mut machine = Machine::new();
    let target = "a_test_of_the_web";
    for n in 0..100 {
        basalt_env::keep_log_line(3, target, n, format_args!("\"line\" {n}\n"));
    }
    let (_, text) = machine.get("/api/log?since=0");
    let log: Value = serde_json::from_str(&text).unwrap();
    let lines = log["lines"].as_array().unwrap();
    let ours = |line: &&Value| line["target"] == target;
    assert_eq!(lines.iter().filter(ours).count(), 100);
    let first = lines.iter().find(ours).unwrap();
    assert_eq!((&first["level"], &first["message"]), (&json!("INFO"), &json!("\"line\" 0\n")));
    let next = log["next"].as_u64().unwrap();
    assert_eq!(next, lines.last().unwrap()["n"].as_u64().unwrap() + 1);
    basalt_env::keep_log_line(1, target, 7, format_args!("another"));
    let (_, text) = machine.get(&format!("/api/log?since={next}"));
    let log: Value = serde_json::from_str(&text).unwrap();
    let ours: Vec<_> = log["lines"].as_array().unwrap().iter().filter(ours).collect();
    assert_eq!((ours.len(), &ours[0]["level"]), (1, &json!("ERROR")));
    // Numbers of an earlier start.
    let (_, text) = machine.get("/api/log?since=1000000");
    let log: Value = serde_json::from_str(&text).unwrap();
    assert!(log["lines"].as_array().unwrap().len() > 100);
}

#[test]
fn who_asks_at_the_same_time_gets_the_same_text_made_once() {
    let mut machine = Machine::new();
    let peers: Vec<_> = (0..20).map(|_| machine.connect(ASK)).collect();
    machine.run(400);
    let answers: Vec<_> = peers.iter().map(|peer| machine.answer(*peer).1).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    machine.pass(Duration::from_secs(1));
    let (_, later) = machine.ask(ASK);
    assert_ne!(later, answers[0], "it is a second later");
}

#[test]
fn a_request_that_does_not_end_is_answered_by_its_time_out() {
    let mut machine = Machine::new();
    let peer = machine.connect("GET / HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..9 {
        machine.pass(Duration::from_secs(1));
        machine.peer(peer).to_target.extend(b"X: y\r\n");
    }
    assert!(machine.peer(peer).to_host.is_empty());
    machine.pass(Duration::from_secs(2));
    machine.run(4);
    assert_eq!(machine.statuses(peer), ["HTTP/1.1 408 Request Timeout"]);
    assert!(machine.peer(peer).target_closed);
}

#[test]
fn a_client_that_asks_for_nothing_is_let_go_of() {
    let mut machine = Machine::new();
    let peer = machine.connect("");
    machine.run(5);
    machine.pass(Duration::from_secs(119));
    assert_eq!(machine.server.connections(), 1);
    machine.pass(Duration::from_secs(2));
    assert!(machine.peer(peer).target_closed && machine.server.connections() == 0);
}

#[test]
fn a_client_that_does_not_take_its_answer_is_dropped() {
    let mut machine = Machine::new();
    let peer = machine.connect(ASK);
    machine.peer(peer).window = Some(10);
    machine.run(200);
    assert_eq!(machine.peer(peer).to_host.len(), 10);
    machine.pass(Duration::from_secs(31));
    assert!(machine.peer(peer).target_reset && machine.server.connections() == 0);
}

#[test]
fn busy_clients_keep_their_places_and_quiet_ones_make_way() {
    let mut machine = Machine::new();
    let quiet = machine.connect("");
    for _ in 1..CONNECTIONS_MAX {
        machine.connect("GET /");
    }
    machine.run(CONNECTIONS_MAX + 2);
    assert_eq!(machine.server.connections(), CONNECTIONS_MAX);
    let next = machine.connect(ASK);
    machine.run(300);
    assert!(machine.peer(quiet).target_closed && machine.has_answer(next));
    // It has asked and was answered, so that it makes way in turn; then all are busy.
    machine.connect("GET /");
    let last = machine.connect(ASK);
    machine.run(10);
    assert!(machine.peer(next).target_closed && machine.peer(last).target_reset);
}

#[test]
fn a_peer_that_has_finished_sending_still_gets_its_answer() {
    let mut machine = Machine::new();
    let peer = machine.connect(ASK);
    machine.peer(peer).host_closed = true;
    machine.run(300);
    assert!(machine.has_answer(peer) && machine.peer(peer).target_closed);
}

#[test]
fn nobody_is_let_in_before_the_gate_says_so_and_then_who_may_come_where_it_says() {
    let mut machine = Machine::closed();
    machine.run(3);
    assert!(machine.stack.ports.is_empty());
    machine.call("web_set_listener", json!({"allow": ["10.0.0.0/8"], "port": 8080}));
    assert_eq!(machine.stack.ports, [8080]);
    let inside = machine.connect_from("10.1.2.3", 8080, ASK);
    let outside = machine.connect_from("192.0.2.9", 8080, ASK);
    machine.run(300);
    assert!(machine.has_answer(inside) && machine.peer(outside).target_reset);
    machine.call("web_set_listener", json!({"allow": ["192.0.2.9"]}));
    assert_eq!(machine.stack.ports, [PORT]);
    assert!(machine.peer(inside).target_closed, "it is not welcome any more");
    machine.call("web_set_listener", json!({"enabled": false}));
    assert!(machine.stack.ports.is_empty());
    machine.gate.0.set(Access::Open);
    machine.run(2);
    assert_eq!(machine.stack.ports, [PORT]);
    let saved = machine.rpc.saved("web");
    assert_eq!(saved, [json!({"method": "web_set_listener", "params": {"enabled": false}})]);
}
