//! Tracepoints are switched and their events handed out.

use alloc::format;
use alloc::string::ToString as _;

use basalt_bdev::Op;
use basalt_env::CoreId;
use basalt_metrics::{OPS, Tpoint, TraceGroup};
use basalt_reactor::TraceMasks;
use serde_json::{Value, json};

use super::Machine;

fn switch(machine: &mut Machine, method: &str, params: Value) {
    assert_eq!(machine.call(method, params).unwrap(), json!(true));
    // Other cores hear of it in their next round.
    machine.round();
}

fn masks(machine: &Machine, core: usize) -> TraceMasks {
    machine.reactors[core].local().trace_masks()
}

#[test]
fn groups_are_shown_as_spdk_shows_them() {
    let mut machine = Machine::new();
    let info = machine.call("trace_get_info", None).unwrap();
    assert_eq!((&info["tpoint_shm_path"], &info["tpoint_group_mask"]), (&json!(""), &json!("0x0")));
    assert_eq!(info["bdev"], json!({"mask": "0x8", "tpoint_mask": "0x0"}));
    switch(&mut machine, "trace_enable_tpoint_group", json!({"name": "bdev"}));
    let mask = json!({"name": "nvmf_tcp", "tpoint_mask": 0x1000});
    switch(&mut machine, "trace_set_tpoint_mask", mask);
    let info = machine.call("trace_get_info", None).unwrap();
    assert_eq!(info["tpoint_group_mask"], "0x28");
    assert_eq!(info["bdev"], json!({"mask": "0x8", "tpoint_mask": "0x3"}));
    assert_eq!(info["nvmf_tcp"], json!({"mask": "0x20", "tpoint_mask": "0x1000"}));
    let groups = machine.call("trace_get_tpoint_group_mask", None).unwrap();
    assert_eq!(groups["tpoint_group_mask"], "0x28");
    assert_eq!(groups["bdev"], json!({"enabled": true, "mask": "0x8"}));
    assert_eq!(groups["thread"], json!({"enabled": false, "mask": "0x400"}));
}

#[test]
fn every_core_traces_what_was_asked_for_and_nothing_once_all_is_off() {
    let mut machine = Machine::with_cores(3);
    switch(&mut machine, "trace_enable_tpoint_group", json!({"name": "all"}));
    let clear = json!({"name": "sock", "tpoint_mask": Tpoint::SockSent.bit()});
    switch(&mut machine, "trace_clear_tpoint_mask", clear);
    for core in 0..3 {
        let masks = masks(&machine, core);
        assert_eq!(masks.get(TraceGroup::Sock), Tpoint::SockReceived.bit(), "core {core}");
        assert_eq!(masks.get(TraceGroup::Thread), TraceGroup::Thread.tpoints());
        assert!(machine.boot().mesh().traced(CoreId(core as u16)).is_some());
    }
    switch(&mut machine, "trace_disable_tpoint_group", json!({"name": "all"}));
    for core in 0..3 {
        assert_eq!(masks(&machine, core), TraceMasks::default());
        assert!(machine.boot().mesh().traced(CoreId(core as u16)).is_none());
    }
}

#[test]
fn events_are_handed_out_piece_by_piece_with_their_names() {
    let mut machine = Machine::new();
    let create = json!({"num_blocks": 64, "block_size": 512, "name": "Ram0"});
    machine.call("bdev_malloc_create", create).unwrap();
    switch(&mut machine, "trace_enable_tpoint_group", json!({"name": "bdev"}));
    let (boot, number) = (machine.boot(), ram_number(&machine));
    for lba in 0..3 {
        boot.trace(Tpoint::BdevIoStart, (Op::Write.index() as u16, number), [lba, 1, 0]);
    }
    boot.trace_failed(Tpoint::BdevIoDone, (0, u32::MAX), [1, 1, 99]);
    let first = machine.call("trace_get_events", json!({"core": 0, "max": 3})).unwrap();
    assert_eq!(first["tpoints"], json!({"BDEV_IO_START": ["op", "bdev", "lba", "blocks"]}));
    let lasting = |at: &str| first[at].as_u64().unwrap();
    assert_eq!((lasting("next"), lasting("written"), lasting("lost")), (3, 4, 0));
    let event = first["events"][1].as_array().unwrap();
    assert_eq!(event[0], "BDEV_IO_START");
    assert!(event[1].is_u64(), "its time");
    assert_eq!(event[2..], [json!("write"), json!("Ram0"), json!(1), json!(1)]);
    let rest = machine.call("trace_get_events", json!({"core": 0, "since": 3})).unwrap();
    let event = rest["events"][0].as_array().unwrap();
    let gone = json!(u32::MAX);
    assert_eq!(event[2..], [json!("read"), gone, json!(1), json!(1), json!(99), json!("failed")]);
    let beyond = machine.call("trace_get_events", json!({"core": 0, "since": 900})).unwrap();
    assert_eq!((&beyond["next"], &beyond["events"]), (&json!(4), &json!([])));
    assert_eq!(machine.call("trace_clear", None).unwrap(), json!(true));
    let empty = machine.call("trace_get_events", json!({"core": 0})).unwrap();
    assert_eq!(
        (&empty["next"], &empty["lost"], &empty["events"]),
        (&json!(4), &json!(0), &json!([]))
    );
}

/// What traces call `Ram0`, the bdev that was made last.
fn ram_number(machine: &Machine) -> u32 {
    let registry = machine.boot().service::<basalt_bdev::Registry>().unwrap();
    (0..10_000).find(|number| registry.traced_name(*number).as_deref() == Some("Ram0")).unwrap()
}

#[test]
fn overwritten_events_are_counted() {
    let mut machine = Machine::new();
    switch(&mut machine, "trace_set_options", json!({"num_entries": 64}));
    let options = machine.call("trace_get_options", None).unwrap();
    assert_eq!(options, json!({"num_entries": 64}));
    switch(&mut machine, "trace_enable_tpoint_group", json!({"name": "sock"}));
    let boot = machine.boot();
    (0..100).for_each(|n| boot.trace(Tpoint::SockSent, (0, 1), [n, 0, 0]));
    let piece = machine.call("trace_get_events", json!({"core": 0, "since": 10})).unwrap();
    assert_eq!((&piece["lost"], &piece["next"]), (&json!(26), &json!(100)));
    assert_eq!(piece["events"].as_array().unwrap().len(), 64);
    let busy = machine.call("trace_set_options", json!({"num_entries": 128})).unwrap_err();
    assert_eq!(busy.code, -16);
}

#[test]
fn the_longest_answer_stays_far_below_what_is_sent() {
    let mut machine = Machine::new();
    switch(&mut machine, "trace_enable_tpoint_group", json!({"name": "bdev"}));
    let boot = machine.boot();
    let most = [u64::MAX; 3];
    (0..2_000).for_each(|_| boot.trace_failed(Tpoint::BdevIoDone, (7, u32::MAX), most));
    let piece = machine.call("trace_get_events", json!({"core": 0, "max": 1_000_000})).unwrap();
    assert_eq!(piece["events"].as_array().unwrap().len(), 1000);
    assert!(piece.to_string().len() < 256 * 1024);
}

#[test]
fn nonsense_is_refused_with_what_would_be_right() {
    let mut machine = Machine::new();
    let refusals = [
        ("trace_enable_tpoint_group", json!({"name": "nvmf_rdma"}), -32602, "nvmf_tcp"),
        ("trace_set_tpoint_mask", json!({"name": "bdev", "tpoint_mask": "0x1"}), -32602, "mask"),
        ("trace_set_options", json!({"num_entries": 1_u64 << 40}), -32602, "1048576"),
        ("trace_get_events", json!({"core": 1}), -32602, "1 cores"),
        ("trace_get_events", json!({"core": 0}), -19, "trace_enable_tpoint_group"),
    ];
    for (method, params, code, says) in refusals {
        let error = machine.call(method, params).unwrap_err();
        assert_eq!(error.code, code, "{method}");
        assert!(error.message.contains(says), "{method}: {}", error.message);
    }
}

#[test]
fn operations_are_called_in_traces_as_the_block_layer_has_them() {
    for op in Op::ALL {
        let name = OPS[op.index()].replace('_', "");
        assert_eq!(name, format!("{op:?}").to_lowercase());
    }
}
