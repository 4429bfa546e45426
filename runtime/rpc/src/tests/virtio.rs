use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_env::PciAddress;
use serde_json::json;

use super::Machine;
use crate::methods::{VirtioControl, VirtioKind, VirtioState};
use crate::{RpcError, errno};

const ADDRESS: PciAddress = PciAddress::new(0, 0, 4, 0);

/// A machine with a SCSI host.
fn machine() -> Machine {
    let machine = Machine::new();
    let attached: Rc<RefCell<Vec<VirtioState>>> = Rc::default();
    let [listed, added, removed] = [(); 3].map(|()| Rc::clone(&attached));
    let control = VirtioControl::new(
        move || listed.borrow().clone(),
        move |name, kind, address| {
            let known = (kind, address) == (VirtioKind::Scsi, ADDRESS);
            let bdevs = vec![format!("{name}t0"), format!("{name}t1")];
            if known {
                let state = VirtioState { name, kind, address, queues: 2, queue_size: 128 };
                added.borrow_mut().push(state);
            }
            let error = RpcError::errno(errno::ENODEV, "there is none");
            Box::pin(async move { if known { Ok(bdevs) } else { Err(error) } })
        },
        move |name| {
            removed.borrow_mut().retain(|state| state.name != name);
            Box::pin(async { Ok(()) })
        },
    );
    machine.boot().provide(Rc::new(control));
    machine
}

#[test]
fn virtio_disks_are_attached_shown_saved_and_detached() {
    let mut machine = machine();
    let params = json!({"name": "V", "trtype": "pci", "traddr": "00:04.0", "dev_type": "scsi"});
    let bdevs = machine.call("bdev_virtio_attach_controller", params.clone()).unwrap();
    assert_eq!(bdevs, json!(["Vt0", "Vt1"]));
    let shown = json!([{"name": "V", "virtio": {"vq_count": 2, "vq_size": 128,
        "type": "pci-modern", "pci_address": "0000:00:04.0"}}]);
    assert_eq!(machine.call("bdev_virtio_scsi_get_devices", json!({})).unwrap(), shown);
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    let call = json!({"method": "bdev_virtio_attach_controller", "params": params});
    assert!(saved.as_array().unwrap().contains(&call), "{saved}");
    let name = json!({"name": "V"});
    assert_eq!(machine.call("bdev_virtio_detach_controller", name.clone()).unwrap(), true);
    let saved = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
    assert!(!saved.as_array().unwrap().contains(&call), "{saved}");
    assert_eq!(machine.code("bdev_virtio_detach_controller", name), -19);
}

#[test]
fn what_cannot_be_attached_is_refused_by_name() {
    let mut machine = machine();
    let good = json!({"name": "V", "trtype": "pci", "traddr": "00:04.0", "dev_type": "scsi"});
    for (key, value, code) in [
        ("dev_type", "tape", -22),
        ("trtype", "user", -22),
        ("traddr", "/var/tmp/sock", -22),
        ("traddr", "00:05.0", -19),
        ("dev_type", "blk", -19),
    ] {
        let mut wrong = good.clone();
        wrong[key] = value.into();
        assert_eq!(machine.code("bdev_virtio_attach_controller", wrong.clone()), code, "{wrong}");
    }
    let mut without = Machine::new();
    assert_eq!(without.code("bdev_virtio_attach_controller", good), -19);
    assert_eq!(without.call("bdev_virtio_scsi_get_devices", json!({})).unwrap(), json!([]));
}
