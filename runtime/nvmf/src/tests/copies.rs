use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use basalt_bdev::Op;
use basalt_nvme_spec::{Command, CopyRange, IoFlags, SglDescriptor, Status};
use zerocopy::IntoBytes;

use super::host::Host;
use super::world::World;
use crate::DEFAULT_NQN;
use crate::connection::copy;
use crate::pdu::Digests;
use basalt_bdev::suite::disk::Disk;

const BLOCK: usize = 512;

/// A host of a disk of so many blocks whose every block begins with its number.
fn numbered(disk: Disk, blocks: u16) -> (World, Host) {
    {
        let mut bytes = disk.shared.bytes.lock();
        for lba in 0..blocks {
            bytes[usize::from(lba) * BLOCK..][..2].copy_from_slice(&lba.to_le_bytes());
        }
    }
    let mut world = World::with(1, Arc::new(disk));
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    (world, host)
}

fn copy(host: &mut Host, world: &mut World, lba: u64, ranges: &[CopyRange], flags: u32) -> Status {
    let bytes = ranges.as_bytes();
    let mut command = Command::copy(1, lba, ranges.len() as u32);
    command.cdw12 = (command.cdw12.get() | flags).into();
    command.set_sgl1(SglDescriptor::in_capsule(0, bytes.len() as u32));
    host.run(world, command, bytes, &[]).0.status()
}

#[test]
fn ranges_are_copied_one_after_the_other() {
    let disk = Disk::new(BLOCK as u32, 256);
    let shared = Arc::clone(&disk.shared);
    let (mut world, mut host) = numbered(disk, 256);
    let number = |lba: usize| {
        let bytes = shared.bytes.lock();
        u16::from_le_bytes([bytes[lba * BLOCK], bytes[lba * BLOCK + 1]])
    };
    let ranges = [CopyRange::new(3, 2), CopyRange::new(200, 1), CopyRange::new(7, 1)];
    assert!(copy(&mut host, &mut world, 50, &ranges, 0).is_success());
    assert!([50, 51, 52, 53, 54].map(number) == [3, 4, 200, 7, 54]);
    // To where some of it is, and durable.
    let flags = IoFlags::FUA.bits();
    assert!(copy(&mut host, &mut world, 4, &[CopyRange::new(3, 20)], flags).is_success());
    assert!((0..20).all(|block| number(4 + block) == 3 + block as u16));
    assert_eq!(shared.flushes.load(Ordering::Relaxed), 1);
}

#[test]
fn nothing_is_copied_unless_all_of_it_can_be() {
    let disk = Disk::new(BLOCK as u32, 256);
    let shared = Arc::clone(&disk.shared);
    let (mut world, mut host) = numbered(disk, 256);
    let before = shared.bytes.lock().clone();
    let good = CopyRange::new(0, 1);
    let mut failing = |lba, ranges: &[CopyRange], flags| {
        let status = copy(&mut host, &mut world, lba, ranges, flags);
        assert!(shared.bytes.lock()[..] == before[..]);
        status
    };
    assert!(failing(0, &[good, CopyRange::new(255, 2)], 0).is(Status::LBA_OUT_OF_RANGE));
    assert!(failing(255, &[good, good], 0).is(Status::LBA_OUT_OF_RANGE));
    assert!(failing(u64::MAX, &[good], 0).is(Status::LBA_OUT_OF_RANGE));
    assert!(failing(0, &[CopyRange::new(0, 65_536)], 0).is(Status::COMMAND_SIZE_LIMIT));
    let many = [good; copy::RANGES_MAX as usize + 1];
    assert!(failing(0, &many, 0).is(Status::COMMAND_SIZE_LIMIT));
    // Another format of ranges.
    assert!(failing(0, &[good], 1 << 8).is(Status::INVALID_FIELD));
}

#[test]
fn blocks_are_verified_by_reading_them_where_the_disk_does_not() {
    let disk = Disk::lacking(BLOCK as u32, 256, &[Op::Verify], 64);
    let shared = Arc::clone(&disk.shared);
    let (mut world, mut host) = numbered(disk, 256);
    let mut verify = |world: &mut World, lba, blocks| {
        host.run(world, Command::verify(1, lba, blocks), &[], &[]).0.status()
    };
    assert!(verify(&mut world, 0, 256).is_success());
    assert!(verify(&mut world, 1, 256).is(Status::LBA_OUT_OF_RANGE));
    shared.fail.store(true, Ordering::Relaxed);
    assert!(verify(&mut world, 0, 256).is(Status::UNRECOVERED_READ));
}
