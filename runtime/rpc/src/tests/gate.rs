//! Who reaches the control plane, and whether it waits to be told to go on.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::Machine;
use super::config::{apply, save};
use super::server::Served;
use crate::{Access, Door, Prefix, State};

const CALL: &str = "{\"id\": 1, \"method\": \"spdk_get_version\"}";
const OURS: &str = "10.0.0.1";

fn open(served: &mut Served) {
    let rpc = Rc::clone(&served.machine.rpc);
    served.machine.run(async move { rpc.open().await });
}

/// Whether a client from `peer` that comes to `local` is answered.
fn is_answered(served: &mut Served, ends: [&str; 2]) -> bool {
    let at = served.connect_from(ends, CALL);
    served.run(200);
    let is_refused = served.peer(at).target_reset;
    assert_eq!(is_refused, served.replies(at).is_empty(), "refused, or answered");
    !is_refused
}

#[test]
fn nobody_is_let_in_before_the_boot_is_over_and_everybody_after_it() {
    let mut served = Served::in_state(State::Startup);
    served.run(10);
    assert!(!served.listens());
    open(&mut served);
    assert_eq!(served.machine.rpc.state(), State::Runtime);
    assert!(is_answered(&mut served, ["192.0.2.9", OURS]));
    let listener = served.machine.call("rpc_get_listener", None).unwrap();
    assert_eq!(listener, json!({"enabled": true, "address": null, "allow": []}));
}

#[test]
fn a_slip_elsewhere_in_the_configuration_opens_nothing() {
    let limited = json!({"method": "rpc_set_listener", "params": {"allow": ["10.0.0.0/8"]}});
    let wrong = json!({"method": "rpc_set_listener", "params": {"allow": ["ten"]}});
    let slip = json!({"method": "bdev_null_create", "params": {"nam": "N"}});
    let fails = json!({"method": "bdev_null_delete", "params": {"name": "N"}});
    for (calls, inside, outside) in [
        (json!([limited, slip]), true, false),
        (json!([fails, limited]), true, false),
        (json!([wrong, slip]), false, false),
        (json!([slip]), true, true),
    ] {
        let mut served = Served::in_state(State::Startup);
        let config = json!({"subsystems": [{"subsystem": "rpc", "config": calls}]});
        let rpc = Rc::clone(&served.machine.rpc);
        let config = crate::Config::parse(alloc::format!("{config}").as_bytes());
        served.machine.run(async move { config.apply(&rpc).await.unwrap_err() });
        open(&mut served);
        served.run(10);
        assert_eq!(served.listens(), inside, "{calls}");
        if inside {
            assert!(is_answered(&mut served, ["10.1.2.3", OURS]), "{calls}");
            assert_eq!(is_answered(&mut served, ["192.0.2.9", OURS]), outside, "{calls}");
        }
    }
}

#[test]
fn what_the_boot_sets_counts_from_the_first_connection_on() {
    let mut served = Served::in_state(State::Startup);
    let allow = json!(["10.0.0.0/24", "fd00::/8", "192.0.2.7"]);
    let listener = json!({"enabled": true, "address": "10.0.0.1", "allow": allow});
    let rpc = Rc::clone(&served.machine.rpc);
    let params = listener.clone();
    let set = async move { rpc.call_at_boot("rpc_set_listener", Some(params)).await };
    assert_eq!(served.machine.run(set).unwrap(), true);
    served.run(10);
    assert!(!served.listens(), "the boot is not over");
    open(&mut served);
    for (peer, local, answered) in [
        ("10.0.0.255", OURS, true),
        ("192.0.2.7", OURS, true),
        ("10.0.1.0", OURS, false),
        ("192.0.2.8", OURS, false),
        ("fdff::1", "fd00::1", false),
        ("10.0.0.255", "10.0.0.2", false),
    ] {
        assert_eq!(is_answered(&mut served, [peer, local]), answered, "{peer} to {local}");
    }
    let shown = served.machine.call("rpc_get_listener", None).unwrap();
    assert_eq!(shown["allow"], json!(["10.0.0.0/24", "fd00::/8", "192.0.2.7/32"]));
    let saved = served.machine.call("framework_get_config", json!({"name": "rpc"})).unwrap();
    assert_eq!(saved, json!([{"method": "rpc_set_listener", "params": listener}]));
}

#[test]
fn a_call_that_shuts_its_caller_out_is_answered_and_ends_the_connections_of_others() {
    for params in ["{\"enabled\": false}", "{\"allow\": [\"10.0.0.3\"]}"] {
        let mut served = Served::in_state(State::Startup);
        open(&mut served);
        served.run(1);
        let idle = served.connect_from(["10.0.0.2", OURS], CALL);
        let stays = served.connect_from(["10.0.0.3", OURS], CALL);
        served.run(200);
        let call = alloc::format!(
            "{{\"id\": 5, \"method\": \"rpc_set_listener\", \"params\": {params}}}{CALL}"
        );
        let caller = served.connect_from(["10.0.0.4", OURS], &call);
        served.run(300);
        let replies = served.replies(caller);
        assert_eq!((replies.len(), &replies[0]["result"]), (1, &json!(true)));
        assert!(served.peer(caller).target_closed && served.peer(idle).target_closed);
        let is_limited = params.contains("allow");
        assert_eq!(served.peer(stays).target_closed, !is_limited);
        assert_eq!(served.listens(), is_limited);
    }
}

#[test]
fn what_makes_no_sense_of_a_listener_is_refused_by_name() {
    let mut machine = Machine::new();
    let many: Vec<&str> = vec!["10.0.0.1"; 65];
    for (params, says) in [
        (json!({"address": "here"}), "'address': 'here'"),
        (json!({"allow": []}), "'allow': it is empty"),
        (json!({"allow": ["10.0.0.0/33"]}), "'allow[0]': '10.0.0.0/33'"),
        (json!({"allow": ["fd00::/129"]}), "'fd00::/129'"),
        (json!({"allow": ["10.0.0.0/"]}), "'10.0.0.0/'"),
        (json!({"allow": ["host"]}), "'host'"),
        (json!({"allow": many}), "at most 64"),
        (json!({"enabled": "no"}), "'enabled'"),
        (json!({"port": 1}), "'port'"),
    ] {
        let error = machine.call("rpc_set_listener", params.clone()).unwrap_err();
        assert_eq!(error.code, -32602, "{params}");
        assert!(error.message.contains(says), "{params}: {}", error.message);
    }
    assert_eq!(machine.rpc.entrance(Door::Rpc).access, Access::Open);
    let saved = machine.call("framework_get_config", json!({"name": "rpc"})).unwrap();
    assert_eq!(saved, json!([]));
}

#[test]
fn a_prefix_holds_the_addresses_that_begin_with_its_bits() {
    for (prefix, within, without) in [
        ("10.1.0.0/15", "10.0.255.255", "10.2.0.0"),
        ("0.0.0.0/0", "255.1.2.3", "::1"),
        ("::/0", "fd00::1", "10.0.0.1"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
        ("fd00:0:0:8000::/49", "fd00:0:0:ffff::1", "fd00::1"),
    ] {
        let prefix: Prefix = prefix.parse().unwrap();
        assert!(prefix.contains(within.parse().unwrap()), "{prefix} {within}");
        assert!(!prefix.contains(without.parse().unwrap()), "{prefix} {without}");
    }
}

#[test]
fn a_machine_that_waits_takes_options_first_and_is_saved_as_one_that_runs() {
    let wait = json!({"method": "rpc_set_options", "params": {"wait_for_rpc": true}});
    let config = json!({"subsystems": [{"subsystem": "rpc", "config": [wait]}]});
    let mut served = Served::in_state(State::Startup);
    apply(&mut served.machine, &config).unwrap();
    assert!(served.machine.rpc.waits());
    open(&mut served);
    let machine = &mut served.machine;
    assert_eq!(machine.rpc.state(), State::Startup);
    assert_eq!(machine.code("bdev_get_bdevs", None), -1);
    machine.call("iobuf_set_options", json!({"small_pool_count": 8192})).unwrap();
    let of_rpc = |saved: &Value| {
        let subsystems = saved["subsystems"].as_array().unwrap();
        subsystems.iter().find(|entry| entry["subsystem"] == "rpc").unwrap()["config"].clone()
    };
    assert_eq!(of_rpc(&save(machine)), json!([wait]));
    machine.call("framework_start_init", None).unwrap();
    assert_eq!(of_rpc(&save(machine)), json!([]));
    // Asked for while it runs, it is for the next start.
    machine.call("rpc_set_options", json!({"wait_for_rpc": true})).unwrap();
    assert_eq!(machine.rpc.state(), State::Runtime);
    assert_eq!(of_rpc(&save(machine)), json!([wait]));
    machine.call("rpc_set_options", json!({"wait_for_rpc": false})).unwrap();
    assert_eq!(of_rpc(&save(machine)), json!([]));
}
