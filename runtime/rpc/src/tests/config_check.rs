//! A configuration is checked as a whole before anything is done.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::Machine;
use crate::{Config, ConfigError, RpcError};

fn complaints(text: &str) -> Vec<String> {
    let complaints = Config::parse(text.as_bytes()).check(&Machine::new().rpc);
    complaints.iter().map(ToString::to_string).collect()
}

/// What is wrong with one call, without the place that all have in common.
fn wrong_with(method: &str, params: &Value) -> Vec<String> {
    let call = json!({"method": method, "params": params});
    let file = json!({"subsystems": [{"subsystem": "bdev", "config": [call]}]});
    let said = complaints(&file.to_string()).into_iter();
    let place = ": subsystems[0].config[0].params";
    said.map(|text| text.split_once(place).expect("its place is told").1.to_string()).collect()
}

#[test]
fn every_error_is_told_with_its_place_and_what_was_meant() {
    let text = r#"{
  "subsystems": [
    { "subsystem": "ntwork", "config": null },
    {
      "subsystem": "bdev",
      "config": [
        { "method": "bdev_malloc_create",
          "params": { "name": "A", "num_block": 8,
                      "block_size": "512" } },
        [ { "method": "bdev_maloc_create" }, 7 ],
        { "method": "bdev_levitate", "parms": {} }
      ]
    },
    { "config": [] }, { "subsystem": "nvmf", "config": {} }
  ]
}"#;
    assert_eq!(
        complaints(text),
        [
            "3:7: subsystems[0].subsystem: unknown subsystem",
            "8:36: subsystems[1].config[0].params.num_block: unknown parameter \
             (did you mean \"num_blocks\"?)",
            "9:23: subsystems[1].config[0].params.block_size: invalid type: string \"512\", \
             expected u32",
            "10:13: subsystems[1].config[1][0].method: unknown method \
             (did you mean \"bdev_malloc_create\"?)",
            "10:46: subsystems[1].config[1][1]: this is not a call",
            "11:11: subsystems[1].config[2].method: unknown method",
            "11:38: subsystems[1].config[2].parms: unknown key (did you mean \"params\"?)",
            "14:5: subsystems[2]: \"subsystem\" is missing, the name",
            "14:46: subsystems[3].config: this is not an array",
        ]
    );
}

#[test]
fn nothing_is_done_if_anything_is_wrong() {
    let mut machine = Machine::new();
    let malloc = |params: Value| json!({"method": "bdev_malloc_create", "params": params});
    let right = malloc(json!({"name": "A", "num_blocks": 8, "block_size": 512}));
    let kept = json!({"method": "accel_set_options", "params": {"small_cache_size": 1}});
    let wrong = malloc(json!({"name": "B", "num_blocks": 8}));
    let file = json!({"subsystems": [{"subsystem": "bdev", "config": [right, kept, wrong]}]});
    let (rpc, config) = (Rc::clone(&machine.rpc), Config::parse(file.to_string().as_bytes()));
    let error = machine.run(async move { config.apply(&rpc).await }).unwrap_err();
    let ConfigError::Wrong(complaints) = &error else { panic!("{error}") };
    assert_eq!(complaints.len(), 1);
    let words = "subsystems[0].config[2].params.block_size: the parameter is missing";
    assert!(error.to_string().starts_with("configuration:1:"), "{error}");
    assert!(error.to_string().ends_with(words), "{error}");
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap(), json!([]));
    assert_eq!(machine.rpc.saved("accel"), [Value::Null; 0]);
}

#[test]
fn what_is_no_json_or_of_another_shape_is_told() {
    for (text, said) in [
        ("{\n  \"subsystems\": ]\n}", "2:17: expected value"),
        ("[]", "1:1: the root is not an object"),
        (r#"{"subsystem": []}"#, "1:2: subsystem: unknown key (did you mean \"subsystems\"?)"),
        (r#"{"subsystems": 1}"#, "1:2: subsystems: this is not an array"),
        (r#"{"subsystems": [1]}"#, "1:17: subsystems[0]: this is not an object"),
        (
            r#"{"subsystems": [{"subsystem": 1}]}"#,
            "1:18: subsystems[0].subsystem: this is not a name",
        ),
    ] {
        assert_eq!(complaints(text), [said], "{text}");
    }
    let said = |entry: Value| {
        let file = json!({"subsystems": [{"subsystem": "bdev", "config": [entry]}]}).to_string();
        complaints(&file).concat()
    };
    assert!(said(json!(1)).ends_with("config[0]: this is neither a call nor an array of calls"));
    assert!(said(json!({"params": {}})).ends_with("config[0]: \"method\" is missing"));
    assert!(said(json!({"method": []})).ends_with("config[0].method: this is not a name"));
    let call = json!({"method": "bdev_get_bdevs", "params": [1]});
    assert!(said(call).ends_with("params: parameters are given by name, not by position"));
}

#[test]
fn all_that_is_wrong_with_the_parameters_of_a_call_is_told() {
    let wrong =
        wrong_with("bdev_malloc_create", &json!({"num_blocks": -1, "bock_size": 512, "x": 1}));
    assert_eq!(
        wrong,
        [
            ".bock_size: unknown parameter (did you mean \"block_size\"?)",
            ".num_blocks: invalid value: integer `-1`, expected u64",
            ".x: unknown parameter",
        ]
    );
    let wrong = wrong_with("nvmf_subsystem_add_ns", &json!({"nqn": 1, "namespace": {"nsid": "a"}}));
    assert_eq!(
        wrong,
        [
            ".namespace.bdev_name: the parameter is missing",
            ".namespace.nsid: invalid type: string \"a\", expected u32",
            ".nqn: invalid type: integer `1`, expected a string",
        ]
    );
    let wrong = wrong_with("nvmf_subsystem_add_ns", &json!({}));
    assert_eq!(wrong, [".nqn: the parameter is missing", ".namespace: the parameter is missing"]);
    let priorities = json!({"priorities": [{"core": 1, "priority": "low"}, {"cor": 1}]});
    let wrong = wrong_with("bdev_nvme_set_options", &priorities);
    let slip = ".priorities[1].cor: unknown parameter (did you mean \"core\"?)";
    assert_eq!(wrong, [".priorities[1].priority: the parameter is missing", slip]);
}

#[test]
fn what_a_method_finds_in_the_values_is_told() {
    let address = json!({"name": "net0", "address": "10.0.0.1"});
    let [wrong] = &wrong_with("net_set_interface", &address)[..] else { panic!("one error") };
    assert!(
        wrong.starts_with(".address: 'address': '10.0.0.1' is not an interface address"),
        "{wrong}"
    );
    let wrong = wrong_with("nvmf_create_transport", &json!({"trtype": "RDMA"}));
    assert_eq!(wrong, [": Transport type 'RDMA' unavailable; there is TCP"]);
    let wrong = wrong_with("bdev_wait_for_examine", &json!({}));
    assert_eq!(wrong, [": the method takes no parameters"]);
}

#[test]
fn who_may_come_in_is_checked_value_by_value() {
    let text = r#"{"subsystems": [
  {"subsystem": "rpc", "config": [
    {"method": "rpc_set_listener", "params": {
      "address": "here",
      "allow": ["10.0.0.0/8",
                "ten", "fd00::/129"], "port": 1}}]},
  {"subsystem": "web", "config": [
    {"method": "web_set_listener", "params": {
      "port": 0, "allow": []}},
    {"method": "web_set_listener", "params": {"port": 65536}}]}]}"#;
    let prefix = "is neither an address nor a prefix like 10.0.0.0/8";
    assert_eq!(
        complaints(text),
        [
            "4:7: subsystems[0].config[0].params.address: 'here' is not an IP address",
            &format!("6:17: subsystems[0].config[0].params.allow[1]: 'ten' {prefix}"),
            &format!("6:24: subsystems[0].config[0].params.allow[2]: 'fd00::/129' {prefix}"),
            "6:39: subsystems[0].config[0].params.port: unknown parameter",
            "9:7: subsystems[1].config[0].params.port: a port is from 1 to 65535",
            "9:18: subsystems[1].config[0].params.allow: it is empty: leave it out for everybody, \
             or set 'enabled' to false",
            "10:47: subsystems[1].config[1].params.port: invalid value: integer `65536`, expected \
             u16",
        ]
    );
}

#[test]
fn where_the_log_is_sent_is_checked_value_by_value() {
    let wrong = |params: Value| wrong_with("log_set_syslog", &params);
    assert_eq!(wrong(json!({"enabled": false})), [""; 0]);
    assert_eq!(wrong(json!({"address": "fd00::2", "facility": "local0", "port": 5514})), [""; 0]);
    let bad = json!({"address": "0.0.0.0", "port": 0, "facility": "loud", "hostname": "a b"});
    let wrong = wrong(bad);
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    for (name, reason) in [
        ("address", "'0.0.0.0' is not the IP address of a server"),
        ("port", "a port is from 1 to 65535"),
        ("facility", "'loud' is none of kern, user, "),
        ("hostname", "it has from 1 to 255 letters, "),
    ] {
        let expected = format!(".{name}: {reason}");
        assert!(wrong.iter().any(|said| said.starts_with(&expected)), "{wrong:?}");
    }
    let missing = wrong_with("log_set_syslog", &json!({"port": 1}));
    assert_eq!(missing, [".address: the parameter is missing"]);
    let slip = wrong_with("log_set_syslog", &json!({"adress": "10.0.0.1"}));
    assert_eq!(slip, [".adress: unknown parameter (did you mean \"address\"?)"]);
}

/// Methods that mean nothing here, and keep whatever they get; besides those named `…options`.
const KEPT: [&str; 6] = [
    "bdev_nvme_set_hotplug",
    "bdev_virtio_blk_set_hotplug",
    "framework_set_scheduler",
    "fsdev_set_opts",
    "sock_set_default_impl",
    "vmd_enable",
];

/// Every method that there is, with parameters of all kinds, some of which it knows.
#[test]
fn no_method_does_anything_before_it_has_read_its_parameters() {
    let mut machine = Machine::new();
    let methods: Vec<_> = machine.rpc.router().names(None).collect();
    let kinds = [None, Some(json!({})), Some(json!({"unheard_of": 1})), Some(json!({"name": "A"}))];
    for (method, params) in methods.iter().flat_map(|m| kinds.clone().map(|params| (*m, params))) {
        let report = machine.rpc.read_params(method, params.clone());
        let wrong = report.wrong;
        assert!(report.is_complete || !wrong.is_empty(), "{method} has done something");
        let own = RpcError::new(RpcError::INTERNAL, "this machine does not run ").message;
        assert!(wrong.iter().all(|wrong| !wrong.message.contains(&own)), "{method}: {wrong:?}");
        let takes_any =
            method.contains("options") || method.starts_with("nvmf_set_") || KEPT.contains(&method);
        let unheard_of = params.is_some_and(|params| params.get("unheard_of").is_some());
        let is_refused = !wrong.is_empty();
        assert!(is_refused || !unheard_of || takes_any, "{method} does not look at what it gets");
    }
    let saved = ["net", "scheduler", "iobuf", "sock", "accel", "bdev", "nvmf", "iscsi"];
    assert!(saved.iter().all(|subsystem| machine.rpc.saved(subsystem).is_empty()));
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap(), json!([]));
}
