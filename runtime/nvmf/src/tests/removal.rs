//! Namespaces that go while hosts use them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use basalt_bdev::Access;
use basalt_nvme_spec::identify::NamespaceList;
use basalt_nvme_spec::{AsyncEvent, Cns, Command, FeatureId, LogPageId, SglDescriptor, Status};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::{World, opened};
use crate::pdu::{Digests, wire};
use crate::{DEFAULT_NQN, NamespaceOptions};
use basalt_bdev::suite::disk::{Disk, Shared};

fn transport(mut command: Command, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command
}

/// A world whose second namespace is a registered disk.
fn world() -> (World, Arc<Shared>) {
    let world = World::new();
    let disk = Disk::new(512, 64);
    let shared = Arc::clone(&disk.shared);
    world.registry.register(Arc::new(disk)).unwrap();
    let bdev = world.registry.open("Ram0", Access::ReadWrite).unwrap();
    assert_eq!(world.target.add_ns(DEFAULT_NQN, bdev, NamespaceOptions::default()), Ok(2));
    (world, shared)
}

#[test]
fn a_removed_bdev_takes_its_namespace_along_and_hosts_are_told() {
    let (mut world, _) = world();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 8);
    assert!(admin.run(&mut world, want, &[], &[]).0.status().is_success());
    let held = admin.submit(&world, Command::async_event_request(), &[]);
    world.registry.remove("Ram0").unwrap();
    let (event, _) = admin.complete(&mut world, &[]);
    assert_eq!(event.cid.get(), held);
    assert_eq!(AsyncEvent(event.dw0.get()).log_page(), LogPageId::CHANGED_NAMESPACES.0);
    let log = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
    for (command, expected) in [(log, 2), (Command::identify(Cns::ACTIVE_NAMESPACES, 0), 1)] {
        let (_, bytes) = admin.fetch(&mut world, command, 4096);
        let list = NamespaceList::read_from_bytes(&bytes).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [expected]);
    }
    let (failed, _) = io.run(&mut world, transport(Command::read(2, 0, 1), 512), &[], &[]);
    assert!(failed.status().is(Status::INVALID_NAMESPACE));
    let (fine, _) = io.run(&mut world, transport(Command::read(1, 0, 1), 512), &[], &[]);
    assert!(fine.status().is_success());
    assert_eq!(world.stats(0).channels, 1);
}

#[test]
fn a_resized_bdev_has_its_new_size_on_every_core_and_hosts_are_told() {
    let (mut world, _) = world();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let (beyond, _) = io.run(&mut world, transport(Command::read(2, 64, 1), 512), &[], &[]);
    assert!(beyond.status().is(Status::LBA_OUT_OF_RANGE));
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 8);
    assert!(admin.run(&mut world, want, &[], &[]).0.status().is_success());
    let held = admin.submit(&world, Command::async_event_request(), &[]);
    world.registry.resize("Ram0", 100).unwrap();
    let (event, _) = admin.complete(&mut world, &[]);
    assert_eq!(event.cid.get(), held);
    let log = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
    let (_, bytes) = admin.fetch(&mut world, log, 4096);
    let list = NamespaceList::read_from_bytes(&bytes).unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [2]);
    let (_, bytes) = admin.fetch(&mut world, Command::identify(Cns::NAMESPACE, 2), 4096);
    assert_eq!(bytes[..8], 100_u64.to_le_bytes());
    world.registry.has_size("Ram0", 40).unwrap();
    let (event, _) = io.run(&mut world, transport(Command::read(2, 40, 1), 512), &[], &[]);
    assert!(event.status().is(Status::LBA_OUT_OF_RANGE));
}

#[test]
fn commands_under_way_at_a_removed_bdev_end_one_way_or_another() {
    let (mut world, shared) = world();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    shared.hold.store(true, Ordering::Relaxed);
    let read = io.submit(&world, transport(Command::read(2, 0, 1), 512), &[]);
    let write = io.submit(&world, transport(Command::write(2, 0, 1), 512), &[]);
    let r2t = wire::R2t::read_from_bytes(&io.receive(&mut world).unwrap().header).unwrap();
    world.registry.remove("Ram0").unwrap();
    world.rounds(20);
    io.answer_r2t(&world, &r2t, &[1; 512]);
    let (failed, _) = io.complete(&mut world, &[]);
    assert_eq!(failed.cid.get(), write);
    assert!(failed.status().is(Status::INVALID_NAMESPACE) && failed.status().dnr());
    shared.hold.store(false, Ordering::Relaxed);
    let (done, data) = io.complete(&mut world, &[]);
    assert_eq!((done.cid.get(), data.len()), (read, 512));
    world.rounds(10);
    assert_eq!(world.stats(0).channels, 1, "its channel went with its last Io");
}

#[test]
fn data_for_a_namespace_replaced_meanwhile_never_reaches_another_bdev() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    io.submit(&world, transport(Command::write(1, 0, 1), 512), &[]);
    let r2t = wire::R2t::read_from_bytes(&io.receive(&mut world).unwrap().header).unwrap();
    world.target.remove_ns(DEFAULT_NQN, 1).unwrap();
    world.rounds(20);
    // The next disk gets the first one's channel.
    let [second, first] = [2, 1].map(|nsid| {
        let disk = Disk::new(512, 64);
        let shared = Arc::clone(&disk.shared);
        let options = NamespaceOptions { nsid: Some(nsid), ..NamespaceOptions::default() };
        world.target.add_ns(DEFAULT_NQN, opened(Arc::new(disk)), options).unwrap();
        world.rounds(20);
        shared
    });
    io.answer_r2t(&world, &r2t, &[1; 512]);
    assert!(io.complete(&mut world, &[]).0.status().is_success());
    assert_eq!(second.bytes.lock()[0], 0xee, "nobody wrote to namespace 2");
    assert_eq!(first.bytes.lock()[0], 1);
}

#[test]
fn a_namespace_added_while_a_queue_connects_is_there_once_it_has() {
    for moment in 0..16 {
        let mut world = World::with(2, Arc::new(Disk::new(512, 8192)));
        let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut io = Host::dial(&world, 1, 4420);
        io.greet(&mut world, Digests::default());
        io.begin_connect(&world, 1, cntlid);
        // Core by core, so that the news overtakes the answer wherever it can.
        for step in 0..moment {
            let _ = world.reactors[1 - step % 2].poll(world.now);
        }
        let disk = opened(Arc::new(Disk::new(512, 64)));
        let nsid = world.target.add_ns(DEFAULT_NQN, disk, NamespaceOptions::default()).unwrap();
        for _ in 0..4 {
            let _ = world.reactors[0].poll(world.now);
        }
        assert!(io.complete(&mut world, &[]).0.status().is_success());
        world.rounds(20);
        let (done, _) = io.run(&mut world, transport(Command::read(nsid, 0, 1), 512), &[], &[]);
        assert!(done.status().is_success(), "{moment}: {:?}", done.status());
    }
}
