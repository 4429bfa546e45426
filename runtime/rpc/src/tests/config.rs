use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;

use basalt_net::Address;
use serde_json::{Value, json};

use super::Machine;
use crate::{Config, ConfigError, InterfaceSetting};

fn parse(config: &Value) -> Config {
    Config::parse(&serde_json::to_vec(config).unwrap())
}

fn bdev(config: Value) -> Value {
    json!({"subsystems": [{"subsystem": "bdev", "config": config}]})
}

pub(super) fn apply(machine: &mut Machine, config: &Value) -> Result<(), ConfigError> {
    let (rpc, config) = (Rc::clone(&machine.rpc), parse(config));
    machine.run(async move { config.apply(&rpc).await })
}

/// What the client's `save_config` would write.
pub(crate) fn save(machine: &mut Machine) -> Value {
    let listed = machine.call("framework_get_subsystems", None).unwrap();
    let subsystems: Vec<Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let name = &entry["subsystem"];
            let config = machine.call("framework_get_config", json!({"name": name})).unwrap();
            json!({"subsystem": name, "config": config})
        })
        .collect();
    json!({"subsystems": subsystems})
}

fn malloc(name: &str) -> Value {
    let params = json!({"name": name, "num_blocks": 8, "block_size": 512});
    json!({"method": "bdev_malloc_create", "params": params})
}

#[test]
fn calls_are_made_in_order_batches_and_startup_options_included() {
    let mut machine = Machine::new();
    let config = json!({
        "comment": "other root keys are ignored",
        "subsystems": [
            {"subsystem": "keyring", "config": null},
            {"subsystem": "vmd"},
            {"subsystem": "iobuf", "config": [
                {"method": "iobuf_set_options", "params": {"small_pool_count": 8192}},
            ]},
            {"subsystem": "bdev", "config": [
                malloc("A"),
                [malloc("B"), {"method": "bdev_malloc_delete", "params": {"name": "A"}}],
                {"method": "bdev_wait_for_examine"},
            ]},
        ],
    });
    apply(&mut machine, &config).unwrap();
    let bdevs = machine.call("bdev_get_bdevs", None).unwrap();
    assert_eq!(bdevs.as_array().unwrap().len(), 1);
    assert_eq!(bdevs[0]["name"], "B");
}

#[test]
fn what_is_saved_rebuilds_the_same_machine() {
    let mut machine = Machine::new();
    let config = json!({"subsystems": [
        {"subsystem": "sock", "config": [
            {"method": "sock_impl_set_options", "params": {"impl_name": "posix", "x": 1}},
            {"method": "sock_impl_set_options", "params": {"impl_name": "uring", "x": 2}},
            {"method": "sock_impl_set_options", "params": {"impl_name": "posix", "x": 3}},
        ]},
        {"subsystem": "bdev", "config": [malloc("A"), malloc("B")]},
    ]});
    apply(&mut machine, &config).unwrap();
    machine.call("bdev_malloc_create", json!({"num_blocks": 8, "block_size": 512})).unwrap();
    machine.call("bdev_malloc_delete", json!({"name": "A"})).unwrap();
    let saved = save(&mut machine);

    let mut again = Machine::new();
    apply(&mut again, &saved).unwrap();
    assert_eq!(save(&mut again), saved);
    let bdevs = |machine: &mut Machine| machine.call("bdev_get_bdevs", None).unwrap();
    assert_eq!(bdevs(&mut again), bdevs(&mut machine));
    let config = machine.call("framework_get_config", json!({"name": "sock"})).unwrap();
    assert_eq!(config.as_array().unwrap().len(), 2);
    assert_eq!(config[0]["params"]["x"], 3);
}

#[test]
fn a_refused_call_is_named_with_its_place_and_stops_the_rest() {
    let mut machine = Machine::new();
    let config = bdev(json!([malloc("A"), malloc("A"), malloc("C")]));
    let error = apply(&mut machine, &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration, subsystem \"bdev\", entry 1, bdev_malloc_create: \
         a bdev of that name exists already (-17)"
    );
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap().as_array().unwrap().len(), 1);
}

#[test]
fn an_empty_file_is_an_empty_configuration_and_padding_is_ignored() {
    assert!(Config::parse(b"").is_empty());
    assert!(Config::parse(b" \n\0\0\0").is_empty());
    assert!(Config::parse(b"{}\n\0\0").is_empty());
    assert!(parse(&json!({"subsystems": null})).is_empty());
}

#[test]
fn interfaces_are_known_before_anything_is_applied() {
    let net = |params: Value| {
        json!({"subsystems": [{"subsystem": "net", "config": [
            {"method": "net_set_interface", "params": params},
        ]}]})
    };
    let good = json!({"name": "net1", "address": "10.0.0.1/24", "gateway": "10.0.0.254"});
    let expected = InterfaceSetting {
        index: 1,
        addresses: Some(
            Address { cidr: "10.0.0.1/24".parse().unwrap(), gateway: Some([10, 0, 0, 254].into()) }
                .into(),
        ),
        mtu: None,
    };
    assert_eq!(parse(&net(good)).interfaces(), [expected]);
    let both = json!({
        "name": "net0", "address": "fd00::1/64", "addresses": ["10.0.0.1/24", "fd01::1/48"],
        "gateways": ["10.0.0.254", "fe80::1"],
    });
    let setting = parse(&net(both)).interfaces()[0];
    let addresses = setting.addresses.unwrap();
    let v6: Vec<_> = addresses.v6().map(|cidr| cidr.to_string()).collect();
    assert_eq!(v6, ["fd00::1/64", "fd01::1/48"]);
    assert_eq!(addresses.v4.unwrap().gateway, Some([10, 0, 0, 254].into()));
    assert_eq!(addresses.gateway_v6, Some("fe80::1".parse().unwrap()));
    let bad = [
        json!({"name": "net0"}),
        json!({"name": "net0", "addresses": []}),
        json!({"name": "net0", "addresses": ["10.0.0.1/24", "10.0.0.2/24"]}),
        json!({"name": "net0", "address": "fe80::1/64"}),
        json!({"name": "net0", "address": "fd00::1/64", "gateway": "10.0.0.254"}),
        json!({"name": "net0", "address": "fd00::1/64", "gateways": ["fe80::1", "fe80::2"]}),
        json!({"name": "net0", "addresses": [
            "fd00::1/64", "fd00::2/64", "fd00::3/64", "fd00::4/64", "fd00::5/64",
        ]}),
        json!({"name": "eth0", "address": "10.0.0.1/24"}),
        json!({"name": "net0", "address": "10.0.0.1"}),
        json!({"name": "net0", "address": "10.0.0.1/33"}),
        json!({"name": "net0", "address": "0.0.0.0/0"}),
        json!({"name": "net0", "address": "10.0.0.1/24", "gateway": "moon"}),
        json!({"name": "net0", "address": "10.0.0.1/24", "mut": 9000}),
        json!({"name": "net0", "address": "10.0.0.1/24", "mtu": 67}),
        json!({"name": "net0", "address": "10.0.0.1/24", "mtu": 65536}),
        json!({"name": "net0", "address": "10.0.0.1/24", "mtu": "9000"}),
        json!({"name": "net0", "address": "fd00::1/64", "mtu": 1279}),
        json!({"name": "net0", "gateway": "10.0.0.254", "mtu": 1500}),
        json!({"name": "net0", "mtu": 575}),
    ];
    for params in bad {
        let config = parse(&net(params.clone()));
        assert_eq!(config.interfaces(), [], "{params}");
        let complaints = config.check(&Machine::new().rpc);
        assert_eq!(complaints.len(), 1, "{params}: {complaints:?}");
        assert!(complaints[0].path.starts_with("subsystems[0].config[0].params"), "{complaints:?}");
    }
}

#[test]
fn an_mtu_is_set_with_addresses_and_without() {
    let setting = |params: Value| {
        let call = json!({"method": "net_set_interface", "params": params});
        let file = json!({"subsystems": [{"subsystem": "net", "config": [call]}]});
        parse(&file).interfaces()[0]
    };
    for (address, mtu) in [("10.0.0.1/24", 68), ("10.0.0.1/24", 65535), ("fd00::1/64", 1280)] {
        let both = setting(json!({"name": "net0", "address": address, "mtu": mtu}));
        assert_eq!((both.mtu, both.addresses.is_some()), (Some(mtu), true));
    }
    let alone = setting(json!({"name": "net0", "mtu": 576}));
    assert_eq!((alone.mtu, alone.addresses), (Some(576), None));
}

#[test]
fn a_bdev_that_was_removed_is_not_saved() {
    let mut machine = Machine::new();
    apply(&mut machine, &bdev(json!([malloc("A"), malloc("B")]))).unwrap();
    let registry = machine.boot().service::<basalt_bdev::Registry>().unwrap();
    registry.remove("A").unwrap();
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    assert_eq!(saved.as_array().unwrap().len(), 2);
    assert_eq!(saved[0]["params"]["name"], "B");
}
