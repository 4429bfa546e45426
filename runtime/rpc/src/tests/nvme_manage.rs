//! What is administered of NVMe controllers, with a controller that only takes note.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_bdev::{NvmeNamespaces, NvmeOrder, NvmeReport, NvmeSubject};
use basalt_env::PciAddress;
use basalt_nvme_spec::NSID_ALL;
use basalt_nvme_spec::log_page::{
    CommandEffects, FirmwareSlots, SanitizeStatus, SelfTestLog, SelfTestResult,
};
use basalt_nvme_spec::manage::*;
use serde_json::{Value, json};

use super::Machine;
use crate::methods::{NvmeControl, NvmeRefusal, NvmeState};
use crate::{RpcError, errno};

type Orders = Rc<RefCell<Vec<NvmeOrder>>>;

fn answer(order: &NvmeOrder) -> Result<NvmeReport, NvmeRefusal> {
    Ok(match order {
        NvmeOrder::DeleteNamespace(_) => return Err(NvmeRefusal::InUse("Nvme0n1".into())),
        NvmeOrder::AttachNamespace(_) => {
            let error = RpcError::errno(errno::EOPNOTSUPP, "the controller does not offer that");
            return Err(NvmeRefusal::Failed(error));
        }
        NvmeOrder::CreateNamespace { .. } => NvmeReport::Created(7),
        NvmeOrder::CommitFirmware { .. } => NvmeReport::Committed(Activation::SubsystemReset),
        NvmeOrder::Tell(subject) => tell(*subject),
        _ => NvmeReport::Done,
    })
}

fn tell(subject: NvmeSubject) -> NvmeReport {
    match subject {
        NvmeSubject::Firmware => {
            let mut slots = FirmwareSlots { active: 0x21, ..FirmwareSlots::default() };
            (slots.revision[0], slots.revision[1]) = (*b"1.0     ", *b"2.0-beta");
            NvmeReport::Firmware(Box::new(slots))
        }
        NvmeSubject::Effects => {
            let mut effects = CommandEffects::default();
            effects.admin[0x80] = 0x2_0007.into();
            NvmeReport::Effects(Box::new(effects))
        }
        NvmeSubject::SelfTests => {
            let mut log = SelfTestLog { current: 2, completion: 40, ..SelfTestLog::default() };
            let unused = SelfTestResult { status: 0xf, ..SelfTestResult::default() };
            log.results = [unused; 20];
            log.results[0] = SelfTestResult {
                status: 0x17,
                segment: 3,
                valid: 0xf,
                nsid: 1.into(),
                lba: 99.into(),
                status_type: 2,
                status_code: 0x81,
                ..SelfTestResult::default()
            };
            NvmeReport::SelfTests(Box::new(log))
        }
        NvmeSubject::Sanitizing => NvmeReport::Sanitizing(Box::new(SanitizeStatus {
            progress: 0x8000.into(),
            status: (SanitizeStatus::IN_PROGRESS as u16 | 3 << 3).into(),
            seconds: [60.into(), u32::MAX.into(), 1.into()],
            ..SanitizeStatus::default()
        })),
        NvmeSubject::Namespaces => NvmeReport::Namespaces(NvmeNamespaces {
            allocated: vec![1, 2],
            attached: vec![1],
            controllers: vec![1, 5],
            total_bytes: 1 << 40,
            unallocated_bytes: u128::MAX,
        }),
    }
}

/// A machine with a controller `Nvme0`, and the orders that it has got.
fn machine() -> (Machine, Orders) {
    let machine = Machine::new();
    let orders = Orders::default();
    let notes = Rc::clone(&orders);
    let state = NvmeState {
        name: "Nvme0".into(),
        address: PciAddress::new(0, 0, 4, 0),
        cntlid: 1,
        state: "enabled".into(),
        bdevs: Vec::new(),
        model: "Model".into(),
        serial: "S1".into(),
        firmware: "1.0".into(),
    };
    let control = NvmeControl::new(
        move || vec![state.clone()],
        |_, _| Box::pin(async { Ok(Vec::new()) }),
        |_, _| Box::pin(async { Ok(()) }),
        |_| Box::pin(async { Ok(()) }),
        |_, passthru| Box::pin(async { (passthru, Ok(())) }),
        move |_, order| {
            let answer = answer(&order);
            notes.borrow_mut().push(order);
            Box::pin(async move { answer })
        },
    );
    machine.boot().provide(Rc::new(control));
    (machine, orders)
}

fn named(mut params: Value) -> Value {
    params["name"] = json!("Nvme0");
    params
}

fn format(target: FormatTarget, blocks: BlockFormat, erase: SecureErase) -> NvmeOrder {
    let settings = FormatSettings { erase, ..FormatSettings::default() };
    NvmeOrder::Format { target, blocks, settings }
}

#[test]
fn every_method_gives_the_controller_its_order() {
    let (mut machine, orders) = machine();
    let overwrite = OverwritePasses { pattern: 5, passes: 2, inverted: Inverted::Yes };
    let sanitize = Sanitize {
        action: SanitizeAction::Overwrite(overwrite),
        on_failure: OnFailure::Unrestricted,
        deallocation: Deallocation::No,
    };
    let table = [
        (
            "format_namespace",
            json!({"nsid": 3, "block_size": 4096, "erase": "user_data"}),
            format(FormatTarget::Namespace(3), BlockFormat::Size(4096), SecureErase::UserData),
        ),
        (
            "format_namespace",
            json!({"nsid": "all", "lbaf": 2}),
            format(FormatTarget::All, BlockFormat::Index(2), SecureErase::None),
        ),
        ("detach_namespace", json!({"nsid": 4}), NvmeOrder::DetachNamespace(4)),
        (
            "download_firmware",
            json!({"offset": 8, "data": "+/8="}),
            NvmeOrder::DownloadFirmware { offset: 8, image: vec![0xfb, 0xff] },
        ),
        (
            "download_firmware",
            json!({"data": "-_8="}),
            NvmeOrder::DownloadFirmware { offset: 0, image: vec![0xfb, 0xff] },
        ),
        (
            "self_test",
            json!({"action": "short"}),
            NvmeOrder::SelfTest { nsid: NSID_ALL, test: SelfTest::Short },
        ),
        (
            "sanitize",
            json!({"action": "overwrite", "pattern": 5, "passes": 2, "invert": true,
                   "unrestricted": true, "no_deallocate": true}),
            NvmeOrder::Sanitize(sanitize),
        ),
    ];
    for (method, params, expected) in table {
        let method = alloc::format!("bdev_nvme_{method}");
        assert_eq!(machine.call(&method, named(params)).unwrap(), true, "{method}");
        assert_eq!(orders.borrow_mut().pop(), Some(expected), "{method}");
    }
    let create = named(json!({"num_blocks": 100, "block_size": 512}));
    assert_eq!(machine.call("bdev_nvme_create_namespace", create).unwrap(), json!({"nsid": 7}));
    let commit = named(json!({"slot": 2, "action": "store_and_activate_at_reset"}));
    let answer = machine.call("bdev_nvme_commit_firmware", commit).unwrap();
    assert_eq!(answer, json!({"activation": "subsystem_reset"}));
    let last =
        NvmeOrder::CommitFirmware { slot: 2, action: FirmwareAction::StoreAndActivateAtReset };
    assert_eq!(orders.borrow_mut().pop(), Some(last));
}

#[test]
fn an_order_that_is_not_clear_reaches_no_controller() {
    let (mut machine, orders) = machine();
    for (method, params) in [
        ("format_namespace", json!({"nsid": 1})),
        ("format_namespace", json!({"block_size": 512})),
        ("format_namespace", json!({"nsid": 0, "block_size": 512})),
        ("format_namespace", json!({"nsid": NSID_ALL, "block_size": 512})),
        ("format_namespace", json!({"nsid": "ALL", "block_size": 512})),
        ("format_namespace", json!({"nsid": 1, "block_size": 512, "lbaf": 0})),
        ("format_namespace", json!({"nsid": 1, "block_size": 512, "erase": "all"})),
        ("format_namespace", json!({"nsid": 1, "block_size": 512, "ses": 1})),
        ("delete_namespace", json!({"nsid": NSID_ALL})),
        ("detach_namespace", json!({"nsid": 0})),
        ("create_namespace", json!({"block_size": 512})),
        ("download_firmware", json!({"data": "no base64"})),
        ("commit_firmware", json!({"slot": 1})),
        ("self_test", json!({"nsid": 1})),
        ("sanitize", json!({})),
        ("sanitize", json!({"action": "block_erase", "passes": 3})),
        ("get_log", json!({"log": "smart"})),
    ] {
        let method = alloc::format!("bdev_nvme_{method}");
        let code = machine.code(&method, named(params.clone()));
        assert_eq!(code, RpcError::INVALID_PARAMS, "{method} {params}");
    }
    assert_eq!(*orders.borrow(), []);
    let other = json!({"name": "Nvme1", "nsid": 1});
    assert_eq!(machine.code("bdev_nvme_delete_namespace", other), -19);
}

#[test]
fn a_bdev_in_use_is_not_lost_and_its_users_are_named() {
    let (mut machine, _) = machine();
    let disk = json!({"name": "Nvme0n1", "num_blocks": 4096, "block_size": 512});
    machine.call("bdev_malloc_create", disk).unwrap();
    let delete = |machine: &mut Machine| {
        machine.call("bdev_nvme_delete_namespace", named(json!({"nsid": 1}))).unwrap_err()
    };
    let refused = delete(&mut machine);
    assert_eq!(refused, RpcError::new(-16, "Nvme0n1 is in use: nothing was done"));
    let over = json!({"name": "Over", "base_bdev_name": "Nvme0n1"});
    machine.call("bdev_passthru_create", over).unwrap();
    let message = "Nvme0n1 is in use by Over: nothing was done";
    assert_eq!(delete(&mut machine).message, message);
    let refused = machine.call("bdev_nvme_attach_namespace", named(json!({"nsid": 1})));
    assert_eq!(refused.unwrap_err().message, "the controller does not offer that");
}

#[test]
fn logs_are_told_in_words() {
    let (mut machine, _) = machine();
    let mut log = |name| machine.call("bdev_nvme_get_log", named(json!({"log": name}))).unwrap();
    let firmware = json!({"active_slot": 1, "next_slot": 2, "slots": [
        {"slot": 1, "revision": "1.0"}, {"slot": 2, "revision": "2.0-beta"},
    ]});
    assert_eq!(log("firmware"), firmware);
    let effects = json!({"admin": [{
        "opcode": 0x80, "name": "Format NVM", "exclusion": 2,
        "effects": ["logical_blocks_change", "namespaces_change"],
    }], "io": []});
    assert_eq!(log("effects"), effects);
    let tests = json!({
        "under_way": {"test": "extended", "completion_percent": 40},
        "results": [{
            "test": "short", "outcome": "failed_in_segment", "segment": 3, "power_on_hours": 0,
            "nsid": 1, "failing_lba": 99, "status": "unrecovered read error (0x2/0x81)",
        }],
    });
    assert_eq!(log("self_test"), tests);
    let sanitizing = json!({
        "state": "in_progress", "completion_percent": 50, "passes_done": 3,
        "estimated_seconds": {"overwrite": 60, "block_erase": null, "crypto_erase": 1},
    });
    assert_eq!(log("sanitize"), sanitizing);
    let namespaces = json!({"allocated": [1, 2], "attached": [1], "controllers": [1, 5],
        "total_bytes": 1_u64 << 40, "unallocated_bytes": u64::MAX});
    assert_eq!(machine.call("bdev_nvme_get_namespaces", named(json!({}))).unwrap(), namespaces);
}

#[test]
fn the_methods_are_listed_and_firmware_from_a_file_is_pointed_to_them() {
    let (mut machine, _) = machine();
    let listed = machine.call("rpc_get_methods", None).unwrap();
    let listed: Vec<&str> = listed.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in [
        "format_namespace",
        "create_namespace",
        "delete_namespace",
        "attach_namespace",
        "detach_namespace",
        "get_namespaces",
        "download_firmware",
        "commit_firmware",
        "self_test",
        "sanitize",
        "get_log",
    ] {
        let name = alloc::format!("bdev_nvme_{name}");
        assert!(listed.contains(&name.as_str()), "{name}");
    }
    let file = json!({"bdev_name": "Nvme0n1", "filename": "firmware.bin"});
    let refused = machine.call("bdev_nvme_apply_firmware", file).unwrap_err();
    assert_eq!(refused.code, -95);
    for remedy in ["bdev_nvme_download_firmware", "bdev_nvme_commit_firmware"] {
        assert!(refused.message.contains(remedy), "{}", refused.message);
    }
}
