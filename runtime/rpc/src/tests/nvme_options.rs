use alloc::vec::Vec;

use basalt_env::CoreId;
use basalt_nvme_spec::{Arbitration, QueuePriority};
use serde_json::{Value, json};

use super::Machine;
use super::config::{apply, save};
use crate::Config;
use core::time::Duration;

use basalt_nvmf_initiator::{Loss, Policy, Reconnect};

use crate::methods::NvmeOptions;

const METHOD: &str = "bdev_nvme_set_options";

fn configuration(calls: &[Value]) -> Value {
    let call = |params: &Value| json!({"method": METHOD, "params": params});
    let calls: Vec<Value> = calls.iter().map(call).collect();
    json!({"subsystems": [{"subsystem": "bdev", "config": calls}]})
}

fn options(machine: &Machine) -> NvmeOptions {
    NvmeOptions::clone(&machine.boot().service::<NvmeOptions>().unwrap())
}

/// What is saved of the method's parameters.
fn saved(machine: &mut Machine) -> Value {
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    assert_eq!(saved[0]["method"], METHOD);
    saved[0]["params"].clone()
}

#[test]
fn weights_and_priorities_are_set_one_by_one_and_saved_together() {
    let mut machine = Machine::with_cores(3);
    machine.call(METHOD, json!({"timeout_us": 5, "arbitration_burst": 3})).unwrap();
    assert_eq!(options(&machine).arbitration.burst, 3);
    let priorities = json!([{"core": 2, "priority": "urgent"}, {"core": 0, "priority": "low"}]);
    let more = json!({"low_priority_weight": 1, "medium_priority_weight": 7,
                      "high_priority_weight": 255, "priorities": priorities});
    machine.call(METHOD, more).unwrap();
    let arbitration = Arbitration { burst: 3, low: 1, medium: 7, high: 255 };
    let expected = [(CoreId(2), QueuePriority::Urgent), (CoreId(0), QueuePriority::Low)];
    let found = options(&machine);
    assert_eq!((found.arbitration, found.priorities), (arbitration, expected.into()));
    let all = json!({"timeout_us": 5, "arbitration_burst": 3, "low_priority_weight": 1,
                     "medium_priority_weight": 7, "high_priority_weight": 255,
                     "priorities": priorities});
    assert_eq!(saved(&mut machine), all);
    let before = save(&mut machine);
    let mut again = Machine::with_cores(3);
    apply(&mut again, &before).unwrap();
    assert_eq!((save(&mut again), options(&again)), (before, options(&machine)));
    machine.call(METHOD, json!({"arbitration_burst": 0, "priorities": []})).unwrap();
    assert!(options(&machine).priorities.is_empty());
    assert_eq!(saved(&mut machine)["arbitration_burst"], 0);
}

#[test]
fn what_spdk_saves_without_having_changed_anything_changes_nothing() {
    let mut machine = Machine::new();
    let defaults = json!({"action_on_timeout": "none", "arbitration_burst": 0,
                          "low_priority_weight": 0, "medium_priority_weight": 0,
                          "high_priority_weight": 0, "nvme_adminq_poll_period_us": 10000});
    machine.call(METHOD, defaults.clone()).unwrap();
    assert_eq!(options(&machine), NvmeOptions::default());
    assert_eq!(saved(&mut machine), defaults);
}

/// Wrong parameters on a machine of two cores, and what is said of them.
fn mistakes() -> [(Value, &'static str); 10] {
    let priorities = |list: Value| json!({"priorities": list});
    [
        (json!({"arbitration_burst": 8}), "'arbitration_burst' is a power of two from 0 to 6"),
        (json!({"low_priority_weight": 256}), "parameter 'low_priority_weight'"),
        (json!({"high_priority_weight": -1}), "parameter 'high_priority_weight'"),
        (priorities(json!("urgent")), "parameter 'priorities'"),
        (priorities(json!([{"core": 1}])), "parameter 'priorities[0].priority' is missing"),
        (priorities(json!([{"priority": "low"}])), "parameter 'priorities[0].core' is missing"),
        (priorities(json!([{"core": 1, "priority": "utmost"}])), "not 'utmost'"),
        (priorities(json!([{"core": 2, "priority": "low"}])), "there are 2 cores, none 2"),
        (
            priorities(json!([{"core": 1, "priority": "low"}, {"core": 1, "priority": "high"}])),
            "core 1 is given two priorities",
        ),
        (
            priorities(json!([{"core": 1, "priority": "low", "queue": 1}])),
            "unknown parameter 'priorities[0].queue'",
        ),
    ]
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_everything_as_it_was() {
    let mut machine = Machine::with_cores(2);
    machine.call(METHOD, json!({"arbitration_burst": 2})).unwrap();
    let before = options(&machine);
    for (params, reason) in mistakes() {
        let error = machine.call(METHOD, params.clone()).unwrap_err();
        assert_eq!(error.code, -32602, "{params}");
        assert!(error.message.contains(reason), "{params}: {}", error.message);
        assert_eq!(options(&machine), before, "{params}");
    }
    assert_eq!(saved(&mut machine), json!({"arbitration_burst": 2}));
}

#[test]
fn a_configuration_tells_of_arbitration_before_it_is_applied() {
    let read = |calls: &[Value]| {
        let bytes = serde_json::to_vec(&configuration(calls)).unwrap();
        let config = Config::parse(&bytes);
        (config.nvme_options(2), config)
    };
    assert_eq!(read(&[]).0, None);
    let calls = [
        json!({"arbitration_burst": 2, "retry_count": 3}),
        json!({"priorities": [{"core": 1, "priority": "high"}]}),
    ];
    let options = read(&calls).0.unwrap();
    assert_eq!(options.arbitration.burst, 2);
    assert_eq!(options.priorities, [(CoreId(1), QueuePriority::High)]);
    for (params, reason) in mistakes() {
        let (options, config) = read(&[json!({"arbitration_burst": 2}), params]);
        assert_eq!(
            options.map(|options| options.arbitration.burst),
            Some(2),
            "what is right counts"
        );
        let complaints = config.check(&Machine::with_cores(2).rpc);
        // Which cores there are is for the machine to say.
        if reason.contains("cores") {
            assert_eq!(complaints, [], "{reason}");
            continue;
        }
        let [complaint] = complaints.as_slice() else { panic!("{complaints:?}") };
        assert!(complaint.path.starts_with("subsystems[0].config[1].params"), "{complaint}");
    }
}

#[test]
fn times_and_policy_of_remote_controllers_are_set_one_by_one_and_saved_together() {
    let mut machine = Machine::new();
    let times = json!({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 4});
    machine.call(METHOD, times).unwrap();
    let round_robin = json!({"policy": "active_active", "selector": "round_robin", "min_io": 3});
    machine.call(METHOD, json!({"multipath_opts": round_robin})).unwrap();
    machine.call(METHOD, json!({"keep_alive_timeout_ms": 700})).unwrap();
    let remote = options(&machine).remote;
    assert_eq!(remote.policy, Some(Policy::RoundRobin { min_io: 3 }));
    assert_eq!(remote.keep_alive, Some(Duration::from_millis(700)));
    let delay = Duration::from_secs(4);
    let reconnect = Reconnect { loss: Loss::Never, delay, fast_io_fail: None };
    assert_eq!(remote.reconnect, Some(reconnect));
    let all = json!({"keep_alive_timeout_ms": 700, "ctrlr_loss_timeout_sec": -1,
                     "reconnect_delay_sec": 4, "fast_io_fail_timeout_sec": 0,
                     "multipath_opts": round_robin});
    assert_eq!(saved(&mut machine), all);
    let wrong = json!({"ctrlr_loss_timeout_sec": 3});
    assert_eq!(machine.code(METHOD, wrong), -22, "reconnects are 4 seconds apart");
}
