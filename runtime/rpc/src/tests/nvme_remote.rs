use serde_json::json;

use super::*;

fn attach(more: serde_json::Value) -> serde_json::Value {
    let mut params = json!({
        "name": "Nvme9", "trtype": "tcp", "adrfam": "ipv4", "traddr": "10.0.0.1",
        "trsvcid": "4420", "subnqn": "nqn.2026-11.io.basalt:storage",
        // What SPDK's client always sends.
        "prchk_reftag": false, "prchk_guard": false, "hdgst": false, "ddgst": false,
        "allow_unrecognized_csi": false, "disable_sq_flow_control": false,
    });
    if let (Some(params), Some(more)) = (params.as_object_mut(), more.as_object()) {
        params.extend(more.clone());
    }
    params
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason() {
    let mut machine = Machine::new();
    for (more, code, reason) in [
        (json!({}), -5, "there is no network"),
        (json!({"trtype": "rdma"}), -32602, "'trtype'"),
        (json!({"traddr": "target.example"}), -32602, "not an IP address"),
        (json!({"adrfam": "ipv6"}), -32602, "'adrfam'"),
        (json!({"trsvcid": "0"}), -32602, "'trsvcid'"),
        (json!({"multipath": "both"}), -32602, "'multipath'"),
        (json!({"num_io_queues": 0}), -32602, "'num_io_queues'"),
        (json!({"psk": "key"}), -95, "TLS"),
        (json!({"dhchap_key": "key"}), -95, "authentication"),
        (json!({"hostaddr": "10.9.9.9"}), -99, "no address of this machine"),
        (json!({"subnqn": ""}), -22, "1 to 223 bytes"),
        (json!({"ctrlr_loss_timeout_sec": -2}), -32602, "at least 0"),
        (json!({"ctrlr_loss_timeout_sec": 0, "reconnect_delay_sec": 1}), -22, "are 0 as well"),
        (json!({"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 0}), -22, "neither is"),
        (json!({"ctrlr_loss_timeout_sec": 5, "reconnect_delay_sec": 6}), -22, "not longer"),
        (
            json!({"ctrlr_loss_timeout_sec": 9, "reconnect_delay_sec": 3,
                   "fast_io_fail_timeout_sec": 2}),
            -22,
            "not shorter",
        ),
        (json!({"wings": 2}), -32602, "'wings'"),
    ] {
        let error = machine.call("bdev_nvme_attach_controller", attach(more)).unwrap_err();
        assert!(error.message.contains(reason), "{error:?} does not say '{reason}'");
        assert_eq!(error.code, code, "{}", error.message);
    }
    assert_eq!(machine.call("bdev_nvme_get_controllers", None).unwrap(), json!([]));
    assert_eq!(machine.rpc.saved("bdev"), Vec::<Value>::new());
}

#[test]
fn what_is_not_there_has_neither_paths_nor_a_policy() {
    let mut machine = Machine::new();
    let policy =
        |policy, selector| json!({"name": "Nvme9n1", "policy": policy, "selector": selector});
    let method = "bdev_nvme_set_multipath_policy";
    assert_eq!(machine.code(method, policy("active_active", json!("queue_depth"))), -19);
    assert_eq!(machine.code(method, policy("active_active", json!("longest"))), -32602);
    assert_eq!(machine.code(method, policy("active_passive", json!("round_robin"))), -32602);
    assert_eq!(machine.code(method, policy("passive", json!(null))), -32602);
    let preferred = json!({"name": "Nvme9n1", "cntlid": 1});
    assert_eq!(machine.code("bdev_nvme_set_preferred_path", preferred), -19);
    let none = json!({"poll_groups": [{"thread": "reactor_0", "io_paths": []}]});
    assert_eq!(machine.call("bdev_nvme_get_io_paths", None).unwrap(), none);
    let none = json!({"poll_groups": [{"thread": "reactor_0", "transports": []}]});
    assert_eq!(machine.call("bdev_nvme_get_transport_statistics", None).unwrap(), none);
    assert_eq!(machine.code("bdev_nvme_get_io_paths", json!({"name": "Nvme9n1"})), -19);
}
