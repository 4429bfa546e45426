//! Data in command capsules, up to as much as one may carry, and data asked for.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_metrics::{Operation, OperationStats};
use basalt_nvme_spec::identify::IdentifyController;
use basalt_nvme_spec::{Cns, Command, Completion, SglDescriptor};
use zerocopy::{FromBytes, IntoBytes};

use super::faults::expect_term;
use super::host::{Host, Received};
use super::limits::whole;
use super::world::{World, opened};
use crate::pdu::wire::{self, flags, kind};
use crate::pdu::{Digests, FaultKind};
use crate::{DEFAULT_NQN, HostPolicy, NamespaceOptions, SubsystemOptions, TransportConfig};
use basalt_bdev::suite::disk::Disk;

const BLOCK: usize = 512;

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + (at >> 9) * 7 + seed) as u8).collect()
}

fn write(lba: u64, len: usize) -> Command {
    let mut command = Command::write(1, lba, (len / BLOCK) as u32);
    command.set_sgl1(SglDescriptor::transport(len as u32));
    command
}

/// The same with its data in the capsule.
fn write_inside(lba: u64, len: usize) -> Command {
    let mut command = write(lba, len);
    command.set_sgl1(SglDescriptor::in_capsule(0, len as u32));
    command
}

fn read(lba: u64, len: usize) -> Command {
    let mut command = Command::read(1, lba, (len / BLOCK) as u32);
    command.set_sgl1(SglDescriptor::transport(len as u32));
    command
}

fn with_capsules(in_capsule_len: u32) -> World {
    let config = TransportConfig { in_capsule_len, ..TransportConfig::default() };
    World::configured(1, config, Arc::new(Disk::new(BLOCK as u32, 8192)))
}

fn all_digests() -> impl Iterator<Item = Digests> {
    (0..4).map(|bits| Digests { header: bits & 1 != 0, data: bits & 2 != 0 })
}

#[test]
fn a_controller_says_how_much_a_capsule_carries_and_that_data_follows_the_command() {
    for (wanted, carried) in
        [(0, 4096), (4096, 4096), (8192, 8192), (65_536, 65_536), (1 << 20, 65_536)]
    {
        let config = TransportConfig { in_capsule_len: wanted, ..TransportConfig::default() };
        let mut world =
            World::configured(1, config.clamped(), Arc::new(Disk::new(BLOCK as u32, 8192)));
        let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let identify = Command::identify(Cns::CONTROLLER, 0);
        let (completion, data) = admin.fetch(&mut world, identify, 4096);
        assert!(completion.status().is_success());
        let controller = IdentifyController::read_from_bytes(&data).unwrap();
        // In units of 16 bytes, with the command's 64 (base §5.16.2.1).
        assert_eq!(controller.ioccsz.get(), (64 + carried) / 16);
        assert_eq!(controller.icdoff.get(), 0);
    }
}

#[test]
fn writes_of_every_size_up_to_the_capsules_limit_arrive_whole_with_any_digests() {
    for limit in [4096, 65_536] {
        let mut world = with_capsules(limit as u32);
        let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        for (qid, digests) in (1..).zip(all_digests()) {
            let mut host = Host::io(&mut world, 0, cntlid, qid, digests);
            for len in [BLOCK, limit - 2 * BLOCK, limit - BLOCK, limit] {
                let bytes = pattern(len, len + usize::from(qid));
                let lba = 64 * u64::from(qid);
                let (done, _) = host.run(&mut world, write_inside(lba, len), &bytes, &[]);
                assert!(done.status().is_success(), "{len} of {limit} bytes, {digests:?}");
                assert!(host.run(&mut world, read(lba, len), &[], &[]).1 == bytes);
            }
            // What is larger, and anything else that the host does not put in, is asked for.
            for len in [BLOCK, limit, limit + BLOCK, 4 * limit] {
                let bytes = pattern(len, len ^ usize::from(qid));
                let (done, _) = host.run(&mut world, write(4096, len), &[], &bytes);
                assert!(done.status().is_success(), "{len} of {limit} bytes, {digests:?}");
                assert!(host.run(&mut world, read(4096, len), &[], &[]).1 == bytes);
            }
        }
    }
}

#[test]
fn digests_of_data_are_counted_once_for_each_pdu_and_none_where_there_are_none() {
    for digests in all_digests() {
        let mut world = with_capsules(8192);
        let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut host = Host::io(&mut world, 0, cntlid, 1, digests);
        let mesh = world.reactors[0].local().mesh().clone();
        let counted = || {
            let OperationStats { executed, failed, bytes } = mesh.operation(Operation::Crc32c);
            (executed, failed, bytes)
        };
        // The data of its Connect had one.
        let (before, _, bytes) = counted();
        let (one, len) = if digests.data { (1, 4096) } else { (0, 0) };
        assert_eq!((before, bytes), (one, one * 1024), "{digests:?}");
        let data = pattern(4096, 0);
        host.run(&mut world, write_inside(0, 4096), &data, &[]);
        assert_eq!(counted(), (2 * one, 0, bytes + len), "{digests:?}");
        host.run(&mut world, write(0, 4096), &[], &data);
        assert_eq!(counted(), (3 * one, 0, bytes + 2 * len), "{digests:?}");
        host.run(&mut world, read(0, 4096), &[], &[]);
        assert_eq!(counted(), (4 * one, 0, bytes + 3 * len), "{digests:?}");
    }
}

#[test]
fn a_large_capsule_may_come_in_any_pieces_among_others() {
    for chunk in [1000, 4096, 65_000] {
        let mut world = with_capsules(65_536);
        let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut host = Host::io(&mut world, 0, cntlid, 1, Digests { header: true, data: true });
        world.stacks[0].borrow_mut().chunk = chunk;
        let parts: Vec<_> = (0..8).map(|at| pattern(65_536 - at * BLOCK, at)).collect();
        for (at, bytes) in parts.iter().enumerate() {
            host.submit(&world, write_inside(at as u64 * 128, bytes.len()), bytes);
        }
        for _ in &parts {
            assert!(host.complete(&mut world, &[]).0.status().is_success());
        }
        for (at, bytes) in parts.iter().enumerate() {
            let (_, data) = host.run(&mut world, read(at as u64 * 128, bytes.len()), &[], &[]);
            assert!(data == *bytes, "part {at} in pieces of {chunk}");
        }
    }
}

#[test]
fn a_capsule_beyond_the_limit_ends_the_connection_and_nothing_else() {
    // On the admin queue 8 KiB are always allowed, so that only what is beyond breaks the PDU.
    for (limit, len) in [(4096, 4096 + BLOCK), (65_536, 65_536 + BLOCK), (65_536, 1 << 20)] {
        for digests in all_digests() {
            let mut world = with_capsules(limit);
            let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
            let host = Host::io(&mut world, 0, cntlid, 1, digests);
            let command = write_inside(0, len);
            let capsule = host.pdu(kind::CAPSULE_CMD, 0, command.as_bytes(), &pattern(len, 0));
            host.write(&world, &capsule);
            expect_term(&mut world, &host, FaultKind::DataLimit, 0, &capsule);
            let alive = admin.run(&mut world, Command::keep_alive(), &[], &[]).0;
            assert!(alive.status().is_success());
        }
    }
}

/// A machine with so much memory and capsules of 64 KiB.
fn short_of_memory(memory: usize) -> World {
    let config = TransportConfig { in_capsule_len: 65_536, ..TransportConfig::default() };
    let mut world = World::empty(1, config, memory);
    world.target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    let disk = opened(Arc::new(Disk::new(BLOCK as u32, 8192)));
    world.target.add_ns(DEFAULT_NQN, disk, NamespaceOptions::default()).unwrap();
    world.listen(DEFAULT_NQN, 4420);
    world
}

/// Answers what has come to a host; how many of its commands ended, all of them well.
fn attend(world: &mut World, host: &Host, data: &[u8]) -> usize {
    let mut ended = 0;
    while let Some(pdu) = whole(world, host) {
        match pdu.common.kind {
            kind::R2T => {
                let r2t = wire::R2t::read_from_bytes(&pdu.header).unwrap();
                host.answer_r2t(world, &r2t, data);
            }
            kind::CAPSULE_RESP => {
                let response = wire::CapsuleResp::read_from_bytes(&pdu.header).unwrap();
                let entry = Completion::read_from_bytes(&response.cqe).unwrap();
                assert!(entry.status().is_success(), "{}", entry.status());
                ended += 1;
            }
            _ => assert_eq!(pdu.data.len(), data.len()),
        }
    }
    ended
}

#[test]
fn a_thousand_connections_with_large_capsules_wait_for_memory_and_none_fails() {
    const CONNECTIONS: usize = 1024;
    const LEN: usize = 65_536;
    let mut world = short_of_memory(16 << 20);
    let (mut admins, mut hosts) = (vec![], vec![]);
    while hosts.len() < CONNECTIONS {
        let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        admins.push(admin);
        for qid in 1..=64 {
            hosts.push(Host::io(&mut world, 0, cntlid, qid, Digests::default()));
        }
    }
    // All of them idle they leave half of the memory for work.
    let stats = world.pools[0].stats();
    assert!(stats.bytes_free >= stats.bytes_total / 2, "{stats:?}");
    let before = world.in_use();
    let data = pattern(LEN, 1);
    for host in &mut hosts {
        host.submit(&world, write_inside(0, LEN), &data);
        host.submit(&world, write(1024, LEN), &[]);
        host.submit(&world, read(2048, LEN), &[]);
    }
    let mut ended = 0;
    for _ in 0..20_000 {
        world.rounds(1);
        ended += hosts.iter().map(|host| attend(&mut world, host, &data)).sum::<usize>();
        if ended == 3 * CONNECTIONS {
            break;
        }
    }
    assert_eq!(ended, 3 * CONNECTIONS, "some never get their turn");
    assert!(world.stats(0).buffer_waits > 0, "there was memory enough for all");
    assert_eq!(world.in_use(), before);
    hosts.iter().chain(&admins).for_each(|host| host.hang_up(&world));
    world.rounds(2000);
    assert_eq!(world.stats(0).connections, 0);
    assert_eq!(world.pools[0].stats().bytes_free, world.pools[0].stats().bytes_total);
}

/// Writes 16 KiB 200 times. How many instructions that takes the target:
///
/// ```text
/// cargo test --release -p basalt-nvmf --lib --no-run
/// valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*PollGroup*poll*' \
///     target/release/deps/basalt_nvmf-… --exact tests::capsules::NAME
/// ```
///
/// 10.67 million in capsules, 11.00 million by R2T, which takes 1,600 more for a write. Most of
/// either is the copying of the pipe and the disk of these tests.
fn write_16_kib(command: fn(u64, usize) -> Command, capsule_len: usize) {
    const LEN: usize = 16 << 10;
    let mut world = with_capsules(65_536);
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let bytes = pattern(LEN, 9);
    let capsule = &bytes[..capsule_len];
    for turn in 0..200 {
        let lba = turn % 8 * 32;
        let (done, _) = host.run(&mut world, command(lba, LEN), capsule, &bytes);
        assert!(done.status().is_success());
    }
    assert!(host.run(&mut world, read(7 * 32, LEN), &[], &[]).1 == bytes);
}

#[test]
fn writes_of_16_kib_in_capsules_arrive() {
    write_16_kib(write_inside, 16 << 10);
}

#[test]
fn writes_of_16_kib_that_are_asked_for_arrive() {
    write_16_kib(write, 0);
}

#[test]
fn a_host_is_never_asked_for_more_of_a_command_at_once_than_it_can_hold() {
    const COMMANDS: u16 = 8;
    const LEN: usize = 256 << 10;
    // MAXR2T is 0's based: one, two, eight, and as many as there are numbers.
    for maxr2t in [0, 1, 7, u32::MAX] {
        for h2c_max in [4096, 100_000, 1 << 20] {
            let mut world = with_capsules(4096);
            let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
            let mut host = Host::dial(&world, 0, 4420);
            (host.maxr2t, host.h2c_max) = (maxr2t, h2c_max);
            host.greet(&mut world, Digests { header: true, data: true });
            assert!(host.try_connect(&mut world, 1, 16, cntlid, 0).status().is_success());
            let bytes = pattern(LEN, 5);
            for turn in 0..COMMANDS {
                host.submit(&world, write(u64::from(turn) * 512, LEN), &[]);
            }
            let owed = ask_all(&mut world, &host, maxr2t);
            assert_eq!(owed.len(), usize::from(COMMANDS), "each is asked for its data");
            // Last first, so that the others stay outstanding meanwhile.
            for r2t in owed.values().rev() {
                host.answer_r2t(&world, r2t, &bytes);
                assert!(host.complete(&mut world, &[]).0.status().is_success());
            }
            host.expect_silence(&mut world);
            for turn in 0..u64::from(COMMANDS) {
                assert!(host.run(&mut world, read(turn * 512, LEN), &[], &[]).1 == bytes);
            }
        }
    }
}

/// Takes all R2Ts there are while nothing is answered: no command may have more than it may.
fn ask_all(world: &mut World, host: &Host, maxr2t: u32) -> BTreeMap<u16, wire::R2t> {
    let (mut owed, mut asked) = (BTreeMap::new(), BTreeMap::<u16, u64>::new());
    world.pass(Duration::from_millis(100));
    while let Some(Received { common, header, .. }) = whole(world, host) {
        assert_eq!((common.kind, common.flags & flags::LAST), (kind::R2T, 0));
        let r2t = wire::R2t::read_from_bytes(&header).unwrap();
        let count = asked.entry(r2t.cccid.get()).or_default();
        *count += 1;
        assert!(*count <= u64::from(maxr2t) + 1, "asked {count} times with MAXR2T {maxr2t}");
        // One for all of it, whatever the host could hold.
        assert_eq!((r2t.r2to.get(), r2t.r2tl.get()), (0, 256 << 10));
        owed.insert(r2t.cccid.get(), r2t);
    }
    owed
}
