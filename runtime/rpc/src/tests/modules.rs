//! What SPDK's client asks of modules other than bdev and nvmf, and what a configuration of SPDK's
//! holds for them.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use basalt_bdev::{Access, Registry};
use basalt_env::{LOG_FLAGS, PciAddress};
use basalt_metrics::Operation;
use serde_json::{Value, json};

use super::Machine;
use super::config::{apply, save};
use crate::State;
use crate::methods::{PciControl, PciState};

/// What SPDK 26.09 saves of itself if nothing but a RAM disk and a subsystem was asked for.
const SPDK_CONFIG: &str = include_str!("spdk_config.json");

fn null(name: &str) -> Value {
    json!({"name": name, "num_blocks": 8, "block_size": 512})
}

fn wants(result: &Value, names: &[&str]) {
    let members = result.as_object().unwrap();
    for name in names {
        assert!(members.contains_key(*name), "{name} is missing in {result}");
    }
}

#[test]
fn what_spdk_saves_loads_and_is_saved_alike_ever_after() {
    let config: Value = serde_json::from_str(SPDK_CONFIG).unwrap();
    let mut machine = Machine::new();
    basalt_nvmf::Target::start(&machine.boot(), basalt_nvmf::TransportConfig::default());
    apply(&mut machine, &config).unwrap();
    let saved = save(&mut machine);
    let mut again = Machine::new();
    basalt_nvmf::Target::start(&again.boot(), basalt_nvmf::TransportConfig::default());
    apply(&mut again, &saved).unwrap();
    assert_eq!(save(&mut again), saved);
    let calls = |config: &Value| -> Vec<String> {
        let subsystems = config["subsystems"].as_array().unwrap().iter();
        let calls =
            subsystems.flat_map(|one| one["config"].as_array().cloned().unwrap_or_default());
        let mut names: Vec<String> =
            calls.map(|call| String::from(call["method"].as_str().unwrap())).collect();
        names.sort();
        names
    };
    assert_eq!(calls(&saved), calls(&config), "no call is lost");
}

/// As the client's `load_config` does it.
#[test]
fn what_spdk_saves_loads_into_a_machine_that_waits() {
    let config: Value = serde_json::from_str(SPDK_CONFIG).unwrap();
    let mut machine = Machine::in_state(1, State::Startup);
    basalt_nvmf::Target::start(&machine.boot(), basalt_nvmf::TransportConfig::default());
    let subsystems = config["subsystems"].as_array().unwrap();
    let calls = subsystems.iter().flat_map(|one| one["config"].as_array().cloned());
    let mut calls: Vec<Value> = calls.flatten().collect();
    let all = machine.call("rpc_get_methods", None).unwrap();
    let is_in = |list: &Value, name: &Value| list.as_array().unwrap().contains(name);
    let unknown = calls.iter().find(|call| !is_in(&all, &call["method"]));
    assert_eq!(unknown, None);
    while !calls.is_empty() {
        let before = calls.len();
        let now = machine.call("rpc_get_methods", json!({"current": true})).unwrap();
        for call in calls.extract_if(.., |call| is_in(&now, &call["method"])).collect::<Vec<_>>() {
            let params = call.get("params").cloned();
            machine.call(call["method"].as_str().unwrap(), params).unwrap();
        }
        if is_in(&now, &json!("framework_start_init")) {
            machine.call("framework_start_init", None).unwrap();
        } else {
            assert!(calls.len() < before, "{calls:?} cannot be called any more");
        }
    }
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap()[0]["name"], "Malloc0");
}

#[test]
fn what_is_not_there_is_refused_with_its_reason_and_is_listed() {
    let mut machine = Machine::new();
    let listed = machine.call("rpc_get_methods", None).unwrap();
    for (method, says) in [
        ("bdev_lvol_create_lvstore", "Logical volumes"),
        ("bdev_rbd_create", "Ceph"),
        ("vhost_create_blk_controller", "vhost"),
        ("iscsi_create_target_node", "iSCSI"),
        ("nbd_start_disk", "NBD"),
        ("ublk_start_disk", "ublk"),
        ("keyring_file_add_key", "Keys"),
        ("bdev_crypto_create", "Encryption"),
        ("dsa_scan_accel_module", "accelerator"),
        ("vmd_rescan", "VMD"),
        ("bdev_aio_create", "no operating system"),
    ] {
        let params = json!({"name": "a", "filename": "b", "block_size": 512});
        let error = machine.call(method, params).unwrap_err();
        assert_eq!(error.code, -95, "{method}");
        assert!(error.message.contains(says), "{method}: {}", error.message);
        assert!(listed.as_array().unwrap().contains(&json!(method)), "{method} is listed");
    }
    assert_eq!(machine.code("no_such_method", None), -32601);
}

#[test]
fn the_scheduler_is_shown_as_it_was_set() {
    let mut machine = Machine::in_state(2, State::Startup);
    let shown = machine.call("framework_get_scheduler", None).unwrap();
    assert_eq!(
        (&shown["scheduler_name"], &shown["scheduler_period"]),
        (&json!("static"), &json!(0))
    );
    let options = json!({"isolated_core_mask": "2", "scheduling_core": 0});
    machine.call("scheduler_set_options", options).unwrap();
    let set = json!({"name": "dynamic", "load_limit": 30});
    machine.call("framework_set_scheduler", set).unwrap();
    machine.call("framework_start_init", None).unwrap();
    let shown = machine.call("framework_get_scheduler", None).unwrap();
    let expected = json!({
        "scheduler_name": "dynamic",
        "scheduler_period": 1_000_000,
        "isolated_core_mask": "2",
        "scheduling_core": 0,
        "load_limit": 30,
    });
    assert_eq!(shown, expected);
    assert_eq!(machine.call("framework_get_governor", None).unwrap(), json!({}));
    let monitor = machine.call("framework_monitor_context_switch", None).unwrap();
    assert_eq!(monitor, json!({"enabled": false}));
    assert_eq!(machine.code("framework_monitor_context_switch", json!({"enabled": true})), -95);
}

#[test]
fn a_thread_stays_on_its_core() {
    let mut machine = Machine::with_cores(2);
    let mut set = |id: u64, mask: &str| {
        machine.call("thread_set_cpumask", json!({"id": id, "cpumask": mask}))
    };
    assert_eq!(set(2, "0x3").unwrap(), true);
    assert_eq!(set(1, "1").unwrap(), true);
    assert_eq!(set(2, "0x1").unwrap_err().code, -95);
    assert_eq!(set(3, "0x1").unwrap_err().code, -32602);
    assert_eq!(set(1, "moon").unwrap_err().code, -32603);
}

#[test]
fn channels_are_listed_by_core_and_bdev() {
    let mut machine = Machine::with_cores(2);
    machine.call("bdev_null_create", null("N")).unwrap();
    let registry = machine.boot().service::<Registry>().unwrap();
    let open = registry.open("N", Access::ReadOnly).unwrap();
    let local = machine.reactors[1].local();
    let channels = [open.channel(&local).unwrap(), open.channel(&local).unwrap()];
    let threads = machine.call("thread_get_io_channels", None).unwrap()["threads"].clone();
    assert_eq!(threads[0], json!({"name": "reactor_0", "io_channels": []}));
    assert_eq!(threads[1]["io_channels"], json!([{"name": "bdev_N", "ref": 2}]));
    drop(channels);
    let threads = machine.call("thread_get_io_channels", None).unwrap()["threads"].clone();
    assert_eq!(threads[1]["io_channels"], json!([]));
}

#[test]
fn notifications_tell_what_became_of_bdevs() {
    let mut machine = Machine::new();
    let types = machine.call("notify_get_types", None).unwrap();
    assert_eq!(types, json!(["bdev_register", "bdev_unregister"]));
    machine.call("bdev_null_create", null("A")).unwrap();
    machine.call("bdev_null_create", null("B")).unwrap();
    machine.call("bdev_null_delete", json!({"name": "A"})).unwrap();
    let all = machine.call("notify_get_notifications", None).unwrap();
    let of = |kind: &str, name: &str, id: u64| json!({"type": kind, "ctx": name, "id": id});
    let last = of("bdev_unregister", "A", 2);
    assert_eq!(all, json!([of("bdev_register", "A", 0), of("bdev_register", "B", 1), last]));
    let some = machine.call("notify_get_notifications", json!({"id": 1, "max": 1})).unwrap();
    assert_eq!(some, json!([of("bdev_register", "B", 1)]));
    machine.call("bdev_null_create", null(&"ü".repeat(1000))).unwrap();
    let long = machine.call("notify_get_notifications", json!({"id": 3})).unwrap();
    assert_eq!(long[0]["ctx"].as_str().map(str::len), Some(254), "whole characters");
    for _ in 0..600 {
        machine.call("bdev_null_create", null("C")).unwrap();
        machine.call("bdev_null_delete", json!({"name": "C"})).unwrap();
    }
    let all = machine.call("notify_get_notifications", None).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(1024), "older ones are lost");
    assert_eq!(all[0]["id"], 1204 - 1024);
    assert_eq!(machine.call("notify_get_notifications", json!({"id": 5000})).unwrap(), json!([]));
}

#[test]
fn flags_choose_whose_details_are_logged() {
    let mut machine = Machine::new();
    let flags = machine.call("log_get_flags", None).unwrap();
    wants(&flags, &LOG_FLAGS);
    assert_eq!(machine.call("log_clear_flag", json!({"flag": "virtio-net"})).unwrap(), true);
    assert_eq!(machine.call("log_get_flags", None).unwrap()["virtio-net"], false);
    assert_eq!(machine.call("log_set_flag", json!({"flag": "all"})).unwrap(), true);
    assert_eq!(machine.call("log_get_flags", None).unwrap()["virtio-net"], true);
    assert_eq!(machine.code("log_set_flag", json!({"flag": "moon"})), -32602);
    machine.call("log_enable_timestamps", json!({"enabled": true})).unwrap();
    assert_eq!(machine.code("log_enable_timestamps", json!({"enabled": false})), -95);
}

#[test]
fn options_of_sockets_are_read_back_as_they_were_set() {
    let mut machine = Machine::in_state(1, State::Startup);
    let default = |machine: &mut Machine| machine.call("sock_get_default_impl", None).unwrap();
    assert_eq!(default(&mut machine), json!({"impl_name": "posix"}));
    machine.call("sock_set_default_impl", json!({"impl_name": "uring"})).unwrap();
    assert_eq!(default(&mut machine), json!({"impl_name": "uring"}));
    let set = json!({"impl_name": "posix", "recv_buf_size": 4096, "enable_ktls": true});
    machine.call("sock_impl_set_options", set).unwrap();
    let posix = machine.call("sock_impl_get_options", json!({"impl_name": "posix"})).unwrap();
    let uring = machine.call("sock_impl_get_options", json!({"impl_name": "uring"})).unwrap();
    assert_eq!((&posix["recv_buf_size"], &posix["enable_ktls"]), (&json!(4096), &json!(true)));
    assert_eq!((&uring["recv_buf_size"], &uring["enable_ktls"]), (&json!(2 << 20), &json!(false)));
    for method in ["sock_impl_get_options", "sock_impl_set_options"] {
        assert_eq!(machine.code(method, json!({"impl_name": "moon"})), -22);
    }
}

#[test]
fn operations_are_those_of_the_software_module() {
    let mut machine = Machine::in_state(1, State::Startup);
    let assign = |name: &str, module: &str| json!({"opname": name, "module": module});
    machine.call("accel_assign_opc", assign("crc32c", "software")).unwrap();
    assert_eq!(machine.code("accel_assign_opc", assign("crc32c", "dsa")), -95);
    assert_eq!(machine.code("accel_assign_opc", assign("juggle", "software")), -32602);
    machine.call("framework_start_init", None).unwrap();
    let assigned = machine.call("accel_get_opc_assignments", None).unwrap();
    assert_eq!(assigned["crc32c"], "software");
    let info = machine.call("accel_get_module_info", None).unwrap();
    assert_eq!((info.as_array().map(Vec::len), &info[0]["module"]), (Some(1), &json!("software")));
    let saved = machine.call("framework_get_config", json!({"name": "accel"})).unwrap();
    assert_eq!(saved[0]["method"], "accel_assign_opc");
}

#[test]
fn operations_are_counted_on_all_cores_together_and_what_is_not_done_is_left_out() {
    let mut machine = Machine::with_cores(2);
    let none = machine.call("accel_get_stats", None).unwrap();
    let expected = json!({
        "sequence_executed": 0, "sequence_failed": 0, "sequence_outstanding": 0,
        "task_outstanding": 0, "operations": [], "retry_task": 0, "retry_sequence": 0,
        "retry_iobuf": 0, "retry_bufdesc": 0,
    });
    assert_eq!(none, expected);
    for (core, times, bytes) in [(0, 1, 4096), (1, 3, 1000)] {
        machine.reactors[core].local().operations().add(Operation::Xor, times, bytes);
    }
    machine.reactors[1].local().operations().fail(Operation::Xor);
    let some = machine.call("accel_get_stats", None).unwrap();
    let xor = json!({"opcode": "xor", "module_name": "software", "executed": 4, "failed": 1,
                     "num_bytes": 5096});
    assert_eq!(some["operations"], json!([xor]));
    assert_eq!(machine.code("accel_get_stats", json!({"module": "software"})), -32602);
}

#[test]
fn buffers_are_counted_by_where_they_came_from() {
    let mut machine = Machine::with_cores(2);
    let host = basalt_hosted::Machine::new();
    let pool = basalt_env::DmaPool::new(host.arena(64 << 10).unwrap());
    machine.reactors[1].local().provide(Rc::new(pool.clone()));
    drop(pool.alloc(4096).unwrap());
    drop(pool.alloc(4096).unwrap());
    assert!(pool.alloc(128 << 10).is_err());
    let stats = machine.call("iobuf_get_stats", None).unwrap();
    assert_eq!(stats[0]["small_pool"], json!({"cache": 1, "main": 1, "retry": 0}));
    assert_eq!(stats[0]["large_pool"], json!({"cache": 0, "main": 0, "retry": 1}));
    let dump = machine.call("env_dpdk_get_mem_stats", None).unwrap();
    assert_eq!(dump, json!({"filename": ""}));
}

#[test]
fn devices_are_listed_with_their_configuration_space() {
    let mut machine = Machine::new();
    assert_eq!(machine.call("framework_get_pci_devices", None).unwrap(), json!([]));
    let list = || {
        let address = PciAddress::new(0, 0x5e, 0, 3);
        vec![PciState { address, kind: "nvme", node: Some(1), config: vec![0x86, 0x80, 0x0a] }]
    };
    machine.boot().provide(Rc::new(PciControl::new(list)));
    let devices = machine.call("framework_get_pci_devices", None).unwrap();
    let expected = json!([{
        "address": "0000:5e:00.3", "type": "nvme", "numa_id": 1, "config_space": "86800A",
    }]);
    assert_eq!(devices, expected);
}
