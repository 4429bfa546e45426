//! An IOMMU keeps every device to the memory it was given, and one that strays is named.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::initiator::Initiator;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    disk
}

/// A machine on which QEMU's device for teaching is told to write to the image's heap.
fn straying() -> BasaltGuest {
    BasaltGuest::new("stray")
        .firmware_file("opt/basalt/fault", "stray-dma")
        .qemu_arg("-device")
        .qemu_arg("edu,addr=1e.0")
}

fn guarded(guest: BasaltGuest, options: &str) -> BasaltGuest {
    guest
        .qemu_arg("-device")
        .qemu_arg(&format!("intel-iommu{options}"))
        .qemu_arg("-global")
        .qemu_arg("virtio-device.iommu_platform=on")
}

#[test]
fn a_device_that_strays_is_stopped_and_named() {
    let disk = disk();
    let (machine, port) = straying().disk(disk.path()).user_network(4420);
    let guest = guarded(machine, "").start();
    let named = "ERROR iommu: device 0000:00:1e.0 was kept from writing to address 0x";
    let line = guest.wait_for_line(named, BOOT);
    assert!(line.ends_with("nobody has allowed it any memory"), "{line}");
    for who in ["nobody has allowed anything", "is allowed the DMA memory"] {
        let outcome = format!("a device that {who} has left the heap untouched");
        guest.wait_for_line(&outcome, BOOT);
    }
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let on = host.namespaces().unwrap()[0];
    host.verify(on, 0, 1 << 20, 1).unwrap();
}

/// What the test above would look like if nothing were stopped.
#[test]
fn without_an_iommu_the_same_device_overwrites_memory() {
    let guest = straying().start();
    guest.wait_for_line("nobody has allowed anything has left the heap overwritten", BOOT);
}

#[test]
fn units_of_other_kinds_work_as_well() {
    for options in [",aw-bits=48", ",caching-mode=on", ",aw-bits=39,device-iotlb=on"] {
        let disk = disk();
        let machine = BasaltGuest::new("basalt").disk(disk.path()).memory_mib(6 << 10);
        let (machine, port) = machine.user_network(4420);
        let guest = guarded(machine, options).start();
        guest.wait_for_line("1 remapping units keep devices to the DMA memory", BOOT);
        guest.wait_for_line("basalt: ready", BOOT);
        let mut host = Initiator::connect(port).unwrap();
        let on = host.namespaces().unwrap()[0];
        host.verify(on, 0, 1 << 20, 1).unwrap();
        let wrong = |line: &&String| line.contains("ERROR") || line.contains("was kept from");
        assert_eq!(guest.lines().iter().find(wrong), None, "intel-iommu{options}");
    }
}

#[test]
fn a_drive_behind_an_old_bridge_works_under_the_bridges_name() {
    let disk = disk();
    let (machine, port) = BasaltGuest::new("basalt").user_network(4420);
    let guest = guarded(machine, "")
        .qemu_arg("-device")
        .qemu_arg("pcie-pci-bridge,id=old,addr=1c.0")
        .qemu_arg("-device")
        .qemu_arg("pci-bridge,id=older,chassis_nr=5,bus=old,addr=2")
        .qemu_arg("-drive")
        .qemu_arg(&format!("if=none,id=disk,format=raw,file={}", disk.path().display()))
        .qemu_arg("-device")
        .qemu_arg("nvme,serial=old,drive=disk,bus=older,addr=3")
        .start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let on = host.namespaces().unwrap()[0];
    host.verify(on, 0, 1 << 20, 1).unwrap();
    let wrong = |line: &&String| line.contains("ERROR") || line.contains("was kept from");
    assert_eq!(guest.lines().iter().find(wrong), None);
}
