//! Drives whose blocks carry metadata: end-to-end protection, which the drive is asked to see to,
//! and what there is room for beside it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
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

/// Boots with a drive of each format, and verifies what is written to each.
fn keep_what_is_written(name: &str, formats: &[&str]) -> anyhow::Result<()> {
    let disks: Vec<_> = formats.iter().map(|_| NamedTempFile::new()).collect::<Result<_, _>>()?;
    let (mut machine, port) = BasaltGuest::new(name).cpus(2).user_network(4420);
    for (at, (format, disk)) in formats.iter().zip(&disks).enumerate() {
        disk.as_file().set_len(64 << 20)?;
        machine = drive(machine, &format!("drive{at}"), format, disk.path());
    }
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port)?;
    let namespaces = host.namespaces()?;
    assert_eq!(namespaces.len(), formats.len());
    for ((seed, on), format) in (1..).zip(namespaces).zip(formats) {
        for (lba, len) in [(0, 4096), (777, 128 << 10), (on.blocks - 128, 64 << 10)] {
            host.verify(on, lba, len, seed).context(format.to_string())?;
        }
        // What was never written is not checked.
        let answer = host.read(on, 5000, 16)?;
        assert_eq!(answer.status, 0, "an untouched block of {format}");
    }
    Ok(())
}

#[test]
fn protected_namespaces_of_every_type_keep_what_is_written() {
    let large = "logical_block_size=4096,physical_block_size=4096,ms=8,pi=1,mset=1";
    let formats = ["ms=8,pi=1", "ms=8,pi=2,mset=1", "ms=8,pi=3,pil=1", large];
    keep_what_is_written("protected", &formats).unwrap();
}

#[test]
fn namespaces_with_other_metadata_keep_what_is_written() {
    let large = "logical_block_size=4096,physical_block_size=4096,ms=64,mset=1";
    let formats = ["ms=64", "ms=8,mset=1", "ms=16,pi=1", "ms=64,pi=2,pil=1,mset=1", large];
    keep_what_is_written("metadata", &formats).unwrap();
}
