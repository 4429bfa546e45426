use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::registers::{CC, Cc};
use basalt_nvme_spec::{Command, Completion, SglDescriptor};
use zerocopy::FromBytes;

use super::host::{Host, Received, ic_req};
use super::world::{World, opened};
use crate::pdu::Digests;
use crate::pdu::wire::{self, kind};
use crate::{DEFAULT_NQN, HostPolicy, NamespaceOptions, SubsystemOptions, TransportConfig};
use basalt_bdev::suite::disk::Disk;

fn transport(mut command: Command, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command
}

#[test]
fn ten_thousand_connections_in_a_row_leave_nothing_behind() {
    let mut world = World::new();
    // The first one opens the disk's channel for good.
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    [&admin, &io].iter().for_each(|host| host.hang_up(&world));
    world.rounds(40);
    let before = world.in_use();
    for round in 0..10_000 {
        let mut host = Host::dial(&world, 0, 4420);
        match round % 5 {
            0 => {}
            1 => host.write(&world, &ic_req(Digests::default(), 0)[..round % 128]),
            2 => host.greet(&mut world, Digests::default()),
            3 => {
                host.greet(&mut world, Digests::default());
                host.begin_connect(&world, 0, 0xffff);
            }
            _ => {
                host.greet(&mut world, Digests::default());
                assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
            }
        }
        host.hang_up(&world);
        world.rounds(if round % 100 == 99 { 40 } else { 4 });
        assert!(world.stats(0).connections <= 8, "connections pile up");
    }
    world.rounds(100);
    assert_eq!(world.in_use(), before);
    assert_eq!((world.stats(0).accepted, world.stats(0).lost), (10_002, 10_002));
    assert!(world.target.controllers().is_empty());
}

#[test]
fn connections_beyond_the_most_are_refused_and_silent_ones_make_room() {
    const MOST: u32 = 4096;
    let mut world = World::new();
    let (mut other, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let before = world.in_use();
    let silent: Vec<Host> = (0..MOST + 100).map(|_| Host::dial(&world, 0, 4420)).collect();
    // Half of them say hello, which takes a buffer each as far as there are any.
    silent.iter().step_by(2).for_each(|host| host.write(&world, &ic_req(Digests::default(), 0)));
    world.rounds(1200);
    assert_eq!(world.stats(0).connections, MOST);
    let refused = silent.iter().filter(|host| host.is_closed(&world)).count();
    assert_eq!(refused, 101);
    let alive = other.run(&mut world, Command::keep_alive(), &[], &[]).0;
    assert!(alive.status().is_success());
    world.pass(Duration::from_secs(11));
    assert!(silent.iter().all(|host| host.is_closed(&world)));
    assert_eq!(world.in_use(), before);
    Host::admin(&mut world, DEFAULT_NQN, 4420);
}

/// A machine with so much memory for transfers of 1 MiB at most.
fn small_world(memory: usize) -> World {
    let mut world = World::empty(1, TransportConfig::default(), memory);
    world.target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    let disk = opened(Arc::new(Disk::new(512, 8192)));
    world.target.add_ns(DEFAULT_NQN, disk, NamespaceOptions::default()).unwrap();
    world.listen(DEFAULT_NQN, 4420);
    world
}

/// What has come to a host, as far as it is whole.
pub fn whole(world: &mut World, host: &Host) -> Option<Received> {
    let stack = world.stacks[0].borrow();
    let queue = &stack.pipes[host.pipe].to_host;
    let len: Vec<u8> = queue.iter().skip(4).take(4).copied().collect();
    let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
    let is_whole = queue.len() >= len;
    drop(stack);
    if is_whole { host.receive(world) } else { None }
}

#[test]
fn sixty_four_hosts_that_want_more_memory_than_there_is_all_get_their_turn() {
    const LEN: u32 = 256 << 10;
    const EACH: u32 = 4;
    let mut world = small_world(4 << 20);
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut hosts: Vec<Host> =
        (1..=64).map(|qid| Host::io(&mut world, 0, cntlid, qid, Digests::default())).collect();
    let before = world.in_use();
    for host in &mut hosts {
        for turn in 0..EACH {
            let lba = u64::from(turn) * 512;
            let command = if turn % 2 == 0 {
                transport(Command::write(1, lba, LEN / 512), LEN)
            } else {
                transport(Command::read(1, lba, LEN / 512), LEN)
            };
            host.submit(&world, command, &[]);
        }
    }
    let mut ended = 0;
    let data = vec![7; LEN as usize];
    for _ in 0..4000 {
        world.rounds(1);
        for host in &hosts {
            while let Some(pdu) = whole(&mut world, host) {
                match pdu.common.kind {
                    kind::R2T => {
                        let r2t = wire::R2t::read_from_bytes(&pdu.header).unwrap();
                        host.answer_r2t(&world, &r2t, &data);
                    }
                    kind::CAPSULE_RESP => {
                        let response = wire::CapsuleResp::read_from_bytes(&pdu.header).unwrap();
                        let entry = Completion::read_from_bytes(&response.cqe).unwrap();
                        assert!(entry.status().is_success(), "{}", entry.status());
                        ended += 1;
                    }
                    _ => assert_eq!(pdu.data.len(), LEN as usize),
                }
            }
        }
        if ended == 64 * EACH {
            break;
        }
    }
    assert_eq!(ended, 64 * EACH, "some never get their turn");
    assert!(world.stats(0).buffer_waits > 64, "there was memory enough for all");
    assert_eq!(world.in_use(), before);
    hosts.iter().chain([&admin]).for_each(|host| host.hang_up(&world));
    world.rounds(100);
    assert_eq!(world.stats(0).connections, 0);
}

/// A host that has these commands under way and is silent from then on goes with its keep-alive
/// timer, and so does what it held.
fn check_evicted(name: &str, command: Command, window: usize) {
    std::println!("{name}");
    let mut world = World::new();
    let (mut other, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    io.hang_up(&world);
    world.rounds(40);
    let before = world.in_use();
    let mut admin = Host::dial(&world, 0, 4420);
    admin.greet(&mut world, Digests::default());
    let connected = admin.try_connect(&mut world, 0, 32, 0xffff, 2000);
    let enable = Property::set(CC as u32, 4, Cc::enabled(Cc::CSS_NVM).0.into());
    assert!(admin.run(&mut world, enable.into(), &[], &[]).0.status().is_success());
    let mut io = Host::io(&mut world, 0, connected.dw0.get() as u16, 1, Digests::default());
    for _ in 0..15 {
        io.submit(&world, command, &[]);
    }
    world.stacks[0].borrow_mut().window = window;
    world.rounds(100);
    let held = world.in_use()[0].4 - before[0].4;
    assert!(held >= 1 << 20, "it holds {held} bytes");
    world.pass(Duration::from_secs(4));
    assert!(admin.is_closed(&world) && io.is_closed(&world));
    world.stacks[0].borrow_mut().window = usize::MAX;
    let alive = other.run(&mut world, Command::keep_alive(), &[], &[]).0;
    assert!(alive.status().is_success());
    assert_eq!(world.in_use(), before);
}

#[test]
fn a_host_that_stops_goes_with_its_keep_alive_timer_and_with_what_it_held() {
    let write = transport(Command::write(1, 0, 2048), 1 << 20);
    let read = transport(Command::read(1, 0, 2048), 1 << 20);
    check_evicted("it owes data for each R2T", write, usize::MAX);
    check_evicted("it reads nothing", read, 100);
    check_evicted("it reads nothing, nor is it told what is asked of it", write, 0);
}

#[test]
fn what_the_network_keeps_of_a_hosts_reads_counts_as_what_the_host_holds() {
    let mut world = small_world(4 << 20);
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut other = Host::io(&mut world, 0, cntlid, 2, Digests::default());
    let read = transport(Command::read(1, 0, 512), 256 << 10);
    world.stacks[0].borrow_mut().held = 3900 << 10;
    io.submit(&world, read, &[]);
    world.rounds(20);
    assert_eq!(whole(&mut world, &io).unwrap().data.len(), 256 << 10);
    let waits = world.stats(0).buffer_waits;
    io.submit(&world, read, &[]);
    world.rounds(20);
    assert_eq!(world.stats(0).buffer_waits, waits + 1);
    other.submit(&world, read, &[]);
    world.rounds(20);
    assert!(whole(&mut world, &other).is_some(), "others are none the worse for it");
    world.stacks[0].borrow_mut().held = 100 << 10;
    world.rounds(20);
    assert_eq!(io.receive(&mut world).unwrap().common.kind, kind::CAPSULE_RESP);
    assert_eq!(whole(&mut world, &io).unwrap().data.len(), 256 << 10);
}
