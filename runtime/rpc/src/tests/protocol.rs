use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::Machine;
use crate::{ID_BYTES_MAX, State};

fn code(reply: Option<Value>) -> Value {
    reply.unwrap()["error"]["code"].clone()
}

#[test]
fn the_identifier_is_echoed_exactly() {
    let mut machine = Machine::new();
    for id in [json!(0), json!(-1), json!(u64::MAX), json!("seven"), json!(""), Value::Null] {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "framework_wait_init"});
        let reply = machine.answer(call);
        assert_eq!(reply, Some(json!({"jsonrpc": "2.0", "id": id, "result": true})));
    }
}

#[test]
fn an_identifier_of_another_kind_or_too_long_is_an_invalid_request() {
    let mut machine = Machine::new();
    let longest = "x".repeat(ID_BYTES_MAX);
    let longer = format!("{longest}x");
    let call = |id: Value| json!({"id": id, "method": "framework_wait_init"});
    assert!(machine.answer(call(json!(longest))).unwrap().get("result").is_some());
    for id in [json!(longer), json!(1.5), json!([1]), json!({}), json!(true)] {
        let reply = machine.answer(call(id)).unwrap();
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&Value::Null, &json!(-32600)));
    }
}

#[test]
fn each_mistake_has_its_code() {
    let mut machine = Machine::new();
    let table = [
        (json!({"id": 1, "jsonrpc": "1.0", "method": "rpc_get_methods"}), -32600),
        (json!({"id": 1}), -32600),
        (json!({"id": 1, "method": 7}), -32600),
        (json!([]), -32600),
        (json!({"id": 1, "method": "no_such_method"}), -32601),
        (json!({"id": 1, "method": "rpc_get_methods", "params": 7}), -32602),
        (json!({"id": 1, "method": "rpc_get_methods", "params": [true]}), -32602),
        (json!({"id": 1, "method": "rpc_get_methods", "params": {"current": "yes"}}), -32602),
        (json!({"id": 1, "method": "rpc_get_methods", "params": {"colour": 1}}), -32602),
        (json!({"id": 1, "method": "spdk_get_version", "params": {}}), -32602),
        (json!({"id": 1, "method": "net_get_interfaces"}), -32603),
        (json!({"id": 1, "method": "framework_start_init"}), -1),
        (json!({"id": 1, "method": "bdev_get_bdevs", "params": {"name": "x"}}), -19),
    ];
    for (call, expected) in table {
        assert_eq!(code(machine.answer(call.clone())), json!(expected), "{call}");
    }
}

#[test]
fn a_wrong_parameter_is_named() {
    let mut machine = Machine::new();
    let mut message = |params: Value| -> String {
        machine.call("bdev_malloc_create", params).unwrap_err().message
    };
    assert!(message(json!({"num_blocks": 1})).contains("'block_size' is missing"));
    let wrong = json!({"num_blocks": "many", "block_size": 512});
    assert!(message(wrong).contains("'num_blocks': invalid type"));
    let unknown = json!({"num_blocks": 1, "block_size": 512, "colour": 1});
    assert!(message(unknown).contains("unknown parameter 'colour'"));
}

#[test]
fn a_notification_is_carried_out_and_not_answered() {
    let mut machine = Machine::new();
    let params = json!({"name": "Null0", "num_blocks": 8, "block_size": 512});
    assert_eq!(machine.answer(json!({"method": "bdev_null_create", "params": params})), None);
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap()[0]["name"], "Null0");
    assert_eq!(machine.answer(json!({"method": "no_such_method"})), None);
}

#[test]
fn a_batch_is_answered_by_an_array_in_order() {
    let mut machine = Machine::new();
    let reply = machine.answer(json!([
        {"id": 1, "method": "framework_wait_init"},
        {"method": "framework_wait_init"},
        {"id": 2, "method": "no_such_method"},
        7,
    ]));
    let reply = reply.unwrap();
    assert_eq!(reply.as_array().unwrap().len(), 3);
    assert_eq!(reply[0]["result"], true);
    assert_eq!((&reply[1]["id"], &reply[1]["error"]["code"]), (&json!(2), &json!(-32601)));
    assert_eq!((&reply[2]["id"], &reply[2]["error"]["code"]), (&Value::Null, &json!(-32600)));
    let silent = json!([{"method": "framework_wait_init"}]);
    assert_eq!(machine.answer(silent), None);
}

#[test]
fn before_initialisation_only_options_may_be_set() {
    let mut machine = Machine::in_state(1, State::Startup);
    assert_eq!(machine.code("bdev_get_bdevs", None), -1);
    machine.call("sock_set_default_impl", json!({"impl_name": "posix"})).unwrap();
    assert_eq!(machine.call("framework_start_init", None).unwrap(), true);
    assert_eq!(machine.call("framework_wait_init", None).unwrap(), true);
    machine.call("bdev_get_bdevs", None).unwrap();
    assert_eq!(machine.code("sock_set_default_impl", json!({"impl_name": "posix"})), -1);
}

#[test]
fn a_batch_that_asks_for_too_much_is_carried_out_in_part() {
    let mut machine = Machine::new();
    let mut router = crate::Router::new();
    router.register("long", crate::When::Any, |_, _| Ok(Value::from("x".repeat(1 << 20))));
    machine.rpc = crate::Rpc::start(&machine.boot(), router, State::Runtime);
    let calls: Vec<Value> = (0..8).map(|id| json!({"id": id, "method": "long"})).collect();
    let replies = machine.answer(Value::from(calls)).unwrap();
    let carried_out = |reply: &&Value| reply.get("result").is_some();
    assert_eq!(replies.as_array().unwrap().iter().filter(carried_out).count(), 4);
    assert_eq!((&replies[7]["id"], &replies[7]["error"]["code"]), (&json!(7), &json!(-32603)));
}
