use serde_json::json;

use super::*;

const START: &str = "bdev_nvme_start_discovery";

fn start(more: Value) -> Value {
    let mut params =
        json!({"name": "Far", "trtype": "tcp", "traddr": "10.0.0.1", "adrfam": "ipv4"});
    if let (Some(params), Some(more)) = (params.as_object_mut(), more.as_object()) {
        params.extend(more.clone());
    }
    params
}

#[test]
fn a_discovery_service_is_followed_and_saved_until_it_is_stopped() {
    let mut machine = Machine::new();
    assert_eq!(machine.call(START, start(json!({}))).unwrap(), json!(true));
    let trid = json!({
        "trtype": "TCP", "adrfam": "IPv4", "traddr": "10.0.0.1", "trsvcid": "8009",
        "subnqn": "nqn.2014-08.org.nvmexpress.discovery",
    });
    let shown = json!([{"name": "Far", "trid": trid, "referrals": []}]);
    assert_eq!(machine.call("bdev_nvme_get_discovery_info", None).unwrap(), shown);
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    assert_eq!(saved[0], json!({"method": START, "params": start(json!({}))}));

    assert_eq!(machine.code(START, start(json!({}))), -17);
    assert_eq!(machine.code(START, start(json!({"name": "Again"}))), -17);
    assert_eq!(machine.code(START, start(json!({"name": "New", "trtype": "rdma"}))), -32602);
    let stop = json!({"name": "Far"});
    assert_eq!(machine.call("bdev_nvme_stop_discovery", stop.clone()).unwrap(), json!(true));
    assert_eq!(machine.code("bdev_nvme_stop_discovery", stop), -19);
    assert_eq!(machine.call("bdev_nvme_get_discovery_info", None).unwrap(), json!([]));
    assert_eq!(machine.rpc.saved("bdev"), Vec::<Value>::new());
}

#[test]
fn a_service_that_is_not_found_in_time_is_followed_no_longer() {
    let mut machine = Machine::new();
    for more in [
        json!({"attach_timeout_ms": 100}),
        json!({"attach_timeout_ms": 3000, "wait_for_attach": true}),
    ] {
        assert_eq!(machine.code(START, start(more)), -110);
        (0..100).for_each(|_| machine.round());
        assert_eq!(machine.call("bdev_nvme_get_discovery_info", None).unwrap(), json!([]));
        assert_eq!(machine.rpc.saved("bdev"), Vec::<Value>::new());
    }
}
