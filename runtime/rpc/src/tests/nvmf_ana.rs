use alloc::vec::Vec;

use serde_json::{Value, json};

use super::Machine;
use super::config::{apply, save};
use super::nvmf::{LONGER_NQN, NQN, listener, ns, null, ok, serving, shown};

const SET: &str = "nvmf_subsystem_listener_set_ana_state";

/// A machine whose subsystem reports asymmetric access to four namespaces at most.
fn reporting() -> Machine {
    let (mut machine, _) = serving();
    ok(&mut machine, "nvmf_create_transport", json!({"trtype": "tcp"}));
    let subsystem = json!({"nqn": NQN, "ana_reporting": true, "max_namespaces": 4});
    ok(&mut machine, "nvmf_create_subsystem", subsystem);
    ok(&mut machine, "nvmf_subsystem_add_listener", listener(NQN, "0.0.0.0", "4420"));
    machine
}

fn state(port: &str, ana_state: &str, anagrpid: Option<u32>) -> Value {
    let mut params = listener(NQN, "0.0.0.0", port);
    params["ana_state"] = ana_state.into();
    if let Some(anagrpid) = anagrpid {
        params["anagrpid"] = anagrpid.into();
    }
    params
}

fn states(machine: &mut Machine, at: usize) -> Vec<Value> {
    let listed = machine.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN})).unwrap();
    let states = listed[at]["ana_states"].as_array().unwrap();
    states.iter().map(|entry| entry["ana_state"].clone()).collect()
}

#[test]
fn the_states_of_listeners_are_set_and_shown_as_spdk_does() {
    let mut machine = reporting();
    ok(&mut machine, SET, state("4420", "non_optimized", Some(3)));
    let listed = machine.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN})).unwrap();
    let expected = json!([{
        "address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": "4420"},
        "ana_states": [
            {"ana_group": 1, "ana_state": "optimized"},
            {"ana_group": 2, "ana_state": "optimized"},
            {"ana_group": 3, "ana_state": "non_optimized"},
            {"ana_group": 4, "ana_state": "optimized"},
        ],
    }]);
    assert_eq!(listed, expected);
    ok(&mut machine, SET, state("4420", "Inaccessible", None));
    assert_eq!(states(&mut machine, 0), ["inaccessible"; 4]);
    let mut second = listener(NQN, "0.0.0.0", "4421");
    second["ana_state"] = "non_optimized".into();
    ok(&mut machine, "nvmf_subsystem_add_listener", second);
    assert_eq!(states(&mut machine, 1), ["non_optimized"; 4]);
    for name in ["change", "persistent_loss"] {
        ok(&mut machine, SET, state("4421", name, None));
        assert_eq!(states(&mut machine, 1), [name; 4]);
    }
}

#[test]
fn a_state_that_cannot_be_set_is_refused() {
    let mut machine = reporting();
    ok(&mut machine, SET, state("4420", "persistent_loss", Some(4)));
    let mut elsewhere = state("4420", "optimized", None);
    elsewhere["nqn"] = LONGER_NQN.into();
    let table = [
        (state("4420", "asleep", None), -32602),
        (state("4420", "optimized", Some(5)), -32602),
        (state("4422", "optimized", None), -2),
        (state("4420", "optimized", None), -22),
        (elsewhere.clone(), -19),
        (json!({"nqn": NQN, "ana_state": "optimized"}), -32602),
    ];
    for (params, code) in table {
        assert_eq!(machine.code(SET, params.clone()), code, "{params}");
    }
    ok(&mut machine, "nvmf_create_subsystem", json!({"nqn": LONGER_NQN}));
    let add = "nvmf_subsystem_add_listener";
    ok(&mut machine, add, listener(LONGER_NQN, "0.0.0.0", "4420"));
    assert_eq!(machine.code(SET, elsewhere.clone()), -22, "it reports nothing");
    elsewhere["ana_state"] = "inaccessible".into();
    elsewhere["listen_address"]["trsvcid"] = "4421".into();
    assert_eq!(machine.code(add, elsewhere), -22);
    let listed = machine.call("nvmf_subsystem_get_listeners", json!({"nqn": LONGER_NQN})).unwrap();
    assert!(listed[0].get("ana_states").is_none());
}

#[test]
fn namespaces_have_groups_that_may_change() {
    let mut machine = reporting();
    null(&mut machine, "N");
    let mut params = ns(NQN, "N");
    params["namespace"]["anagrpid"] = 5.into();
    assert_eq!(machine.code("nvmf_subsystem_add_ns", params.clone()), -32602);
    params["namespace"]["anagrpid"] = 0.into();
    assert_eq!(machine.call("nvmf_subsystem_add_ns", params).unwrap(), 1);
    assert_eq!(shown(&mut machine, NQN)["namespaces"][0]["anagrpid"], 1, "as its identifier");
    let change = "nvmf_subsystem_set_ns_ana_group";
    ok(&mut machine, change, json!({"nqn": NQN, "nsid": 1, "anagrpid": 3}));
    assert_eq!(shown(&mut machine, NQN)["namespaces"][0]["anagrpid"], 3);
    let table = [(1, 0, -32602), (1, 5, -32602), (2, 1, -2)];
    for (nsid, anagrpid, code) in table {
        let params = json!({"nqn": NQN, "nsid": nsid, "anagrpid": anagrpid});
        assert_eq!(machine.code(change, params), code);
    }
}

#[test]
fn what_is_saved_brings_states_and_groups_back() {
    let mut machine = reporting();
    null(&mut machine, "N");
    machine.call("nvmf_subsystem_add_ns", ns(NQN, "N")).unwrap();
    let change = json!({"nqn": NQN, "nsid": 1, "anagrpid": 3});
    ok(&mut machine, "nvmf_subsystem_set_ns_ana_group", change);
    ok(&mut machine, SET, state("4420", "inaccessible", Some(2)));
    ok(&mut machine, SET, state("4420", "non_optimized", None));
    ok(&mut machine, SET, state("4420", "inaccessible", Some(3)));
    ok(&mut machine, SET, state("4420", "optimized", Some(3)));
    // Again, which changes nothing.
    let mut again = listener(NQN, "0.0.0.0", "4420");
    again["ana_state"] = "inaccessible".into();
    ok(&mut machine, "nvmf_subsystem_add_listener", again);
    ok(&mut machine, "nvmf_subsystem_add_listener", listener(NQN, "0.0.0.0", "4421"));
    ok(&mut machine, SET, state("4421", "inaccessible", None));
    ok(&mut machine, "nvmf_subsystem_remove_listener", listener(NQN, "0.0.0.0", "4421"));
    let saved = save(&mut machine);

    let (mut again, _) = serving();
    apply(&mut again, &saved).unwrap();
    assert_eq!(save(&mut again), saved);
    let expected = ["non_optimized", "non_optimized", "optimized", "non_optimized"];
    assert_eq!(states(&mut again, 0), expected);
    assert_eq!(shown(&mut again, NQN), shown(&mut machine, NQN));
    let calls = again.call("framework_get_config", json!({"name": "nvmf"})).unwrap();
    let sets = calls.as_array().unwrap().iter().filter(|call| call["method"] == SET);
    assert_eq!(sets.count(), 2, "what another took the place of is not saved");
}
