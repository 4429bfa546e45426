//! The machine's own NVMe controllers are given names.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_bdev::{NvmeReport, Registry};
use basalt_env::PciAddress;
use basalt_nvmf::{Target, TransportConfig};
use serde_json::{Value, json};

use super::Machine;
use crate::methods::{NvmeControl, NvmeQueueStats, NvmeState};
use crate::{RpcError, errno};

type Attached = Rc<RefCell<Vec<NvmeState>>>;

fn at(device: u8) -> PciAddress {
    PciAddress::new(0, 0, device, 0)
}

/// A drive with one namespace, which is a bdev.
fn attach(
    registry: &Registry,
    attached: &Attached,
    name: &str,
    address: PciAddress,
) -> Vec<String> {
    let bdev = format!("{name}n1");
    let options = basalt_bdev::null::NullOptions {
        num_blocks: 8,
        block_size: 512,
        name: Some(bdev.clone()),
        uuid: None,
    };
    basalt_bdev::null::create(registry, options).unwrap();
    let (name, state) = (name.into(), "enabled".into());
    let bdevs = vec![bdev.clone()];
    let [model, serial, firmware] = [const { String::new() }; 3];
    let of = NvmeState { name, address, cntlid: 1, state, bdevs, model, serial, firmware };
    attached.borrow_mut().push(of);
    vec![bdev]
}

/// A machine of drives at 4 and 5, attached as `Nvme0` and `Nvme1`.
fn machine() -> (Machine, Attached) {
    let machine = Machine::new();
    let registry = machine.boot().service::<Registry>().unwrap();
    let attached = Attached::default();
    attach(&registry, &attached, "Nvme0", at(4));
    attach(&registry, &attached, "Nvme1", at(5));
    let (list, to, from) = (Rc::clone(&attached), Rc::clone(&attached), Rc::clone(&attached));
    let (adds, removes) = (Rc::clone(&registry), registry);
    let control = NvmeControl::new(
        move || list.borrow().clone(),
        move |name, address| {
            let known = [at(4), at(5)].contains(&address);
            let bdevs = known.then(|| attach(&adds, &to, &name, address));
            let none = RpcError::errno(errno::ENODEV, "there is none");
            Box::pin(async move { bdevs.ok_or(none) })
        },
        |_, _| Box::pin(async { Ok(()) }),
        move |name| {
            let is_it = |state: &mut NvmeState| state.name == name;
            for state in from.borrow_mut().extract_if(.., is_it) {
                state.bdevs.iter().for_each(|bdev| drop(removes.remove(bdev)));
            }
            Box::pin(async { Ok(()) })
        },
        |_, passthru| Box::pin(async { (passthru, Ok(())) }),
        |_, _| Box::pin(async { Ok(NvmeReport::Done) }),
    );
    machine.boot().provide(Rc::new(control));
    (machine, attached)
}

/// The call as SPDK saves it.
fn params(name: &str, traddr: &str) -> Value {
    json!({
        "name": name, "trtype": "PCIe", "traddr": traddr, "prchk_reftag": false,
        "prchk_guard": false, "ctrlr_loss_timeout_sec": 0, "reconnect_delay_sec": 0,
        "fast_io_fail_timeout_sec": 0, "hdgst": false, "ddgst": false, "multipath": "multipath",
        "allow_unrecognized_csi": false, "disable_sq_flow_control": false,
    })
}

fn names(attached: &Attached) -> Vec<(String, PciAddress)> {
    let attached = attached.borrow();
    let mut names: Vec<_> =
        attached.iter().map(|state| (state.name.clone(), state.address)).collect();
    names.sort();
    names
}

const ATTACH: &str = "bdev_nvme_attach_controller";

#[test]
fn a_drive_gets_the_name_that_a_configuration_of_spdks_gives_it_and_is_saved_with_it() {
    let (mut machine, attached) = machine();
    assert_eq!(machine.call(ATTACH, params("Fast", "0000:00:05.0")).unwrap(), json!(["Fastn1"]));
    assert_eq!(names(&attached), [("Fast".into(), at(5)), ("Nvme0".into(), at(4))]);
    // The name that it has already is confirmed, and then it is taken.
    assert_eq!(machine.call(ATTACH, params("Nvme0", "00:04.0")).unwrap(), json!(["Nvme0n1"]));
    assert_eq!(machine.code(ATTACH, params("Nvme0", "00:04.0")), -17);
    assert_eq!(machine.code(ATTACH, params("Other", "00:04.0")), -17);
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    assert_eq!(saved[0], json!({"method": ATTACH, "params": params("Fast", "0000:00:05.0")}));
    machine.call("bdev_nvme_detach_controller", json!({"name": "Fast"})).unwrap();
    machine.rpc.forget_nvme_controller("Nvme0");
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    assert_eq!(saved.as_array().map(Vec::len), Some(1), "but bdev_wait_for_examine");
    assert_eq!(machine.call(ATTACH, params("Slow", "00:05.0")).unwrap(), json!(["Slown1"]));
}

#[test]
fn drives_may_change_their_names_with_each_other() {
    let (mut machine, attached) = machine();
    assert_eq!(machine.call(ATTACH, params("Nvme1", "00:04.0")).unwrap(), json!(["Nvme1n1"]));
    assert_eq!(names(&attached), [("Nvme0".into(), at(5)), ("Nvme1".into(), at(4))]);
    assert_eq!(machine.call(ATTACH, params("Nvme0", "00:05.0")).unwrap(), json!(["Nvme0n1"]));
}

#[test]
fn a_drive_in_use_keeps_its_name_and_one_that_is_not_there_gets_none() {
    let (mut machine, attached) = machine();
    Target::start(&machine.boot(), TransportConfig::default());
    let nqn = "nqn.2026-11.org.example:a";
    machine.call("nvmf_create_subsystem", json!({"nqn": nqn})).unwrap();
    let namespace = json!({"nqn": nqn, "namespace": {"bdev_name": "Nvme0n1"}});
    machine.call("nvmf_subsystem_add_ns", namespace).unwrap();
    let refused = machine.call(ATTACH, params("Fast", "00:04.0")).unwrap_err();
    assert_eq!(refused.code, -16);
    assert!(refused.message.contains(nqn), "{}", refused.message);
    // Nor does it make way for another that is to have its name.
    assert_eq!(machine.code(ATTACH, params("Nvme0", "00:05.0")), -16);
    assert_eq!(names(&attached), [("Nvme0".into(), at(4)), ("Nvme1".into(), at(5))]);
    assert_eq!(machine.code(ATTACH, params("Far", "00:06.0")), -19);
    assert_eq!(machine.code(ATTACH, params("Far", "here")), -32602);
    assert_eq!(machine.code(ATTACH, params("", "00:06.0")), -32602);
    let mut unknown = params("Far", "00:06.0");
    unknown["colour"] = json!("red");
    assert_eq!(machine.code(ATTACH, unknown), -32602);
    assert_eq!(Machine::new().code(ATTACH, params("Far", "00:06.0")), -19);
}

#[test]
fn a_drive_is_let_go_of_by_its_name_and_its_address_if_that_is_said() {
    const DETACH: &str = "bdev_nvme_detach_controller";
    let (mut machine, attached) = machine();
    let call = |traddr: &str| json!({"name": "Nvme0", "trtype": "PCIe", "traddr": traddr});
    assert_eq!(machine.code(DETACH, call("0000:00:05.0")), -19);
    assert_eq!(machine.code(DETACH, call("10.0.0.7")), -19);
    assert_eq!(machine.call(DETACH, call("0000:00:04.0")).unwrap(), json!(true));
    assert_eq!(names(&attached), [("Nvme1".into(), at(5))]);
    assert_eq!(machine.call(DETACH, json!({"name": "Nvme1"})).unwrap(), json!(true));
    assert!(names(&attached).is_empty());
}

#[test]
fn a_drive_has_one_path() {
    let (mut machine, attached) = machine();
    let path = |at: &str, is_up| {
        json!({
            "bdev_name": "Nvme0n1", "cntlid": 1, "current": true, "connected": is_up,
            "accessible": is_up, "transport": {"trtype": "PCIe", "traddr": at},
        })
    };
    let mut paths = || {
        let found = machine.call("bdev_nvme_get_io_paths", json!({"name": "Nvme0n1"})).unwrap();
        found["poll_groups"][0]["io_paths"].clone()
    };
    assert_eq!(paths(), json!([path("0000:00:04.0", true)]));
    attached.borrow_mut()[0].state = "disabled".into();
    assert_eq!(paths(), json!([path("0000:00:04.0", false)]));
    let all = machine.call("bdev_nvme_get_io_paths", None).unwrap();
    assert_eq!(all["poll_groups"][0]["io_paths"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_has_gone_by_a_path_is_told_if_it_is_counted() {
    let (mut machine, _) = machine();
    let method = "bdev_nvme_get_path_iostat";
    let name = json!({"name": "Nvme0n1"});
    let refused = machine.call(method, name.clone()).unwrap_err();
    assert_eq!(refused.code, -1);
    let spdk = "RPC not enabled if enable_io_path_stat is false";
    assert!(refused.message.starts_with(spdk), "{}", refused.message);
    machine.call("bdev_nvme_set_options", json!({"io_path_stat": true})).unwrap();
    let told = machine.call(method, name).unwrap();
    assert_eq!(told["name"], "Nvme0n1");
    assert_eq!(told["stats"][0]["trid"], json!({"trtype": "PCIe", "traddr": "0000:00:04.0"}));
    let bdev = machine.call("bdev_get_iostat", json!({"name": "Nvme0n1"})).unwrap();
    let mut expected = bdev["bdevs"][0].clone();
    expected.as_object_mut().unwrap().remove("name");
    assert_eq!(told["stats"][0]["stat"], expected);
    assert_eq!(machine.code(method, json!({"name": "Nvme7n1"})), -19);
    assert_eq!(machine.code(method, None), -32602);
    assert!(machine.rpc.saved("bdev").iter().any(|call| call["params"]["io_path_stat"] == true));
}

#[test]
fn what_queues_have_done_is_told_by_core() {
    let (mut machine, attached) = machine();
    let control = NvmeControl::new(
        move || attached.borrow().clone(),
        |_, _| Box::pin(async { Ok(Vec::new()) }),
        |_, _| Box::pin(async { Ok(()) }),
        |_| Box::pin(async { Ok(()) }),
        |_, passthru| Box::pin(async { (passthru, Ok(())) }),
        |_, _| Box::pin(async { Ok(NvmeReport::Done) }),
    );
    let control = control.with_queue_stats(|local| {
        let submitted_requests = 7 + u64::from(local.core().0);
        Some(NvmeQueueStats { polls: 9, idle_polls: 2, submitted_requests, ..Default::default() })
    });
    machine.boot().provide(Rc::new(control));
    let method = "bdev_nvme_get_transport_statistics";
    let told = machine.call(method, None).unwrap();
    let group = &told["poll_groups"][0];
    assert_eq!(group["thread"], "reactor_0");
    let pcie = &group["transports"][0];
    assert_eq!((&pcie["trname"], &pcie["polls"]), (&json!("PCIe"), &json!(9)));
    assert_eq!((&pcie["idle_polls"], &pcie["submitted_requests"]), (&json!(2), &json!(7)));
    assert_eq!(pcie.as_object().map(|fields| fields.len()), Some(10));
    assert_eq!(machine.code(method, json!({"name": "x"})), -32602);
}
