use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cell::RefCell;
use core::num::NonZeroU16;
use core::time::Duration;

use basalt_bdev::{
    Access, AsyncChannel, Io, IoError, NvmePassthru, NvmeReport, Op, Registry, SgList,
};
use basalt_env::{DmaPool, PciAddress};
use basalt_nvme_spec::{ErrorChange, Fate, InjectedError, QueueKind, Status};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};

use super::Machine;
use crate::methods::{NvmeControl, NvmeState, NvmeSwitch};
use crate::{RpcError, errno};

const UUID: &str = "01234567-89ab-4cde-8f01-23456789abcd";

/// What the client sends for `bdev_malloc_create 1 512`.
fn malloc() -> Value {
    json!({
        "num_blocks": 2048,
        "block_size": 512,
        "md_interleave": false,
        "dif_is_head_of_md": false,
    })
}

fn with(mut params: Value, name: &str, value: Value) -> Value {
    params[name] = value;
    params
}

#[test]
fn a_malloc_bdev_is_made_listed_and_deleted() {
    let mut machine = Machine::new();
    let params = with(malloc(), "uuid", json!(UUID));
    assert_eq!(machine.call("bdev_malloc_create", params).unwrap(), "Malloc0");
    let expected = json!([{
        "name": "Malloc0",
        "aliases": [UUID],
        "product_name": "Malloc disk",
        "block_size": 512,
        "num_blocks": 2048,
        "uuid": UUID,
        "numa_id": -1,
        "assigned_rate_limits": {
            "rw_ios_per_sec": 0,
            "rw_mbytes_per_sec": 0,
            "r_mbytes_per_sec": 0,
            "w_mbytes_per_sec": 0,
        },
        "claimed": false,
        "zoned": false,
        "supported_io_types": {
            "read": true, "write": true, "unmap": true, "flush": true, "write_zeroes": true,
            "reset": true, "nvme_admin": false, "nvme_io": false, "nvme_io_md": false,
            "zcopy": false, "get_zone_info": false, "zone_management": false,
            "zone_append": false, "compare": false, "compare_and_write": false, "abort": true,
            "seek_hole": false, "seek_data": false, "copy": false, "nvme_iov_md": false,
        },
        "driver_specific": {},
    }]);
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap(), expected);
    assert_eq!(machine.call("bdev_get_bdevs", json!({"name": UUID})).unwrap(), expected);
    assert_eq!(machine.code("bdev_null_delete", json!({"name": "Malloc0"})), -19);
    let name = json!({"name": "Malloc0"});
    assert_eq!(machine.call("bdev_malloc_delete", name.clone()).unwrap(), true);
    assert_eq!(machine.call("bdev_get_bdevs", None).unwrap(), json!([]));
    assert_eq!(machine.code("bdev_malloc_delete", name), -19);
}

#[test]
fn a_bdev_that_cannot_be_made_says_why_by_errno() {
    let mut machine = Machine::new();
    machine.call("bdev_malloc_create", with(malloc(), "name", json!("M"))).unwrap();
    let table = [
        (with(malloc(), "name", json!("M")), -17),
        (with(malloc(), "block_size", json!(513)), -22),
        (with(malloc(), "num_blocks", json!(0)), -22),
        (with(malloc(), "num_blocks", json!(u64::MAX)), -12),
        (with(malloc(), "md_size", json!(8)), -95),
        (with(malloc(), "uuid", json!("not one")), -32602),
    ];
    for (params, code) in table {
        assert_eq!(machine.code("bdev_malloc_create", params.clone()), code, "{params}");
    }
}

#[test]
fn a_null_bdev_is_made_and_deleted() {
    let mut machine = Machine::new();
    let params = json!({"name": "N", "num_blocks": 8, "block_size": 4096,
        "dif_is_head_of_md": false, "uuid": UUID});
    assert_eq!(machine.call("bdev_null_create", params).unwrap(), "N");
    let listed = machine.call("bdev_get_bdevs", json!({"name": "N"})).unwrap();
    assert_eq!(listed[0]["product_name"], "Null disk");
    let resize = |size| json!({"name": "N", "new_size": size});
    assert_eq!(machine.call("bdev_null_resize", resize(3)).unwrap(), true);
    let listed = machine.call("bdev_get_bdevs", json!({"name": "N"})).unwrap();
    let bytes = ["num_blocks", "block_size"].map(|name| listed[0][name].as_u64().unwrap());
    assert_eq!(bytes[0] * bytes[1], 3 << 20);
    assert_eq!(machine.code("bdev_null_resize", resize(0)), -22);
    assert_eq!(machine.code("bdev_null_resize", json!({"name": "M", "new_size": 1})), -19);
    assert_eq!(machine.call("bdev_null_delete", json!({"name": "N"})).unwrap(), true);
}

#[test]
fn listing_waits_for_a_bdev_up_to_its_timeout() {
    let mut machine = Machine::new();
    let waiting = json!({"name": "Malloc0", "timeout": 50});
    assert_eq!(machine.code("bdev_get_bdevs", waiting.clone()), -19);
    let (rpc, local) = (machine.rpc.clone(), machine.boot());
    machine.boot().spawn("later", async move {
        local.sleep(core::time::Duration::from_millis(20)).await;
        rpc.call("bdev_malloc_create", Some(malloc())).await.unwrap();
    });
    assert_eq!(machine.call("bdev_get_bdevs", waiting).unwrap()[0]["name"], "Malloc0");
}

#[test]
fn statistics_are_given_per_bdev_and_per_channel() {
    let mut machine = Machine::with_cores(2);
    machine.call("bdev_malloc_create", malloc()).unwrap();
    let all = machine.call("bdev_get_iostat", json!({"per_channel": false})).unwrap();
    assert_eq!(all["tick_rate"], 1_000_000_000);
    let fields = all["bdevs"][0].as_object().unwrap();
    assert_eq!(fields.len(), 22);
    assert_eq!((&fields["name"], &fields["num_read_ops"]), (&json!("Malloc0"), &json!(0)));
    let params = json!({"names": ["Malloc0"], "per_channel": true, "reset_mode": "all"});
    let each = machine.call("bdev_get_iostat", params).unwrap();
    assert_eq!(each["name"], "Malloc0");
    assert_eq!(each["channels"][1]["thread_id"], 2);
    assert_eq!(machine.code("bdev_get_iostat", json!({"per_channel": true})), -32602);
    assert_eq!(machine.code("bdev_get_iostat", json!({"names": ["none"]})), -19);
    assert_eq!(machine.code("bdev_get_iostat", json!({"reset_mode": "min"})), -32602);
    assert_eq!(machine.call("bdev_reset_iostat", None).unwrap(), true);
}

#[test]
fn failures_are_told_apart_and_reset_apart() {
    let mut machine = Machine::new();
    machine.call("bdev_malloc_create", with(malloc(), "name", json!("M"))).unwrap();
    machine.call("bdev_error_create", json!({"base_name": "M"})).unwrap();
    let error = json!({"name": "EE_M", "io_type": "unmap", "error_type": "failure", "num": 2});
    machine.call("bdev_error_inject_error", error).unwrap();
    let local = machine.boot();
    let registry = local.service::<Registry>().unwrap();
    let disk = registry.open("EE_M", Access::ReadWrite).unwrap();
    let channel = disk.channel(&local).unwrap();
    let channel = AsyncChannel::new(&local, channel, NonZeroU16::MIN, "test").unwrap();
    let host = basalt_hosted::Machine::new();
    let pool = DmaPool::new(host.arena(1 << 20).unwrap());
    local.provide(Rc::new(pool.clone()));
    machine.run(async move {
        for fails in [true, true, false] {
            assert_eq!(channel.unmap(0, 1).await.1.is_err(), fails);
        }
        let mut other = pool.alloc(512).unwrap();
        other.as_mut_slice().fill(1);
        let compare = Io::with_data(Op::Compare, 0, 1, SgList::One(other), 0);
        assert!(channel.submit(compare).await.1.unwrap_err().is_miscompare());
    });
    let done = machine.call("accel_get_stats", None).unwrap();
    let of = |opcode: &str, failed: u32, num_bytes: u32| {
        json!({"opcode": opcode, "module_name": "software", "executed": 1, "failed": failed,
               "num_bytes": num_bytes})
    };
    // The buffer that was read into had been empty.
    let mut fill = of("fill", 0, 1024);
    fill["executed"] = json!(2);
    assert_eq!(done["operations"], json!([fill, of("compare", 1, 512)]));
    let stat = |machine: &mut Machine, mode: &str| {
        let params = json!({"name": "EE_M", "reset_mode": mode});
        machine.call("bdev_get_iostat", params).unwrap()["bdevs"][0].take()
    };
    let (errors, none) = (json!({"nvme_error": 2, "miscompare": 1}), json!({}));
    let first = stat(&mut machine, "maxmin");
    assert_eq!((&first["io_error"], &first["num_unmap_ops"]), (&errors, &json!(1)));
    assert!(first["min_unmap_latency_ticks"].as_u64() > Some(0), "{first}");
    let then = stat(&mut machine, "error");
    let times = ["min_unmap_latency_ticks", "max_unmap_latency_ticks"].map(|name| &then[name]);
    assert_eq!((&then["io_error"], times), (&errors, [&json!(0); 2]));
    assert_eq!(then["unmap_latency_ticks"], first["unmap_latency_ticks"]);
    let last = stat(&mut machine, "none");
    assert_eq!((&last["io_error"], &last["num_unmap_ops"]), (&none, &json!(1)));
    for (mode, ops) in [("none", 1), ("maxmin", 1), ("error", 1), ("all", 0)] {
        let params = json!({"name": "EE_M", "mode": mode});
        assert_eq!(machine.call("bdev_reset_iostat", params).unwrap(), true);
        assert_eq!(stat(&mut machine, "none")["num_unmap_ops"], ops, "{mode}");
    }
}

#[test]
fn examination_is_always_over() {
    let mut machine = Machine::new();
    assert_eq!(machine.call("bdev_wait_for_examine", None).unwrap(), true);
    assert_eq!(machine.code("bdev_examine", json!({"name": "none"})), -19);
}

#[test]
fn nvme_controllers_are_listed_reset_and_detached() {
    let mut machine = Machine::new();
    assert_eq!(machine.call("bdev_nvme_get_controllers", None).unwrap(), json!([]));
    assert_eq!(machine.code("bdev_nvme_reset_controller", json!({"name": "Nvme0"})), -19);
    let state = NvmeState {
        name: "Nvme0".into(),
        address: PciAddress::new(0, 0, 4, 0),
        cntlid: 7,
        state: "enabled".into(),
        bdevs: vec![],
        model: "Model".into(),
        serial: "S1".into(),
        firmware: "1.0".into(),
    };
    let attached = Rc::new(RefCell::new(vec![state]));
    let (list, detach) = (Rc::clone(&attached), attached);
    let switched = Rc::new(RefCell::new(vec![]));
    let notes = Rc::clone(&switched);
    let control = NvmeControl::new(
        move || list.borrow().clone(),
        |_, _| Box::pin(async { Err(RpcError::errno(errno::ENODEV, "there is none")) }),
        move |_, to| {
            notes.borrow_mut().push(to);
            let stuck = RpcError::errno(errno::EIO, "the controller is stuck");
            let result = if to == NvmeSwitch::Reset { Err(stuck) } else { Ok(()) };
            Box::pin(async { result })
        },
        move |_| {
            detach.borrow_mut().clear();
            Box::pin(async { Ok(()) })
        },
        |_, mut passthru| {
            // It gives back what it was sent, one more in each byte.
            let bytes = passthru.data.iter_mut().flat_map(|data| data.as_mut_slice());
            bytes.for_each(|byte| *byte += 1);
            let failed = Err(IoError::Nvme { sct: 1, sc: 0x0b, dnr: true });
            let status = if passthru.command[0] == 0xff { failed } else { Ok(()) };
            let passthru = NvmePassthru { result: passthru.command[10], ..passthru };
            Box::pin(async move { (passthru, status) })
        },
        |_, _| Box::pin(async { Ok(NvmeReport::Done) }),
    );
    machine.boot().provide(Rc::new(control));
    let name = json!({"name": "Nvme0"});
    let expected = json!([{"name": "Nvme0", "ctrlrs": [{
        "state": "enabled",
        "trid": {"trtype": "PCIe", "traddr": "0000:00:04.0"},
        "cntlid": 7,
        "host": {"nqn": "", "addr": "", "svcid": ""},
        "numa_id": -1,
    }]}]);
    assert_eq!(machine.call("bdev_nvme_get_controllers", name.clone()).unwrap(), expected);
    assert_eq!(machine.code("bdev_nvme_get_controllers", json!({"name": "Nvme1"})), -19);
    assert_eq!(machine.code("bdev_nvme_reset_controller", name.clone()), -5);
    for method in ["bdev_nvme_disable_controller", "bdev_nvme_enable_controller"] {
        assert_eq!(machine.code(method, json!({"name": "Nvme0", "cntlid": 8})), -19);
        assert_eq!(machine.call(method, json!({"name": "Nvme0", "cntlid": 7})).unwrap(), true);
    }
    let all = [NvmeSwitch::Reset, NvmeSwitch::Disable, NvmeSwitch::Enable];
    assert_eq!(switched.take(), all);
    errors_are_injected_as_asked(&mut machine, &switched);
    admin_commands_are_sent_as_they_are(&mut machine);
    the_health_is_that_of_the_log_page(&mut machine);
    assert_eq!(machine.call("bdev_nvme_detach_controller", name.clone()).unwrap(), true);
    assert_eq!(machine.code("bdev_nvme_detach_controller", name), -19);
}

fn errors_are_injected_as_asked(machine: &mut Machine, switched: &RefCell<Vec<NvmeSwitch>>) {
    let call = |machine: &mut Machine, verb: &str, more: Value| {
        let mut params = json!({"name": "Nvme0", "cmd_type": "io", "opc": 2});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params.as_object_mut().unwrap().retain(|_, value| *value != "missing");
        machine.call(&format!("bdev_nvme_{verb}_error_injection"), params)
    };
    let plain =
        InjectedError { opcode: 2, fate: Fate::Submitted, count: 1, status: Status::SUCCESS };
    let held = InjectedError {
        opcode: 255,
        fate: Fate::Held(Duration::from_micros(u64::MAX)),
        count: u32::MAX,
        status: Status::new(7, 0xff),
    };
    let all = json!({
        "cmd_type": "admin", "opc": 255, "do_not_submit": true, "timeout_in_us": u64::MAX,
        "err_count": u32::MAX, "sct": 7, "sc": 255,
    });
    let nulls = json!({
        "do_not_submit": false, "timeout_in_us": 5, "err_count": null, "sct": null, "sc": null,
    });
    for (verb, more) in [("add", json!({})), ("add", nulls), ("add", all), ("remove", json!({}))] {
        assert_eq!(call(machine, verb, more).unwrap(), true);
    }
    let [io, admin] = [QueueKind::Io, QueueKind::Admin];
    let expected = [
        NvmeSwitch::Errors(io, ErrorChange::Add(plain)),
        NvmeSwitch::Errors(io, ErrorChange::Add(plain)),
        NvmeSwitch::Errors(admin, ErrorChange::Add(held)),
        NvmeSwitch::Errors(io, ErrorChange::Remove(2)),
    ];
    assert_eq!(switched.take(), expected);
    for verb in ["add", "remove"] {
        assert_eq!(call(machine, verb, json!({"name": "Nvme9"})).unwrap_err().code, -19);
        for (name, value) in [
            ("cmd_type", json!("nvm")),
            ("cmd_type", json!(1)),
            ("cmd_type", json!("missing")),
            ("opc", json!(256)),
            ("opc", json!("missing")),
            ("name", json!("missing")),
            ("nsid", json!(1)),
        ] {
            let error = call(machine, verb, json!({name: value})).unwrap_err();
            assert!(error.code == -32602 && error.message.contains(name), "{error:?}");
        }
    }
    for (name, value) in
        [("sct", 8_i64), ("sc", 256), ("err_count", 1 << 32), ("timeout_in_us", -1)]
    {
        let error = call(machine, "add", json!({name: value})).unwrap_err();
        assert!(error.code == -32602 && error.message.contains(name), "{error:?}");
    }
    assert_eq!(switched.take(), []);
}

/// All of whose bytes are 1.
fn the_health_is_that_of_the_log_page(machine: &mut Machine) {
    let health =
        machine.call("bdev_nvme_get_controller_health_info", json!({"name": "Nvme0"})).unwrap();
    assert_eq!(
        (&health["serial_number"], &health["traddr"]),
        (&json!("S1"), &json!("0000:00:04.0"))
    );
    assert_eq!(health["temperature_celsius"], 257 - 273);
    assert_eq!(health["critical_composite_temperature_time_minutes"], 0x0101_0101);
    assert_eq!(health["media_errors"], u64::MAX, "more than JSON has for sure");
    assert_eq!(machine.code("bdev_nvme_get_controller_health_info", json!({"name": "X"})), -19);
}

fn admin_commands_are_sent_as_they_are(machine: &mut Machine) {
    machine.boot().provide(Rc::new(basalt_hosted::Machine::new().pool(4 << 20)));
    let send = |machine: &mut Machine, opcode: u8, more: Value| {
        let mut command = [0; 64];
        (command[0], command[40]) = (opcode, 77);
        let mut params = json!({
            "name": "Nvme0", "cmd_type": "admin", "data_direction": "c2h",
            "cmdbuf": URL_SAFE.encode(command),
        });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        machine.call("bdev_nvme_send_cmd", params)
    };
    let bytes = |text: &Value| URL_SAFE.decode(text.as_str().unwrap()).unwrap();
    let answer = send(machine, 6, json!({"data_len": 3})).unwrap();
    assert_eq!((bytes(&answer["data"]), bytes(&answer["cpl"])[0]), (vec![1; 3], 77));
    let failed = send(machine, 0xff, json!({})).unwrap();
    assert_eq!(bytes(&failed["cpl"])[14..], [0x16, 0x82], "status, type and DNR");
    let sent = json!({"data_direction": "h2c", "data": URL_SAFE.encode([1, 2])});
    assert_eq!(send(machine, 9, sent).unwrap()["data"], "");
    for (more, code) in [
        (json!({"name": "Nvme9"}), -19),
        (json!({"cmd_type": "io"}), -19),
        (json!({"cmd_type": "magic"}), -22),
        (json!({"data_direction": "up"}), -22),
        (json!({"cmdbuf": "AAAA"}), -22),
        (json!({"cmdbuf": "no base64"}), -22),
        (json!({"data_direction": "h2c", "data_len": 1}), -22),
        (json!({"data_len": 5 << 20}), -22),
        (json!({"metadata_len": 8}), -95),
    ] {
        assert_eq!(send(machine, 6, more.clone()).unwrap_err().code, code, "{more}");
    }
}

#[test]
fn limits_are_set_one_by_one_rounded_shown_and_saved() {
    let mut machine = Machine::new();
    let disk = json!({"name": "M", "num_blocks": 4096, "block_size": 512});
    machine.call("bdev_malloc_create", disk).unwrap();
    let set = |machine: &mut Machine, params| machine.call("bdev_set_qos_limit", params);
    let limits = json!({"name": "M", "rw_ios_per_sec": 20_001, "r_mbytes_per_sec": 5});
    assert_eq!(set(&mut machine, limits).unwrap(), true);
    assert_eq!(set(&mut machine, json!({"name": "M", "w_mbytes_per_sec": 7})).unwrap(), true);
    let shown = json!({"rw_ios_per_sec": 21_000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 5,
                       "w_mbytes_per_sec": 7});
    let bdevs = machine.call("bdev_get_bdevs", json!({"name": "M"})).unwrap();
    assert_eq!(bdevs[0]["assigned_rate_limits"], shown);
    let saved = |machine: &mut Machine| {
        let config = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
        let mut calls = config.as_array().unwrap().iter();
        calls.find(|call| call["method"] == "bdev_set_qos_limit").cloned()
    };
    let params = saved(&mut machine).unwrap()["params"].take();
    assert_eq!((&params["name"], &params["rw_ios_per_sec"]), (&json!("M"), &json!(21_000)));
    for wrong in [
        json!({"name": "M"}),
        json!({"name": "M", "rw_ios_per_sec": -1}),
        json!({"name": "M", "rw_mbytes_per_sec": i64::MAX}),
    ] {
        assert_eq!(set(&mut machine, wrong.clone()).unwrap_err().code, -22, "{wrong}");
    }
    assert_eq!(set(&mut machine, json!({"name": "X", "rw_ios_per_sec": 1})).unwrap_err().code, -19);
    let none =
        json!({"name": "M", "rw_ios_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0});
    assert_eq!(set(&mut machine, none).unwrap(), true);
    assert_eq!(saved(&mut machine), None);
}

#[test]
fn histograms_are_those_of_spdk() {
    let mut machine = Machine::new();
    let disk = json!({"name": "M", "num_blocks": 4096, "block_size": 512});
    machine.call("bdev_malloc_create", disk).unwrap();
    let name = json!({"name": "M"});
    assert_eq!(machine.code("bdev_get_histogram", name.clone()), -2);
    let enable = json!({"name": "M", "enable": true, "opc": "read"});
    assert_eq!(machine.call("bdev_enable_histogram", enable).unwrap(), true);
    let histogram = machine.call("bdev_get_histogram", name.clone()).unwrap();
    assert_eq!((&histogram["granularity"], &histogram["max_range"]), (&json!(7), &json!(57)));
    assert_eq!(histogram["tsc_rate"], 1_000_000_000);
    // 58 ranges of 128 counters of eight bytes, in base64.
    let len = histogram["histogram"].as_str().unwrap().len();
    assert_eq!(len, (58_usize * 128 * 8).div_ceil(3) * 4);
    let borders = |borders: Value| json!({"name": "M", "borders": borders});
    let method = "bdev_get_histogram_borders";
    let counts = machine.call(method, borders(json!([10, 1000]))).unwrap();
    assert_eq!(counts, json!({"borders": [10, 1000], "histogram": [0, 0, 0]}));
    for wrong in [json!([]), json!([2, 1]), json!(["1"])] {
        assert_eq!(machine.code(method, borders(wrong)), -32602);
    }
    let wrong = [
        json!({"opc": "smell"}),
        json!({"granularity": 30}),
        json!({"min_nsec": 9, "max_nsec": 3}),
    ];
    for wrong in wrong {
        let mut params = json!({"name": "M", "enable": true});
        params.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(machine.code("bdev_enable_histogram", params), -22, "{wrong}");
    }
    let disable = json!({"name": "M", "enable": false});
    assert_eq!(machine.call("bdev_enable_histogram", disable).unwrap(), true);
    assert_eq!(machine.code("bdev_get_histogram", name), -2);
    assert_eq!(machine.code(method, borders(json!([10]))), -2);
}

#[test]
fn the_queue_depth_is_shown_while_it_is_sampled() {
    let mut machine = Machine::with_cores(2);
    let disk = json!({"name": "M", "num_blocks": 4096, "block_size": 512});
    machine.call("bdev_malloc_create", disk).unwrap();
    let stat = |machine: &mut Machine| {
        machine.call("bdev_get_iostat", json!({"name": "M"})).unwrap()["bdevs"][0].take()
    };
    assert_eq!(stat(&mut machine)["queue_depth"], Value::Null);
    let period = |period| json!({"name": "M", "period": period});
    assert_eq!(machine.call("bdev_set_qd_sampling_period", period(100)).unwrap(), true);
    let shown = stat(&mut machine);
    assert_eq!(shown["queue_depth"], 0);
    assert_eq!(shown["queue_depth_polling_period"], 100);
    assert_eq!(machine.call("bdev_set_qd_sampling_period", period(0)).unwrap(), true);
    assert_eq!(stat(&mut machine)["queue_depth"], Value::Null);
    let other = json!({"name": "X", "period": 1});
    assert_eq!(machine.code("bdev_set_qd_sampling_period", other), -19);
}
