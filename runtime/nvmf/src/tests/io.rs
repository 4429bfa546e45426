use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use basalt_bdev::Op;
use basalt_nvme_spec::identify::{IdentifyController, IdentifyNamespace};
use basalt_nvme_spec::{Cns, Command, DsmAttributes, DsmRange, IoFlags, SglDescriptor, Status};
use zerocopy::{FromBytes, IntoBytes};

use super::host::Host;
use super::world::World;
use crate::pdu::Digests;
use crate::{C2hSuccess, DEFAULT_NQN, TransportConfig};
use basalt_bdev::suite::disk::Disk;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect()
}

fn transport(mut command: Command, len: usize) -> Command {
    command.set_sgl1(SglDescriptor::transport(len as u32));
    command
}

fn in_capsule(mut command: Command, len: usize) -> Command {
    command.set_sgl1(SglDescriptor::in_capsule(0, len as u32));
    command
}

fn write(host: &mut Host, world: &mut World, lba: u64, bytes: &[u8]) {
    let blocks = (bytes.len() / 512) as u32;
    let command = transport(Command::write(1, lba, blocks), bytes.len());
    let (completion, _) = host.run(world, command, &[], bytes);
    assert!(completion.status().is_success(), "{:?}", completion.status());
}

fn read(host: &mut Host, world: &mut World, lba: u64, len: usize) -> Vec<u8> {
    let command = transport(Command::read(1, lba, (len / 512) as u32), len);
    let (completion, data) = host.run(world, command, &[], &[]);
    assert!(completion.status().is_success(), "{:?}", completion.status());
    data
}

fn status(host: &mut Host, world: &mut World, command: Command) -> Status {
    host.run(world, command, &[], &[]).0.status()
}

#[test]
fn the_commands_of_each_queue_are_counted_and_those_of_one_that_is_gone_stay_in_the_sum() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let digests = ALL_DIGESTS[0];
    let mut hosts = [1, 2].map(|qid| Host::io(&mut world, 0, cntlid, qid, digests));
    let commands = |world: &World| {
        let mut queues = world.groups[0].queues();
        queues.sort_by_key(|queue| queue.qid);
        queues.iter().map(|queue| (queue.qid.unwrap(), queue.commands)).collect::<Vec<_>>()
    };
    let before = commands(&world);
    for (host, count) in hosts.iter_mut().zip([3, 5]) {
        (0..count).for_each(|lba| write(host, &mut world, lba, &pattern(512, 1)));
    }
    let (_, _) = admin.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let more =
        commands(&world).into_iter().zip(before).map(|((qid, now), (_, then))| (qid, now - then));
    assert_eq!(more.collect::<Vec<_>>(), [(0, 1), (1, 3), (2, 5)]);
    assert_eq!(world.stats(0).ios, 8);
    hosts[1].hang_up(&world);
    world.rounds(200);
    assert_eq!((commands(&world).len(), world.stats(0).ios), (2, 8));
}

const ALL_DIGESTS: [Digests; 4] = [
    Digests { header: false, data: false },
    Digests { header: true, data: false },
    Digests { header: false, data: true },
    Digests { header: true, data: true },
];

#[test]
fn data_written_in_capsules_and_by_r2t_reads_back_with_any_digests() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    for (qid, digests) in (1..).zip(ALL_DIGESTS) {
        let mut host = Host::io(&mut world, 0, cntlid, qid, digests);
        let small = pattern(4096, qid as u8);
        let command = in_capsule(Command::write(1, 100, 8), 4096);
        assert!(host.run(&mut world, command, &small, &[]).0.status().is_success());
        assert_eq!(read(&mut host, &mut world, 100, 4096), small);
        let large = pattern(1 << 20, qid as u8 ^ 0x55);
        host.h2c_max = 100_000 / 4 * 4;
        write(&mut host, &mut world, 3000, &large);
        assert!(read(&mut host, &mut world, 3000, 1 << 20) == large);
    }
}

#[test]
fn bytes_may_arrive_and_leave_in_any_chunks() {
    for chunk in [1, 3, 7, 71, 73, 1000] {
        let mut world = World::new();
        let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut host = Host::io(&mut world, 0, cntlid, 1, ALL_DIGESTS[3]);
        world.stacks[0].borrow_mut().chunk = chunk;
        world.stacks[0].borrow_mut().window = chunk + 5;
        let bytes = pattern(12 * 512, chunk as u8);
        write(&mut host, &mut world, 5, &bytes);
        assert_eq!(read(&mut host, &mut world, 5, 12 * 512), bytes);
    }
}

#[test]
fn queues_on_two_cores_share_one_disk() {
    let mut world = World::with(2, Arc::new(Disk::new(512, 8192)));
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut near = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut far = Host::io(&mut world, 1, cntlid, 2, Digests::default());
    let bytes = pattern(64 << 10, 3);
    write(&mut near, &mut world, 64, &bytes);
    assert_eq!(read(&mut far, &mut world, 64, 64 << 10), bytes);
    assert_eq!((world.stats(0).channels, world.stats(1).channels), (1, 1));
    assert_eq!(world.target.controllers()[0].queues.len(), 3);
}

#[test]
fn bad_commands_fail_with_their_status_and_the_queue_lives_on() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut fused = transport(Command::read(1, 0, 1), 512);
    fused.flags |= 1;
    let mut prp = Command::read(1, 0, 1);
    prp.flags = 0;
    prp.set_prps(0x1000, 0x2000);
    let mut opcode = Command::flush(1);
    opcode.opcode = 0x1c;
    let mut segment = transport(Command::read(1, 0, 1), 512);
    segment.dptr[15] = SglDescriptor::TYPE_LAST_SEGMENT << 4;
    let cases = [
        (transport(Command::read(2, 0, 1), 512), Status::INVALID_NAMESPACE),
        (transport(Command::read(0, 0, 1), 512), Status::INVALID_NAMESPACE),
        (transport(Command::write(u32::MAX, 0, 1), 512), Status::INVALID_NAMESPACE),
        (Command::flush(u32::MAX), Status::INVALID_NAMESPACE),
        (transport(Command::read(1, 8192, 1), 512), Status::LBA_OUT_OF_RANGE),
        (transport(Command::write(1, 8191, 2), 1024), Status::LBA_OUT_OF_RANGE),
        (transport(Command::read(1, u64::MAX, 1), 512), Status::LBA_OUT_OF_RANGE),
        (Command::write_zeroes(1, 8000, 1000), Status::LBA_OUT_OF_RANGE),
        (transport(Command::read(1, 0, 2), 512), Status::SGL_LENGTH_INVALID),
        (transport(Command::read(1, 0, 4096), 2 << 20), Status::INVALID_FIELD),
        (transport(Command::read(1, 0, 1), 2 << 20), Status::SGL_LENGTH_INVALID),
        (in_capsule(Command::write(1, 0, 1), 512), Status::SGL_OFFSET_INVALID),
        (in_capsule(Command::read(1, 0, 1), 512), Status::SGL_TYPE_INVALID),
        (segment, Status::SGL_TYPE_INVALID),
        (prp, Status::INVALID_FIELD),
        (fused, Status::INVALID_FIELD),
        (opcode, Status::INVALID_OPCODE),
    ];
    for (command, expected) in cases {
        let found = status(&mut host, &mut world, command);
        assert!(found.is(expected), "{command:?}: {found:?}, not {expected:?}");
        assert!(found.dnr());
    }
    assert_eq!(read(&mut host, &mut world, 0, 512), [0xee; 512]);
}

#[test]
fn zeroes_are_written_even_where_the_disk_cannot_do_it_itself() {
    for lacks in [&[][..], &[Op::WriteZeroes, Op::Flush]] {
        let mut world = World::with(1, Arc::new(Disk::lacking(512, 8192, lacks, 64)));
        let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
        assert!(status(&mut host, &mut world, Command::write_zeroes(1, 10, 1000)).is_success());
        assert_eq!(read(&mut host, &mut world, 9, 512), [0xee; 512]);
        assert!(read(&mut host, &mut world, 10, 1000 * 512).iter().all(|&byte| byte == 0));
        assert_eq!(read(&mut host, &mut world, 1010, 512), [0xee; 512]);
        assert!(status(&mut host, &mut world, Command::flush(1)).is_success());
    }
}

#[test]
fn a_compare_succeeds_on_equal_data_only_and_leaves_the_disk_alone() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    for len in [512, 4096, 200 << 10] {
        let bytes = pattern(len, 3);
        write(&mut host, &mut world, 50, &bytes);
        let mut other = bytes.clone();
        other[len - 1] ^= 1;
        let blocks = (len / 512) as u32;
        let command = transport(Command::compare(1, 50, blocks), len);
        assert!(host.run(&mut world, command, &[], &bytes).0.status().is_success());
        let differs = host.run(&mut world, command, &[], &other).0.status();
        assert!(differs.is(Status::COMPARE_FAILURE), "{differs:?}");
        assert!(read(&mut host, &mut world, 50, len) == bytes);
    }
    let beyond = transport(Command::compare(1, u64::MAX - 3, 1), 512);
    let (refused, _) = host.run(&mut world, beyond, &[], &[]);
    assert!(refused.status().is(Status::LBA_OUT_OF_RANGE));
}

#[test]
fn deallocated_ranges_are_unmapped_one_by_one() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let ranges = [DsmRange::new(4, 2), DsmRange::new(0, 0), DsmRange::new(20, 1)];
    let bytes = ranges.as_bytes();
    let dsm = |attributes| in_capsule(Command::dataset_management(1, 3, attributes), bytes.len());
    let (hint, _) = host.run(&mut world, dsm(DsmAttributes::INTEGRAL_READ), bytes, &[]);
    assert!(hint.status().is_success());
    assert_eq!(read(&mut host, &mut world, 4, 512), [0xee; 512]);
    let (done, _) = host.run(&mut world, dsm(DsmAttributes::DEALLOCATE), bytes, &[]);
    assert!(done.status().is_success());
    assert_eq!(read(&mut host, &mut world, 4, 1024), [0; 1024]);
    assert_eq!(read(&mut host, &mut world, 20, 512), [0; 512]);
    assert_eq!(read(&mut host, &mut world, 6, 512), [0xee; 512]);
}

#[test]
fn forced_unit_access_flushes_after_the_write() {
    let disk = Disk::new(4096, 64);
    let shared = Arc::clone(&disk.shared);
    let mut world = World::with(1, Arc::new(disk));
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut command = in_capsule(Command::write(1, 0, 1), 4096);
    command.cdw12 = (command.cdw12.get() | IoFlags::FUA.bits()).into();
    assert!(host.run(&mut world, command, &[1; 4096], &[]).0.status().is_success());
    assert_eq!(shared.flushes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_full_channel_and_a_failing_disk_lose_nothing() {
    let disk = Disk::lacking(512, 8192, &[], 2);
    let shared = Arc::clone(&disk.shared);
    let mut world = World::with(1, Arc::new(disk));
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    for lba in 0..12 {
        host.submit(&world, transport(Command::read(1, lba, 1), 512), &[]);
    }
    let mut done: Vec<u16> = (0..12).map(|_| host.complete(&mut world, &[]).0.cid.get()).collect();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), 12);
    assert!(world.stats(0).queue_full > 0);
    shared.fail.store(true, Ordering::Relaxed);
    let failed = status(&mut host, &mut world, transport(Command::read(1, 0, 1), 512));
    assert!(failed.is(Status::UNRECOVERED_READ) && !failed.dnr());
}

#[test]
fn commands_wait_for_buffers_and_then_complete() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let pool = world.pools[0].clone();
    let mut hoard = Vec::new();
    for len in [4 << 20, 1 << 20, 64 << 10, 4096, 512] {
        hoard.extend(core::iter::from_fn(|| pool.alloc(len).ok()));
    }
    host.submit(&world, transport(Command::read(1, 0, 1), 512), &[]);
    // The reserve serves what comes in capsules, one after the other.
    for lba in 1..4 {
        host.submit(&world, in_capsule(Command::write(1, lba, 1), 512), &[5; 512]);
    }
    for _ in 0..3 {
        assert!(host.complete(&mut world, &[]).0.cid.get() > 1);
    }
    host.expect_silence(&mut world);
    hoard.clear();
    assert_eq!(host.complete(&mut world, &[]).1, [0xee; 512]);
    assert!(world.stats(0).buffer_waits > 0);
}

#[test]
fn the_queue_head_is_told_often_enough_and_never_without_flow_control() {
    let config = TransportConfig { c2h_success: C2hSuccess::Always, ..Default::default() };
    let mut world = World::configured(1, config, Arc::new(Disk::new(512, 8192)));
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut heads = Vec::new();
    for lba in 0..32 {
        host.submit(&world, transport(Command::read(1, lba, 1), 512), &[]);
        heads.push(host.complete(&mut world, &[]).0.sqhd.get());
    }
    let told: Vec<_> = heads.iter().copied().enumerate().filter(|(_, head)| *head != 0).collect();
    assert!(told.len() >= 4 && told.len() < 16, "{told:?}");
    assert!(told.iter().all(|(at, head)| *head as usize == (at + 2) % 16), "{told:?}");
    let mut free = Host::dial(&world, 0, 4420);
    free.no_flow_control = true;
    free.greet(&mut world, Digests::default());
    let connected = free.try_connect(&mut world, 2, 16, cntlid, 0);
    assert_eq!(connected.sqhd.get(), u16::MAX);
}

#[test]
fn nothing_is_deallocated_unless_every_range_lies_on_the_disk() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut ranges: Vec<_> = (0..256).map(|n| DsmRange::new(n * 32, 32)).collect();
    let dsm = in_capsule(
        Command::dataset_management(1, 256, DsmAttributes::DEALLOCATE),
        size_of::<DsmRange>() * 256,
    );
    ranges[255] = DsmRange::new(8192, 1);
    let (refused, _) = host.run(&mut world, dsm, ranges.as_bytes(), &[]);
    assert!(refused.status().is(Status::LBA_OUT_OF_RANGE));
    assert_eq!(read(&mut host, &mut world, 0, 512), [0xee; 512]);
    ranges[255] = DsmRange::new(8191, 1);
    let (done, _) = host.run(&mut world, dsm, ranges.as_bytes(), &[]);
    assert!(done.status().is_success());
    assert_eq!(read(&mut host, &mut world, 8191, 512), [0; 512]);
    assert_eq!(read(&mut host, &mut world, 8190, 512), [0xee; 512]);
    let short = in_capsule(
        Command::dataset_management(1, 256, DsmAttributes::DEALLOCATE),
        size_of::<DsmRange>() * 255,
    );
    let (refused, _) = host.run(&mut world, short, &ranges.as_bytes()[..255 * 16], &[]);
    assert!(refused.status().is(Status::SGL_LENGTH_INVALID));
}

#[test]
fn a_namespace_that_cannot_be_written_says_so() {
    let mut world = World::with(1, Arc::new(Disk::lacking(512, 8192, &[Op::Write], 64)));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let dsm = Command::dataset_management(1, 1, DsmAttributes::DEALLOCATE);
    for command in [
        transport(Command::write(1, 0, 1), 512),
        Command::write_zeroes(1, 0, 1),
        transport(dsm, 16),
    ] {
        let found = status(&mut host, &mut world, command);
        assert!(found.is(Status::WRITE_PROTECTED) && found.dnr(), "{found:?}");
    }
    let (_, bytes) = admin.fetch(&mut world, Command::identify(Cns::NAMESPACE, 1), 4096);
    assert_eq!(IdentifyNamespace::read_from_bytes(&bytes).unwrap().nsattr, 1);
    assert_eq!(read(&mut host, &mut world, 0, 512), [0xee; 512]);
}

#[test]
fn a_data_pointer_may_describe_more_than_the_command_moves() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (_, bytes) = admin.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let sgls = IdentifyController::read_from_bytes(&bytes).unwrap().sgls.get();
    assert_eq!(sgls >> 18 & 1, 1, "and the controller says so");
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let command = transport(Command::write(1, 0, 1), 4096);
    assert!(host.run(&mut world, command, &[], &[3; 4096]).0.status().is_success());
    let (done, data) = host.run(&mut world, transport(Command::read(1, 0, 1), 4096), &[], &[]);
    assert!(done.status().is_success());
    assert_eq!(data, [3; 512]);
    assert_eq!(read(&mut host, &mut world, 1, 512), [0xee; 512]);
}

#[test]
fn a_write_with_a_directive_is_refused() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut command = transport(Command::write(1, 0, 1), 512);
    command.cdw12 = (command.cdw12.get() | 1 << 20).into();
    assert!(status(&mut host, &mut world, command).is(Status::INVALID_FIELD));
}
