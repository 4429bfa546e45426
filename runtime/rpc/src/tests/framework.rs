use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use serde_json::{Value, json};

use super::Machine;
use crate::State;
use crate::methods::{InterfaceState, NetControl};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn methods_are_listed_by_state() {
    let mut machine = Machine::in_state(1, State::Startup);
    let all = machine.call("rpc_get_methods", None).unwrap();
    let current = machine.call("rpc_get_methods", json!({"current": true})).unwrap();
    let has = |list: &Value, name: &str| list.as_array().unwrap().contains(&json!(name));
    assert!(has(&all, "bdev_get_bdevs") && has(&all, "framework_start_init"));
    assert!(!has(&current, "bdev_get_bdevs") && has(&current, "framework_start_init"));
    machine.call("framework_start_init", None).unwrap();
    let params = json!({"current": true, "include_aliases": true});
    let current = machine.call("rpc_get_methods", params).unwrap();
    assert!(has(&current, "bdev_get_bdevs") && !has(&current, "framework_start_init"));
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = Machine::new().call("spdk_get_version", None).unwrap();
    assert_eq!(version["version"], concat!("Basalt v", env!("CARGO_PKG_VERSION")));
    assert_eq!(keys(&version["fields"]), ["major", "minor", "patch", "suffix"]);
    assert_eq!(version["fields"]["suffix"], "");
}

#[test]
fn every_subsystem_comes_after_those_it_depends_on_and_has_a_configuration() {
    let mut machine = Machine::new();
    let subsystems = machine.call("framework_get_subsystems", None).unwrap();
    let mut seen = Vec::new();
    for subsystem in subsystems.as_array().unwrap() {
        let depends_on = subsystem["depends_on"].as_array().unwrap();
        assert!(depends_on.iter().all(|name| seen.contains(name)), "{subsystem}");
        let name = &subsystem["subsystem"];
        let params = json!({"name": name, "with_batches": false});
        assert!(machine.call("framework_get_config", params).unwrap().is_array());
        seen.push(name.clone());
    }
    assert_eq!(machine.code("framework_get_config", json!({"name": "moon"})), -32602);
}

#[test]
fn reactors_and_threads_are_those_of_the_cores() {
    let mut machine = Machine::with_cores(6);
    let _poller = machine.boot().poller("spin", |_| basalt_env::Work(1));
    let period = core::time::Duration::from_millis(1);
    let last = machine.reactors[5].local();
    let _timed = last.timed_poller("tick", period, |_| basalt_env::Work::IDLE);
    machine.round();

    let reactors = machine.call("framework_get_reactors", None).unwrap();
    assert_eq!(keys(&reactors), ["pid", "reactors", "tick_rate"]);
    assert_eq!(reactors["reactors"].as_array().unwrap().len(), 6);
    let of_last = &reactors["reactors"][5];
    assert_eq!(of_last["lcore"], 5);
    assert_eq!(keys(&of_last["lw_threads"][0]), ["cpumask", "elapsed", "id", "name"]);
    assert_eq!(of_last["lw_threads"][0]["cpumask"], "20");

    let stats = machine.call("thread_get_stats", None).unwrap();
    assert_eq!(stats["threads"][0]["active_pollers_count"], 1);
    assert!(stats["threads"][0]["busy"].as_u64().unwrap() > 0);
    assert_eq!(stats["threads"][5]["timed_pollers_count"], 1);

    let pollers = machine.call("thread_get_pollers", None).unwrap();
    let spin = &pollers["threads"][0]["active_pollers"][0];
    let members = ["busy", "busy_count", "id", "idle", "name", "run_count", "state"];
    assert_eq!(keys(spin), members);
    assert_eq!(spin["run_count"], spin["busy_count"]);
    let tick = &pollers["threads"][5]["timed_pollers"][0];
    assert_eq!((&tick["name"], &tick["period_ticks"]), (&json!("tick"), &json!(1_000_000)));
}

#[test]
fn when_cores_rest_and_what_the_control_plane_gets_of_them_is_set_saved_and_read_back() {
    let mut machine = Machine::new();
    let options = |machine: &mut Machine| machine.call("reactor_get_options", None).unwrap();
    let told = |after: Option<u64>, share: u8| {
        let rest = after.is_some();
        json!({"rest": rest, "rest_after_us": after, "background_share": share})
    };
    assert_eq!(options(&mut machine), told(Some(1000), 10));
    for (set, then) in [
        (json!({"rest_after_us": 250}), told(Some(250), 10)),
        (json!({"rest": false, "background_share": 100}), told(None, 100)),
        (json!({"rest": true, "background_share": 1}), told(Some(1000), 1)),
        (json!({"rest_after_us": 0}), told(Some(0), 10)),
    ] {
        machine.call("reactor_set_options", set).unwrap();
        assert_eq!(options(&mut machine), then);
    }
    let saved = machine.call("framework_get_config", json!({"name": "scheduler"})).unwrap();
    let call = json!({"method": "reactor_set_options", "params": {"rest_after_us": 0}});
    assert_eq!(saved, json!([call]));
    let contradiction = json!({"rest": false, "rest_after_us": 5});
    assert_eq!(machine.code("reactor_set_options", contradiction), -32602);
    assert_eq!(machine.code("reactor_set_options", json!({"rest_after_us": -1})), -32602);
    for share in [0, 101, 300] {
        assert_eq!(machine.code("reactor_set_options", json!({"background_share": share})), -32602);
    }
}

#[test]
fn the_log_level_is_read_back_as_it_was_set() {
    let mut machine = Machine::new();
    for level in ["DISABLED", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"] {
        machine.call("log_set_print_level", json!({"level": level})).unwrap();
        assert_eq!(machine.call("log_get_print_level", None).unwrap(), level);
        assert_eq!(machine.call("log_get_level", None).unwrap(), level);
    }
    assert_eq!(machine.code("log_set_print_level", json!({"level": "LOUD"})), -32602);
}

#[test]
fn the_machine_is_stopped_after_the_reply() {
    let mut machine = Machine::new();
    let signal = json!({"sig_name": "SIGTERM"});
    assert_eq!(machine.code("spdk_kill_instance", signal.clone()), -32603);
    let heard = Rc::new(RefCell::new(None));
    let hook = Rc::clone(&heard);
    machine.rpc.on_kill(move |signal| *hook.borrow_mut() = Some(String::from(signal)));
    assert_eq!(machine.code("spdk_kill_instance", json!({"sig_name": "SIGFOO"})), -32602);
    assert_eq!(machine.call("spdk_kill_instance", signal).unwrap(), true);
    assert_eq!(*heard.borrow(), None);
    for _ in 0..3000 {
        machine.round();
    }
    assert_eq!(heard.borrow().as_deref(), Some("SIGTERM"));
}

#[test]
fn interfaces_are_set_listed_and_saved() {
    let mut machine = Machine::new();
    let set = Rc::new(RefCell::new(None));
    let (setter, lister) = (Rc::clone(&set), Rc::clone(&set));
    let control = NetControl::new(
        move |config| {
            *setter.borrow_mut() = Some(config);
            Ok(())
        },
        move || {
            let config: Option<crate::InterfaceSetting> = *lister.borrow();
            vec![InterfaceState {
                name: "net0".into(),
                mac: [0x52, 0x54, 0, 0, 0, 1],
                addresses: config.and_then(|config| config.addresses).unwrap_or_default(),
                link_local: Some(basalt_net::Ipv6Cidr::link_local([0x52, 0x54, 0, 0, 0, 1])),
                dhcp: config.is_none(),
                mtu: 1500,
                link_up: Some(true),
            }]
        },
    );
    machine.boot().provide(Rc::new(control));
    assert_eq!(machine.call("net_get_interfaces", None).unwrap()[0]["dhcp"], true);
    let params = json!({"name": "net0", "address": "10.0.0.1/24", "gateway": "10.0.0.254"});
    assert_eq!(machine.call("net_set_interface", params.clone()).unwrap(), true);
    let expected = json!([{
        "name": "net0",
        "mac": "52:54:00:00:00:01",
        "address": "10.0.0.1/24",
        "gateway": "10.0.0.254",
        "ipv6_addresses": ["fe80::5054:ff:fe00:1/64"],
        "ipv6_gateway": null,
        "dhcp": false,
        "mtu": 1500,
        "link_up": true,
        "queues": [],
    }]);
    assert_eq!(machine.call("net_get_interfaces", None).unwrap(), expected);
    let saved = machine.call("framework_get_config", json!({"name": "net"})).unwrap();
    let addresses = json!({"method": "net_set_interface", "params": params});
    assert_eq!(saved, json!([addresses]));
    // The MTU that it runs with, as a configuration has had it, is saved and stays so.
    let mtu = json!({"name": "net0", "mtu": 1500});
    let both = json!({"name": "net0", "address": "10.0.0.1/24", "mtu": 1500,
        "gateway": "10.0.0.254"});
    for call in [&mtu, &both, &params] {
        assert_eq!(machine.call("net_set_interface", call.clone()).unwrap(), true);
        let mut saved = machine.call("framework_get_config", json!({"name": "net"})).unwrap();
        let calls = saved.as_array_mut().unwrap();
        calls.sort_by_key(|call| call["params"]["mtu"].is_u64());
        assert_eq!(
            *calls,
            [
                addresses.clone(),
                json!({"method": "net_set_interface",
            "params": mtu})
            ]
        );
    }
    let error = machine.call("net_set_interface", json!({"name": "net0", "mtu": 9000}));
    let error = error.unwrap_err().message;
    assert!(error.contains("MTU of 1500") && error.contains("start again"), "{error}");
}
