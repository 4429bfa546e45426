//! Partitions of SPDK's type on a drive, in a table that somebody else wrote.

use std::fs::OpenOptions;
use std::time::Duration;

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::initiator::{Initiator, pattern};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::{LINUX_FS, OperatingSystem, Type};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

#[test]
fn partitions_of_spdks_type_are_served_and_the_drive_itself_is_not() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 * MIB).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(disk.path()).unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(file, None).unwrap();
    let ours = Type {
        guid: "6527994e-2c5a-4eec-9613-8f5944074e8b".parse().unwrap(),
        os: OperatingSystem::None,
    };
    let others = table.add_partition("root", 8 * MIB, LINUX_FS, 0, Some(2048)).unwrap();
    let first = table.add_partition("first", 4 * MIB, ours.clone(), 0, Some(2048)).unwrap();
    table.add_partition("second", 6 * MIB, ours, 0, Some(2048)).unwrap();
    let starts = [others, first].map(|id| table.partitions()[&id].first_lba * 512);
    table.write().unwrap();

    let (machine, port) = BasaltGuest::new("gpt").disk(disk.path()).user_network(4420);
    let guest = machine.start();
    guest.wait_for_line("Nvme0n1 is not served itself: other bdevs stand on it", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let namespaces = host.namespaces().unwrap();
    let sizes: Vec<_> = namespaces.iter().map(|on| on.blocks * 512).collect();
    assert_eq!(sizes, [4 * MIB, 6 * MIB]);
    host.verify(namespaces[0], 0, 1 << 20, 3).unwrap();
    host.verify(namespaces[1], namespaces[1].blocks - 128, 64 << 10, 4).unwrap();
    assert!(host.read(namespaces[0], namespaces[0].blocks, 1).unwrap().status != 0);
    drop(guest);
    let bytes = std::fs::read(disk.path()).unwrap();
    let at = |start: u64, len: usize| &bytes[start as usize..start as usize + len];
    assert!(at(starts[1], 1 << 20) == pattern(3, 1 << 20));
    assert!(at(starts[0], 8 << 20).iter().all(|byte| *byte == 0), "the other is left alone");
}
