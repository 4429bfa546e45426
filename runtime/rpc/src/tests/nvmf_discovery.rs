use basalt_nvmf::DISCOVERY_NQN;
use serde_json::{Value, json};

use super::config::{apply, save};
use super::nvmf::{NQN, ok, serving};

const ADD: &str = "nvmf_discovery_add_referral";
const REMOVE: &str = "nvmf_discovery_remove_referral";

fn referral(traddr: &str, subnqn: Option<&str>) -> Value {
    let address = json!({"trtype": "tcp", "adrfam": "ipv4", "traddr": traddr, "trsvcid": "8009"});
    let mut params = json!({"address": address});
    if let Some(subnqn) = subnqn {
        params["subnqn"] = subnqn.into();
    }
    params
}

#[test]
fn referrals_come_and_go_and_are_shown_as_spdk_shows_them() {
    let (mut machine, _) = serving();
    ok(&mut machine, ADD, referral("192.0.2.1", None));
    let mut secure = referral("192.0.2.2", Some(NQN));
    secure["secure_channel"] = true.into();
    ok(&mut machine, ADD, secure.clone());
    let shown = machine.call("nvmf_discovery_get_referrals", None).unwrap();
    let at =
        |traddr| json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": traddr, "trsvcid": "8009"});
    let expected = json!([
        {"address": at("192.0.2.1"), "secure_channel": false, "subnqn": DISCOVERY_NQN},
        {"address": at("192.0.2.2"), "secure_channel": true, "subnqn": NQN},
    ]);
    assert_eq!(shown, expected);
    let mut nowhere = referral("192.0.2.3", None);
    nowhere["address"].as_object_mut().unwrap().remove("trsvcid");
    let table = [
        (ADD, secure, -17),
        (ADD, nowhere, -32602),
        (ADD, referral("moon", None), -32602),
        (ADD, referral("192.0.2.3", Some(&"n".repeat(224))), -32602),
        (REMOVE, referral("192.0.2.1", Some(NQN)), -2),
    ];
    for (method, params, code) in table {
        assert_eq!(machine.code(method, params.clone()), code, "{params}");
    }
    ok(&mut machine, REMOVE, referral("192.0.2.1", Some(DISCOVERY_NQN)));
    let saved = save(&mut machine);
    let (mut again, _) = serving();
    apply(&mut again, &saved).unwrap();
    assert_eq!(save(&mut again), saved);
    let shown = again.call("nvmf_discovery_get_referrals", json!({})).unwrap();
    assert_eq!(shown, json!([expected[1]]));
}

fn target(params: Value) -> Value {
    let call = json!({"method": "nvmf_set_config", "params": params});
    json!({"subsystems": [{"subsystem": "nvmf", "config": [call]}]})
}

#[test]
fn what_holds_for_the_whole_target_is_set_at_the_start_and_saved() {
    let (mut machine, _) = serving();
    assert_eq!(machine.code("nvmf_set_config", json!({"discovery_filter": "match_any"})), -1);
    for params in [
        json!({"discovery_filter": "match_any"}),
        json!({"discovery_filter": "transport,address,svcid", "poll_groups_mask": "0x3"}),
        json!({"discovery_filters": ["address"], "dup_host_policy": "restrict_per_listener"}),
        json!({"dup_host_policy": "allow", "discovery_filters": []}),
    ] {
        apply(&mut machine, &target(params.clone())).unwrap();
        let saved = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
        assert_eq!(saved, json!([{"method": "nvmf_set_config", "params": params}]));
    }
    for params in [
        json!({"discovery_filter": "match_any,address"}),
        json!({"discovery_filter": "colour"}),
        json!({"dup_host_policy": "deny"}),
    ] {
        assert!(apply(&mut machine, &target(params.clone())).is_err(), "{params}");
    }
}
