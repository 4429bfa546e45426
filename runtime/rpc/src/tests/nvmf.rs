use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_hosted::Machine as Hosted;
use basalt_models::pipes::TestStack;
use basalt_nvmf::{DISCOVERY_NQN, PollGroup, Target, TransportConfig};
use serde_json::{Value, json};

use super::Machine;
use super::config::{apply, save};
use crate::State;
use crate::methods::{InterfaceState, NetControl};

pub(super) const NQN: &str = "nqn.2026-11.org.example:a";
/// Starts with the other's name and a slash.
pub(super) const LONGER_NQN: &str = "nqn.2026-11.org.example:a/b";
pub(super) const HOST: &str =
    "nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-4cde-8f01-23456789abcd";
const UUID: &str = "01234567-89ab-4cde-8f01-23456789abcd";

/// Each core's stack, which nobody connects to.
type Stacks = [Rc<RefCell<TestStack>>; 2];

/// A machine of two cores with a target.
pub(super) fn serving() -> (Machine, Stacks) {
    let machine = Machine::with_cores(2);
    Target::start(&machine.boot(), TransportConfig::default());
    let hosted = Hosted::new();
    let stacks = [0, 1].map(|core: usize| {
        let (local, pool) = (machine.reactors[core].local(), hosted.pool(1 << 20));
        let stack = Rc::new(RefCell::new(TestStack::new()));
        PollGroup::start(&local, stack.clone(), pool, TransportConfig::default());
        stack
    });
    (machine, stacks)
}

/// The same, with the transport and an empty subsystem.
pub(super) fn with_subsystem() -> (Machine, Stacks) {
    let (mut machine, stacks) = serving();
    ok(&mut machine, "nvmf_create_transport", json!({"trtype": "tcp"}));
    ok(&mut machine, "nvmf_create_subsystem", json!({"nqn": NQN}));
    (machine, stacks)
}

pub(super) fn ok(machine: &mut Machine, method: &str, params: Value) {
    assert_eq!(machine.call(method, params).unwrap(), true, "{method}");
}

pub(super) fn listener(nqn: &str, traddr: &str, trsvcid: &str) -> Value {
    let address = json!({"trtype": "tcp", "adrfam": "ipv4", "traddr": traddr, "trsvcid": trsvcid});
    json!({"nqn": nqn, "listen_address": address})
}

pub(super) fn ns(nqn: &str, bdev: &str) -> Value {
    json!({"nqn": nqn, "namespace": {"bdev_name": bdev}})
}

pub(super) fn null(machine: &mut Machine, name: &str) {
    let params = json!({"name": name, "num_blocks": 8, "block_size": 512, "uuid": UUID});
    machine.call("bdev_null_create", params).unwrap();
}

pub(super) fn shown(machine: &mut Machine, nqn: &str) -> Value {
    machine.call("nvmf_get_subsystems", json!({"nqn": nqn})).unwrap()[0].clone()
}

#[test]
fn the_transport_is_made_once_with_the_options_asked_for() {
    let (mut machine, _) = serving();
    assert_eq!(machine.call("nvmf_get_transports", None).unwrap(), json!([]));
    assert_eq!(machine.code("nvmf_get_transports", json!({"trtype": "TCP"})), -19);
    assert_eq!(machine.code("nvmf_create_transport", json!({"trtype": "RDMA"})), -32602);
    let strange = json!({"trtype": "TCP", "colour": "blue"});
    assert_eq!(machine.code("nvmf_create_transport", strange), -32602);
    let with_dif = json!({"trtype": "TCP", "dif_insert_or_strip": true});
    assert_eq!(machine.code("nvmf_create_transport", with_dif), -95);
    // What the client sends for `nvmf_create_transport -t tcp -q 64 -c 4096`, and more.
    let params = json!({
        "trtype": "tcp", "max_queue_depth": 64, "in_capsule_data_size": 4096, "no_srq": false,
        "c2h_success": false, "zcopy": false, "dif_insert_or_strip": false,
        "no_wr_batching": false, "disable_mappable_bar0": false, "disable_adaptive_irq": false,
        "disable_shadow_doorbells": false, "disable_command_passthru": false,
        "max_io_size": 131_072, "max_io_qpairs_per_ctrlr": 8, "abort_timeout_sec": 3,
    });
    ok(&mut machine, "nvmf_create_transport", params.clone());
    let expected = json!([{
        "trtype": "TCP", "max_queue_depth": 64, "max_io_qpairs_per_ctrlr": 8,
        "in_capsule_data_size": 4096, "max_io_size": 131_072, "io_unit_size": 131_072,
        "max_aq_depth": 128, "dif_insert_or_strip": false, "zcopy": false, "c2h_success": false,
        "sock_priority": 0, "abort_timeout_sec": 3, "min_kato": 0, "masked_oncs": [],
        "masked_fuses": [],
    }]);
    assert_eq!(machine.call("nvmf_get_transports", json!({"trtype": "tcp"})).unwrap(), expected);
    let again = machine.call("nvmf_create_transport", params).unwrap_err();
    assert_eq!((again.code, again.message.as_str()), (-17, "Transport type 'TCP' already exists"));
}

#[test]
fn an_option_of_the_transport_is_heeded_or_refused_by_name() {
    let (mut machine, _) = serving();
    let table = [
        ("sock_priority", json!(1), -95),
        ("association_timeout", json!(120_000), -95),
        ("masked_oncs", json!(["colour"]), -32602),
        ("masked_fuses", json!(["nvmcmps"]), -32602),
    ];
    for (name, value, code) in table {
        let mut params = json!({"trtype": "TCP"});
        params[name] = value;
        let refused = machine.call("nvmf_create_transport", params).unwrap_err();
        assert!(refused.code == code && refused.message.contains(name), "{refused}");
    }
    let heeded = json!({
        "max_aq_depth": 64, "min_kato": 5000, "masked_oncs": ["nvmwzsv", "reservs"],
        "masked_fuses": ["fcws"], "sock_priority": 0,
    });
    let mut params = heeded.clone();
    params["trtype"] = json!("tcp");
    ok(&mut machine, "nvmf_create_transport", params);
    let shown = machine.call("nvmf_get_transports", None).unwrap()[0].clone();
    for (name, value) in heeded.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
}

#[test]
fn which_admin_commands_go_to_drives_is_chosen_before_the_start() {
    let mut machine = Machine::in_state(1, State::Startup);
    Target::start(&machine.boot(), TransportConfig::default());
    let set = "nvmf_set_config";
    let chosen = json!({
        "discovery_filter": "match_any", "poll_groups_mask": "0x3",
        "admin_cmd_passthru": {"identify_ctrlr": true, "vendor_specific": false, "nvme_mi": false},
    });
    ok(&mut machine, set, chosen.clone());
    let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    assert_eq!(saved, json!([{"method": set, "params": chosen}]));
    for (passthru, code) in [
        (json!({"identify": true}), -32602),
        (json!({"identify_ctrlr": 1}), -32602),
        (json!({"nvme_mi": true}), -95),
    ] {
        assert_eq!(machine.code(set, json!({"admin_cmd_passthru": passthru})), code);
    }
    assert_eq!(machine.code(set, json!({"admin_passthru": {}})), -32602);
    ok(&mut machine, set, json!({"acceptor_poll_rate": 10_000}));
}

#[test]
fn there_are_as_many_subsystems_as_was_said_before_the_start_and_discovery_is_one() {
    let mut machine = Machine::in_state(1, State::Startup);
    Target::start(&machine.boot(), TransportConfig::default());
    let set = "nvmf_set_max_subsystems";
    for params in [json!({}), json!({"max_subsystems": 0}), json!({"max_subsystems": -1})] {
        assert_eq!(machine.code(set, params), -32602);
    }
    let three = json!({"max_subsystems": 3});
    ok(&mut machine, set, three.clone());
    let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    assert_eq!(saved, json!([{"method": set, "params": three.clone()}]));
    machine.call("framework_start_init", None).unwrap();
    assert_eq!(machine.code(set, three), -1);
    let nqn = |n: u32| json!({"nqn": alloc::format!("nqn.2026-11.org.example:{n}")});
    ok(&mut machine, "nvmf_create_subsystem", nqn(1));
    ok(&mut machine, "nvmf_create_subsystem", nqn(2));
    let error = machine.call("nvmf_create_subsystem", nqn(3)).unwrap_err();
    assert_eq!(error.code, -32603);
    let start = "Unable to create subsystem nqn.2026-11.org.example:3: ";
    assert!(error.message.starts_with(start), "{}", error.message);
    assert_eq!(machine.code("nvmf_create_subsystem", nqn(1)), -17);
    ok(&mut machine, "nvmf_delete_subsystem", nqn(1));
    ok(&mut machine, "nvmf_create_subsystem", nqn(3));
}

#[test]
fn retry_delays_are_set_before_the_start_and_saved() {
    let mut machine = Machine::in_state(1, State::Startup);
    Target::start(&machine.boot(), TransportConfig::default());
    let set = "nvmf_set_crdt";
    for wrong in [json!({"crdt1": 65_536}), json!({"crdt2": "1"}), json!({"crdt4": 1})] {
        assert_eq!(machine.code(set, wrong), -32602);
    }
    ok(&mut machine, set, json!({}));
    let delays = json!({"crdt1": 5, "crdt3": 65_535});
    ok(&mut machine, set, delays.clone());
    let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    assert_eq!(saved, json!([{"method": set, "params": delays.clone()}]));
    machine.call("framework_start_init", None).unwrap();
    assert_eq!(machine.code(set, delays), -1);
}

#[test]
fn subsystems_are_shown_as_spdk_shows_them_the_discovery_subsystem_first() {
    let (mut machine, _) = with_subsystem();
    null(&mut machine, "N");
    assert_eq!(machine.call("nvmf_subsystem_add_ns", ns(NQN, "N")).unwrap(), 1);
    ok(&mut machine, "nvmf_subsystem_add_listener", listener(NQN, "0.0.0.0", "4420"));
    ok(&mut machine, "nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}));
    let all = machine.call("nvmf_get_subsystems", None).unwrap();
    let expected = json!([
        {
            "nqn": DISCOVERY_NQN,
            "subtype": "Discovery",
            "listen_addresses": [],
            "allow_any_host": true,
            "hosts": [],
        },
        {
            "nqn": NQN,
            "subtype": "NVMe",
            "listen_addresses": [
                {"trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": "4420"},
            ],
            "allow_any_host": false,
            "hosts": [{"nqn": HOST}],
            "serial_number": "BASALT00000000000001",
            "model_number": "Basalt bdev Controller",
            "max_namespaces": 1024,
            "min_cntlid": 1,
            "max_cntlid": 65519,
            "namespaces": [{
                "nsid": 1,
                "bdev_name": "N",
                "name": "N",
                "nguid": "0123456789AB4CDE8F0123456789ABCD",
                "uuid": UUID,
            }],
        },
    ]);
    assert_eq!(all, expected);
    assert_eq!(shown(&mut machine, DISCOVERY_NQN), expected[0]);
    assert_eq!(machine.code("nvmf_get_subsystems", json!({"nqn": LONGER_NQN})), -19);
}

#[test]
fn a_subsystem_is_made_as_asked_and_only_once() {
    let (mut machine, _) = serving();
    let params = json!({
        "nqn": NQN, "serial_number": "S1", "model_number": "M1", "max_namespaces": 2,
        "allow_any_host": true, "min_cntlid": 5, "max_cntlid": 9, "ana_reporting": false,
        "passthrough": false, "enable_nssr": true,
    });
    ok(&mut machine, "nvmf_create_subsystem", params.clone());
    let subsystem = shown(&mut machine, NQN);
    let expected = json!(["S1", "M1", 2, true, 5, 9]);
    let names = ["serial_number", "model_number", "max_namespaces", "allow_any_host"];
    let names = names.into_iter().chain(["min_cntlid", "max_cntlid"]);
    assert_eq!(names.map(|name| subsystem[name].clone()).collect::<Value>(), expected);
    assert_eq!(machine.code("nvmf_create_subsystem", params), -17);
    let table = [
        (json!({"nqn": "storage"}), -32602),
        (json!({"nqn": DISCOVERY_NQN}), -32602),
        (json!({"nqn": LONGER_NQN, "serial_number": "more than twenty letters"}), -32602),
        (json!({"nqn": LONGER_NQN, "max_namespaces": 5000}), -32602),
        (json!({"nqn": LONGER_NQN, "min_cntlid": 9, "max_cntlid": 5}), -32602),
        (json!({"nqn": LONGER_NQN, "passthrough": true}), -95),
        (json!({}), -32602),
    ];
    for (params, code) in table {
        assert_eq!(machine.code("nvmf_create_subsystem", params.clone()), code, "{params}");
    }
}

#[test]
fn namespaces_come_and_go() {
    let (mut machine, _) = with_subsystem();
    null(&mut machine, "N");
    let add = "nvmf_subsystem_add_ns";
    let mut params = ns(NQN, "N");
    params["namespace"]["nsid"] = json!(7);
    params["namespace"]["nguid"] = json!("000102030405060708090a0b0c0d0e0f");
    params["namespace"]["no_auto_visible"] = json!(false);
    assert_eq!(machine.call(add, params.clone()).unwrap(), 7);
    assert_eq!(machine.code(add, params.clone()), -32602, "the identifier is in use");
    let namespace = shown(&mut machine, NQN)["namespaces"][0].clone();
    assert_eq!(namespace["nguid"], "000102030405060708090A0B0C0D0E0F");
    params["namespace"]["nguid"] = json!("00");
    assert_eq!(machine.code(add, params), -32602);
    assert_eq!(machine.code(add, ns(NQN, "none")), -19);
    assert_eq!(machine.code(add, ns(LONGER_NQN, "N")), -19);
    let remove = json!({"nqn": NQN, "nsid": 7});
    ok(&mut machine, "nvmf_subsystem_remove_ns", remove.clone());
    assert_eq!(machine.code("nvmf_subsystem_remove_ns", remove), -2);
}

#[test]
fn a_namespace_ends_with_its_bdev_and_is_saved_no_longer() {
    let (mut machine, _) = with_subsystem();
    null(&mut machine, "N");
    machine.call("nvmf_subsystem_add_ns", ns(NQN, "N")).unwrap();
    machine.call("bdev_null_delete", json!({"name": "N"})).unwrap();
    assert_eq!(shown(&mut machine, NQN)["namespaces"], json!([]));
    let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    assert_eq!(saved.as_array().unwrap().len(), 2, "{saved}");
}

#[test]
fn every_core_listens_where_a_listener_was_added_until_the_last_is_removed() {
    let (mut machine, stacks) = with_subsystem();
    let (add, remove) = ("nvmf_subsystem_add_listener", "nvmf_subsystem_remove_listener");
    ok(&mut machine, add, listener(NQN, "0.0.0.0", "4420"));
    ok(&mut machine, add, listener(NQN, "10.0.0.1", "4420"));
    ok(&mut machine, add, listener(NQN, "10.0.0.1", "4420"));
    ok(&mut machine, add, listener(DISCOVERY_NQN, "0.0.0.0", "8009"));
    assert!(stacks.iter().all(|stack| stack.borrow().ports == [4420, 8009]));
    let listed = machine.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN})).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1]["address"]["traddr"], "10.0.0.1");
    ok(&mut machine, remove, listener(NQN, "0.0.0.0", "4420"));
    assert_eq!(machine.code(remove, listener(NQN, "0.0.0.0", "4420")), -2);
    assert!(stacks[1].borrow().ports.contains(&4420));
    ok(&mut machine, remove, listener(NQN, "10.0.0.1", "4420"));
    (0..50).for_each(|_| machine.round());
    assert!(stacks.iter().all(|stack| stack.borrow().ports == [8009]));
}

#[test]
fn a_listener_that_cannot_be_is_refused() {
    let (mut machine, _) = serving();
    machine.call("nvmf_create_subsystem", json!({"nqn": NQN})).unwrap();
    let add = "nvmf_subsystem_add_listener";
    assert_eq!(machine.code(add, listener(NQN, "0.0.0.0", "4420")), -22, "no transport yet");
    machine.call("nvmf_create_transport", json!({"trtype": "TCP"})).unwrap();
    let interface = InterfaceState {
        name: "net0".into(),
        mac: [0; 6],
        addresses: basalt_net::Address { cidr: "10.0.0.1/24".parse().unwrap(), gateway: None }
            .into(),
        link_local: None,
        dhcp: false,
        mtu: 1500,
        link_up: Some(true),
    };
    let control = NetControl::new(|_| Ok(()), move || [interface.clone()].into());
    machine.boot().provide(Rc::new(control));
    let mut rdma = listener(NQN, "0.0.0.0", "4420");
    rdma["listen_address"]["trtype"] = json!("rdma");
    let mut secure = listener(NQN, "0.0.0.0", "4420");
    secure["secure_channel"] = json!(true);
    let table = [
        (rdma, -32602),
        (secure, -95),
        (listener(LONGER_NQN, "0.0.0.0", "4420"), -19),
        (listener(NQN, "10.0.0.2", "4420"), -99),
        (listener(NQN, "::1", "4420"), -32602),
        (listener(NQN, "0.0.0.0", "0"), -32602),
        (listener(NQN, "0.0.0.0", "70000"), -32602),
    ];
    for (params, code) in table {
        assert_eq!(machine.code(add, params.clone()), code, "{params}");
    }
    ok(&mut machine, add, listener(NQN, "10.0.0.1", "4420"));
}

#[test]
fn listeners_may_be_at_ipv6_addresses_and_are_shown_so() {
    let (mut machine, _) = with_subsystem();
    let cidr = "fd00::1/64".parse().unwrap();
    let mut addresses = basalt_net::Addresses::default();
    addresses.add_v6(cidr).unwrap();
    let interface = InterfaceState {
        name: "net0".into(),
        mac: [0; 6],
        addresses,
        link_local: None,
        dhcp: false,
        mtu: 1500,
        link_up: Some(true),
    };
    machine
        .boot()
        .provide(Rc::new(NetControl::new(|_| Ok(()), move || [interface.clone()].into())));
    let add = "nvmf_subsystem_add_listener";
    let at = |traddr: &str| {
        let mut listener = listener(NQN, traddr, "4420");
        listener["listen_address"]["adrfam"] = json!("IPv6");
        listener
    };
    assert_eq!(machine.code(add, at("fd00::2")), -99, "nobody has it");
    assert_eq!(machine.code(add, at("10.0.0.1")), -32602, "of another family");
    ok(&mut machine, add, at("fd00:0:0::1"));
    ok(&mut machine, add, at("::"));
    let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    let listeners: Vec<_> = saved
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["method"] == add)
        .map(|call| call["params"]["listen_address"]["adrfam"].clone())
        .collect();
    assert_eq!(listeners, ["IPv6", "IPv6"]);
    assert_eq!(shown(&mut machine, NQN)["listen_addresses"][0]["traddr"], "fd00::1");
}

#[test]
fn hosts_are_admitted_and_turned_away() {
    let (mut machine, _) = with_subsystem();
    let host = json!({"nqn": NQN, "host": HOST});
    ok(&mut machine, "nvmf_subsystem_add_host", host.clone());
    assert_eq!(machine.code("nvmf_subsystem_add_host", host.clone()), -17);
    assert_eq!(machine.code("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": "x"})), -32602);
    let authenticated = json!({"nqn": NQN, "host": "nqn.2026-11.a:b", "dhchap_key": "k"});
    assert_eq!(machine.code("nvmf_subsystem_add_host", authenticated), -95);
    ok(&mut machine, "nvmf_subsystem_remove_host", host.clone());
    assert_eq!(machine.code("nvmf_subsystem_remove_host", host), -2);
    let any = json!({"nqn": NQN, "allow_any_host": true});
    ok(&mut machine, "nvmf_subsystem_allow_any_host", any);
    let subsystem = shown(&mut machine, NQN);
    assert_eq!((&subsystem["allow_any_host"], &subsystem["hosts"]), (&json!(true), &json!([])));
}

#[test]
fn statistics_are_those_of_the_cores_poll_groups() {
    let (mut machine, _) = with_subsystem();
    let stats = machine.call("nvmf_get_stats", None).unwrap();
    assert_eq!(stats["tick_rate"], 1_000_000_000);
    let expected = json!({
        "name": "nvmf_tgt_poll_group_001",
        "admin_qpairs": 0,
        "io_qpairs": 0,
        "current_admin_qpairs": 0,
        "current_io_qpairs": 0,
        "current_unassociated_qpairs": 0,
        "pending_bdev_io": 0,
        "completed_nvme_io": 0,
        "transports": [{"trtype": "TCP", "pending_data_buffer": 0}],
    });
    assert_eq!(stats["poll_groups"][1], expected);
    for method in ["nvmf_subsystem_get_controllers", "nvmf_subsystem_get_qpairs"] {
        assert_eq!(machine.call(method, json!({"nqn": NQN})).unwrap(), json!([]));
        assert_eq!(machine.code(method, json!({"nqn": LONGER_NQN})), -19);
    }
}

#[test]
fn a_deleted_subsystem_takes_its_saved_calls_along_and_no_others() {
    let (mut machine, _) = with_subsystem();
    ok(&mut machine, "nvmf_create_subsystem", json!({"nqn": LONGER_NQN}));
    ok(&mut machine, "nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}));
    ok(&mut machine, "nvmf_subsystem_add_host", json!({"nqn": LONGER_NQN, "host": HOST}));
    ok(&mut machine, "nvmf_delete_subsystem", json!({"nqn": NQN}));
    assert_eq!(machine.code("nvmf_delete_subsystem", json!({"nqn": NQN})), -19);
    assert_eq!(machine.code("nvmf_delete_subsystem", json!({"nqn": DISCOVERY_NQN})), -32602);
    let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    let saved = saved.as_array().unwrap();
    let nqns: Vec<String> = saved.iter().map(|call| call["params"]["nqn"].to_string()).collect();
    let longer = json!(LONGER_NQN).to_string();
    assert_eq!(nqns, ["null", longer.as_str(), longer.as_str()]);
}

#[test]
fn what_is_saved_rebuilds_the_target_with_the_identifiers_that_were_chosen() {
    let (mut machine, _) = with_subsystem();
    null(&mut machine, "N");
    let malloc = json!({"num_blocks": 8, "block_size": 512});
    machine.call("bdev_malloc_create", malloc).unwrap();
    machine.call("nvmf_subsystem_add_ns", ns(NQN, "N")).unwrap();
    assert_eq!(machine.call("nvmf_subsystem_add_ns", ns(NQN, "Malloc0")).unwrap(), 2);
    ok(&mut machine, "nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 1}));
    ok(&mut machine, "nvmf_subsystem_add_listener", listener(NQN, "0.0.0.0", "4420"));
    ok(&mut machine, "nvmf_subsystem_add_listener", listener(DISCOVERY_NQN, "0.0.0.0", "8009"));
    ok(&mut machine, "nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}));
    let any = json!({"nqn": NQN, "allow_any_host": true});
    ok(&mut machine, "nvmf_subsystem_allow_any_host", any);
    let saved = save(&mut machine);

    let (mut again, _) = serving();
    apply(&mut again, &saved).unwrap();
    assert_eq!(save(&mut again), saved);
    let subsystems = |machine: &mut Machine| machine.call("nvmf_get_subsystems", None).unwrap();
    assert_eq!(subsystems(&mut again), subsystems(&mut machine));
    assert_eq!(shown(&mut again, NQN)["namespaces"][0]["nsid"], 2);
}
