//! Drives whose blocks carry end-to-end protection, which the drive is asked to see to.

use std::path::Path;
use std::time::Duration;

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::initiator::Initiator;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);

/// A controller `name` with one namespace of that format.
fn drive(machine: BasaltGuest, name: &str, format: &str, disk: &Path) -> BasaltGuest {
    let file = format!("if=none,id={name}-file,format=raw,file={}", disk.display());
    let device = |machine: BasaltGuest, device: &str| machine.qemu_arg("-device").qemu_arg(device);
    let machine = machine.qemu_arg("-drive").qemu_arg(&file);
    let machine = device(machine, &format!("nvme,id={name},serial={name}"));
    device(machine, &format!("nvme-ns,bus={name},drive={name}-file,{format}"))
}

#[test]
fn protected_namespaces_of_every_type_keep_what_is_written() {
    let formats = [
        "ms=8,pi=1",
        "ms=8,pi=2,mset=1",
        "ms=8,pi=3,pil=1",
        "logical_block_size=4096,physical_block_size=4096,ms=8,pi=1,mset=1",
    ];
    let disks: Vec<_> = formats.iter().map(|_| NamedTempFile::new().unwrap()).collect();
    let (machine, port) = BasaltGuest::new("protected").cpus(2).user_network(4420);
    let machine =
        formats.iter().zip(&disks).enumerate().fold(machine, |machine, (at, (format, disk))| {
            disk.as_file().set_len(64 << 20).unwrap();
            drive(machine, &format!("drive{at}"), format, disk.path())
        });
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let namespaces = host.namespaces().unwrap();
    assert_eq!(namespaces.len(), formats.len());
    for (seed, on) in (1..).zip(namespaces) {
        for (lba, len) in [(0, 4096), (777, 128 << 10), (on.blocks - 128, 64 << 10)] {
            host.verify(on, lba, len, seed).unwrap();
        }
        // What was never written is not checked.
        let answer = host.read(on, 5000, 16).unwrap();
        assert_eq!(answer.status, 0, "an untouched block of {}", formats[seed as usize - 1]);
    }
}

#[test]
fn a_namespace_with_other_metadata_is_left_out_and_the_reason_told() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let guest = drive(BasaltGuest::new("metadata"), "odd", "ms=64", disk.path()).start();
    guest.wait_for_line("its blocks carry metadata that is no end-to-end protection", BOOT);
}
