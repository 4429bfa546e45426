use serde_json::{Value, json};

use super::super::capture::{Capture, CoreTrace, Event};
use super::*;

/// A capture of one core that has told these events.
fn capture(events: &[Value]) -> Capture {
    let fields = [
        ("THREAD_ROUND", &["work", "took_ns"][..]),
        ("THREAD_POLLER", &["name", "work", "took_ns"]),
        ("BDEV_IO_DONE", &["op", "bdev", "lba", "blocks", "latency_ns"]),
        ("SOCK_SENT", &["connection", "bytes"]),
    ];
    let fields = fields.map(|(name, fields)| {
        (name.to_owned(), fields.iter().map(|field| (*field).to_owned()).collect())
    });
    let events = events.iter().map(|event| Event::read(event.clone()).unwrap()).collect();
    let core = CoreTrace { core: 3, events, lost: 5, ..CoreTrace::default() };
    Capture { cores: vec![core], fields: fields.into() }
}

fn converted(events: &[Value]) -> Value {
    let mut out = Vec::new();
    write(&mut out, "a machine", &capture(events)).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn of_phase<'a>(trace: &'a Value, phase: &str) -> Vec<&'a Value> {
    let events = trace["traceEvents"].as_array().unwrap();
    events.iter().filter(|event| event["ph"] == phase).collect()
}

#[test]
fn a_machine_is_a_process_and_a_core_a_thread() {
    let trace = converted(&[]);
    let names: Vec<_> = of_phase(&trace, "M").iter().map(|event| event["args"].clone()).collect();
    let expected =
        [json!({"name": "a machine"}), json!({"name": "core 3"}), json!({"sort_index": 3})];
    assert_eq!(names, expected);
    assert_eq!(trace["otherData"]["lost_events"], 5);
}

#[test]
fn what_a_reactor_runs_is_drawn_inside_its_round() {
    let trace = converted(&[
        json!(["THREAD_POLLER", 5_000, "nvmf_tcp", 3, 1_001]),
        json!(["THREAD_POLLER", 6_000, "net_nic", 1, 500]),
        json!(["THREAD_ROUND", 6_500, 4, 2_500]),
    ]);
    let spans = of_phase(&trace, "X");
    let what = |span: &Value| (span["name"].clone(), span["ts"].clone(), span["dur"].clone());
    // The first poller seems to begin a nanosecond before its round.
    let expected = [
        (json!("round"), json!(4.0), json!(2.5)),
        (json!("nvmf_tcp"), json!(4.0), json!(1.0)),
        (json!("net_nic"), json!(5.5), json!(0.5)),
    ];
    assert_eq!(spans.iter().map(|span| what(span)).collect::<Vec<_>>(), expected);
    assert_eq!(spans[1]["args"]["work"], 3);
    assert_eq!((&spans[1]["pid"], &spans[1]["tid"]), (&json!(1), &json!(3)));
}

#[test]
fn an_io_is_a_pair_from_its_submission_to_its_end() {
    let trace = converted(&[
        json!(["BDEV_IO_DONE", 9_000, "read", "Nvme0n1", 8, 1, 4_000]),
        json!(["BDEV_IO_DONE", 9_000, "write", "Nvme0n1", 9, 1, 5_000, "failed"]),
    ]);
    let [begins, ends] = ["b", "e"].map(|phase| of_phase(&trace, phase));
    assert_eq!((begins.len(), ends.len()), (2, 2));
    assert_eq!((&begins[0]["name"], &begins[0]["ts"]), (&json!("write Nvme0n1"), &json!(4.0)));
    assert_eq!(begins[0]["args"]["failed"], true);
    assert_eq!((&begins[1]["name"], &begins[1]["ts"]), (&json!("read Nvme0n1"), &json!(5.0)));
    assert_eq!(begins[1]["args"]["failed"], Value::Null);
    assert_ne!(begins[0]["id"], begins[1]["id"]);
    for begin in begins {
        let end = ends.iter().find(|end| end["id"] == begin["id"]).unwrap();
        assert_eq!((&end["name"], &end["cat"]), (&begin["name"], &begin["cat"]));
        assert_eq!(end["ts"], 9.0);
    }
}

#[test]
fn events_of_one_time_stay_in_their_order() {
    let sent = |bytes: u64| json!(["SOCK_SENT", 7_000, 1, bytes]);
    let trace = converted(&[sent(1), sent(2), sent(3)]);
    let instants = of_phase(&trace, "i");
    let bytes: Vec<_> = instants.iter().map(|event| event["args"]["bytes"].as_u64()).collect();
    assert_eq!(bytes, [Some(1), Some(2), Some(3)]);
    assert!(instants.iter().all(|event| event["s"] == "t" && event["ts"] == 7.0));
}

#[test]
fn what_is_no_event_is_left_out() {
    for nonsense in [json!(null), json!([]), json!(["SOCK_SENT"]), json!([1, 2]), json!(["a", -1])]
    {
        assert!(Event::read(nonsense).is_none());
    }
}
