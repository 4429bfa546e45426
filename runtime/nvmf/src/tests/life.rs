use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use core::time::Duration;

use basalt_nvme_spec::{Command, SglDescriptor};

use super::host::{Host, ic_req};
use super::world::World;
use crate::pdu::Digests;
use crate::{DEFAULT_NQN, HostPolicy, SubsystemOptions, TransportConfig};
use basalt_bdev::suite::disk::Disk;

fn transport(mut command: Command, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command
}

#[test]
fn a_hundred_reconnects_leave_nothing_behind() {
    let mut world = World::with(2, Arc::new(Disk::new(512, 8192)));
    let before = world.in_use();
    for round in 0..100 {
        let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut io = Host::io(&mut world, round % 2, cntlid, 1, Digests::default());
        let write = transport(Command::write(1, 0, 64), 64 * 512);
        assert!(io.run(&mut world, write, &[], &[1; 64 * 512]).0.status().is_success());
        admin.hang_up(&world);
        if round % 3 == 0 {
            io.hang_up(&world);
        }
        world.rounds(60);
        assert!(io.is_closed(&world), "the association ends with its admin queue");
    }
    assert_eq!(world.in_use(), before);
    assert!(world.target.controllers().is_empty());
}

#[test]
fn a_connection_lost_mid_transfer_frees_everything_once_the_disk_returns_it() {
    let disk = Disk::new(512, 8192);
    let shared = Arc::clone(&disk.shared);
    let mut world = World::with(1, Arc::new(disk));
    let before = world.in_use();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    shared.hold.store(true, Ordering::Relaxed);
    io.submit(&world, transport(Command::read(1, 0, 128), 65_536), &[]);
    io.submit(&world, transport(Command::write(1, 0, 128), 65_536), &[]);
    io.submit(&world, Command::flush(1), &[]);
    world.rounds(20);
    assert_eq!(world.stats(0).outstanding, 2);
    io.hang_up(&world);
    world.rounds(60);
    assert_eq!(world.stats(0).outstanding, 2, "the disk still owns two Ios");
    assert_eq!(world.stats(0).connections, 2);
    shared.hold.store(false, Ordering::Relaxed);
    admin.hang_up(&world);
    world.rounds(60);
    assert_eq!(world.in_use(), before);
    assert_eq!(world.stats(0).stale, 0);
}

#[test]
fn half_a_capsule_and_half_a_transfer_are_freed_too() {
    let mut world = World::new();
    let before = world.in_use();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    world.stacks[0].borrow_mut().window = 100;
    io.submit(&world, transport(Command::read(1, 0, 2048), 1 << 20), &[]);
    io.submit(&world, transport(Command::write(1, 0, 2048), 1 << 20), &[]);
    let mut command = Command::write(1, 0, 8);
    command.set_sgl1(SglDescriptor::in_capsule(0, 4096));
    let capsule = io.pdu(4, 0, zerocopy::IntoBytes::as_bytes(&command), &[3; 4096]);
    io.write(&world, &capsule[..2000]);
    world.rounds(20);
    io.hang_up(&world);
    admin.hang_up(&world);
    world.rounds(60);
    assert_eq!(world.in_use(), before);
}

#[test]
fn a_host_that_never_greets_or_connects_is_dropped() {
    let mut world = World::new();
    let mute = Host::dial(&world, 0, 4420);
    let slow = Host::dial(&world, 0, 4420);
    slow.write(&world, &ic_req(Digests::default(), 0));
    let half = Host::dial(&world, 0, 4420);
    half.write(&world, &ic_req(Digests::default(), 0)[..100]);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.stats(0).connections, 3);
    world.pass(Duration::from_secs(2));
    assert!([&mute, &slow, &half].iter().all(|host| host.is_closed(&world)));
    assert_eq!(world.stats(0).connections, 0);
}

#[test]
fn a_host_no_longer_welcome_is_shown_out() {
    let mut world = World::new();
    let (host, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Listed).unwrap();
    world.rounds(40);
    assert!(host.is_closed(&world));
    assert!(world.target.controllers().is_empty());
}

#[test]
fn a_deleted_subsystem_takes_its_controllers_and_port_along() {
    let mut world = World::new();
    let (host, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    world.target.delete_subsystem(DEFAULT_NQN).unwrap();
    world.rounds(60);
    assert!(host.is_closed(&world) && io.is_closed(&world));
    assert_eq!(world.stacks[0].borrow().ports, [8009]);
    assert_eq!(world.stats(0).channels, 0);
}

#[test]
fn a_port_added_while_cores_are_joining_is_served_by_all_of_them() {
    let mut world = World::starting(3, TransportConfig::default(), 16 << 20);
    world.target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
    for _ in 0..4 {
        let _ = world.reactors[0].poll(world.now);
    }
    world.listen(DEFAULT_NQN, 4420);
    for stack in &world.stacks {
        stack.borrow_mut().connect(4420);
    }
}
