use serde_json::{Value, json};

use super::Machine;
use super::config::{apply, save};
use super::nvmf::{HOST, LONGER_NQN, NQN, ns, null, ok, serving, shown, with_subsystem};

const OTHER: &str = "nqn.2014-08.org.nvmexpress:other";

/// A machine with a namespace for no host yet.
fn hiding() -> Machine {
    let (mut machine, _) = with_subsystem();
    null(&mut machine, "N");
    let mut params = ns(NQN, "N");
    params["namespace"]["no_auto_visible"] = true.into();
    assert_eq!(machine.call("nvmf_subsystem_add_ns", params).unwrap(), 1);
    machine
}

fn host(nsid: u32, host: &str) -> Value {
    json!({"nqn": NQN, "nsid": nsid, "host": host})
}

#[test]
fn hosts_of_a_namespace_come_and_go() {
    let mut machine = hiding();
    let namespace = |machine: &mut Machine| shown(machine, NQN)["namespaces"][0].clone();
    let fresh = namespace(&mut machine);
    assert_eq!((&fresh["no_auto_visible"], &fresh["hosts"]), (&json!(true), &json!([])));
    for name in [HOST, OTHER, HOST] {
        ok(&mut machine, "nvmf_ns_add_host", host(1, name));
    }
    assert_eq!(namespace(&mut machine)["hosts"], json!([{"nqn": HOST}, {"nqn": OTHER}]));
    for _ in 0..2 {
        ok(&mut machine, "nvmf_ns_remove_host", host(1, HOST));
    }
    assert_eq!(namespace(&mut machine)["hosts"], json!([{"nqn": OTHER}]));
}

#[test]
fn a_namespace_all_hosts_see_has_no_list_of_them() {
    let (mut machine, _) = with_subsystem();
    null(&mut machine, "N");
    machine.call("nvmf_subsystem_add_ns", ns(NQN, "N")).unwrap();
    assert!(shown(&mut machine, NQN)["namespaces"][0].get("hosts").is_none());
    let mut elsewhere = host(1, HOST);
    elsewhere["nqn"] = LONGER_NQN.into();
    let table = [
        (host(1, HOST), -32602),
        (host(2, HOST), -2),
        (host(1, "storage"), -32602),
        (elsewhere, -19),
        (json!({"nqn": NQN, "nsid": 1}), -32602),
    ];
    for (params, code) in table {
        for method in ["nvmf_ns_add_host", "nvmf_ns_remove_host"] {
            assert_eq!(machine.code(method, params.clone()), code, "{params}");
        }
    }
}

#[test]
fn what_is_saved_brings_the_hosts_of_namespaces_back() {
    let mut machine = hiding();
    for name in [HOST, OTHER] {
        ok(&mut machine, "nvmf_ns_add_host", host(1, name));
    }
    ok(&mut machine, "nvmf_ns_remove_host", host(1, HOST));
    let saved = save(&mut machine);
    let (mut again, _) = serving();
    apply(&mut again, &saved).unwrap();
    assert_eq!(save(&mut again), saved);
    assert_eq!(shown(&mut again, NQN), shown(&mut machine, NQN));
    machine.call("bdev_null_delete", json!({"name": "N"})).unwrap();
    let calls = machine.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    assert_eq!(calls.as_array().unwrap().len(), 2, "they went with the bdev: {calls}");
}
