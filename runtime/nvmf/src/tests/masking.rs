//! Namespaces that only some hosts see.

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::Ordering;

use basalt_nvme_spec::identify::NamespaceList;
use basalt_nvme_spec::{
    AsyncEvent, Cns, Command, Csi, FeatureId, LogPageId, SglDescriptor, Status,
};
use zerocopy::FromBytes;

use super::host::{HOST_NQN, Host};
use super::world::{World, opened};
use crate::{ConfigError, DEFAULT_NQN, NamespaceOptions};
use basalt_bdev::suite::disk::{Disk, Shared};

const OTHER: &str = "nqn.2014-08.org.nvmexpress:uuid:other-host";

/// A machine of two cores with a namespace that all hosts see, and a second one for none yet.
fn world() -> (World, Arc<Shared>) {
    let world = World::with(2, Arc::new(Disk::new(512, 64)));
    let disk = Disk::new(512, 64);
    let shared = Arc::clone(&disk.shared);
    let options = NamespaceOptions { no_auto_visible: true, ..NamespaceOptions::default() };
    assert_eq!(world.target.add_ns(DEFAULT_NQN, opened(Arc::new(disk)), options), Ok(2));
    (world, shared)
}

fn show(world: &mut World, nsid: u32, host: &'static str) -> Result<(), ConfigError> {
    let target = Rc::clone(&world.target);
    world.run(async move { target.ns_add_host(DEFAULT_NQN, nsid, host).await }).unwrap()
}

fn hide(world: &mut World, nsid: u32, host: &'static str) -> Result<(), ConfigError> {
    let target = Rc::clone(&world.target);
    world.run(async move { target.ns_remove_host(DEFAULT_NQN, nsid, host).await }).unwrap()
}

fn active(world: &mut World, admin: &mut Host) -> Vec<u32> {
    let (_, bytes) = admin.fetch(world, Command::identify(Cns::ACTIVE_NAMESPACES, 0), 4096);
    NamespaceList::read_from_bytes(&bytes).unwrap().iter().collect()
}

fn read(world: &mut World, io: &mut Host, nsid: u32) -> Status {
    let mut read = Command::read(nsid, 0, 1);
    read.set_sgl1(SglDescriptor::transport(512));
    io.run(world, read, &[], &[]).0.status()
}

/// Has a host hear of namespaces and hold a request.
fn listen(world: &mut World, admin: &mut Host) -> u16 {
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 8);
    assert!(admin.run(world, want, &[], &[]).0.status().is_success());
    admin.submit(world, Command::async_event_request(), &[])
}

#[test]
fn a_hidden_namespace_is_as_good_as_none() {
    let (mut world, _) = world();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 1, cntlid);
    assert_eq!(active(&mut world, &mut admin), [1]);
    let list = Command::identify_csi(Cns(0x07), 0, Csi::NVM);
    assert_eq!(admin.fetch(&mut world, list, 4096).1[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    for cns in [Cns::NAMESPACE, Cns::NAMESPACE_INDEPENDENT] {
        let (done, bytes) = admin.fetch(&mut world, Command::identify(cns, 2), 4096);
        assert!(done.status().is_success() && bytes.iter().all(|byte| *byte == 0), "inactive");
    }
    let descriptors = Command::identify(Cns::NAMESPACE_DESCRIPTORS, 2);
    let (done, _) = admin.fetch(&mut world, descriptors, 4096);
    assert!(done.status().is(Status::INVALID_NAMESPACE));
    let refused = read(&mut world, &mut io, 2);
    assert!(refused.is(Status::INVALID_NAMESPACE) && refused.dnr());
    assert!(read(&mut world, &mut io, 1).is_success());
}

#[test]
fn a_host_is_shown_a_namespace_and_told_alone() {
    let (mut world, _) = world();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (mut other, other_cntlid) = Host::admin_of(&mut world, OTHER, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 1, cntlid);
    let mut blind = other.join(&mut world, 1, other_cntlid);
    let _ = listen(&mut world, &mut other);
    for is_shown in [true, false, true] {
        let held = listen(&mut world, &mut admin);
        match is_shown {
            true => show(&mut world, 2, HOST_NQN).unwrap(),
            false => hide(&mut world, 2, HOST_NQN).unwrap(),
        }
        let (event, _) = admin.complete(&mut world, &[]);
        let told = AsyncEvent(event.dw0.get());
        assert_eq!((event.cid.get(), told.info(), told.log_page()), (held, 0, 4));
        let log = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
        let (_, bytes) = admin.fetch(&mut world, log, 4096);
        let changed = NamespaceList::read_from_bytes(&bytes).unwrap();
        assert_eq!(changed.iter().collect::<Vec<_>>(), [2]);
        let expected: &[u32] = if is_shown { &[1, 2] } else { &[1] };
        assert_eq!(active(&mut world, &mut admin), expected);
        assert_eq!(read(&mut world, &mut io, 2).is_success(), is_shown);
        assert!(read(&mut world, &mut blind, 2).is(Status::INVALID_NAMESPACE));
        assert_eq!(active(&mut world, &mut other), [1]);
    }
    other.expect_silence(&mut world);
}

#[test]
fn a_hosts_next_controller_sees_what_it_was_shown_before() {
    let (mut world, _) = world();
    show(&mut world, 2, HOST_NQN).unwrap();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert_eq!(active(&mut world, &mut admin), [1, 2]);
    let mut io = admin.join(&mut world, 1, cntlid);
    assert!(read(&mut world, &mut io, 2).is_success());
}

#[test]
fn what_changes_nothing_is_told_to_nobody_and_what_cannot_be_is_refused() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let _ = listen(&mut world, &mut admin);
    assert_eq!(hide(&mut world, 2, HOST_NQN), Ok(()));
    assert_eq!(show(&mut world, 2, OTHER), Ok(()));
    assert_eq!(show(&mut world, 2, OTHER), Ok(()));
    assert_eq!(show(&mut world, 1, HOST_NQN), Err(ConfigError::AutoVisible));
    assert_eq!(hide(&mut world, 1, HOST_NQN), Err(ConfigError::AutoVisible));
    assert_eq!(show(&mut world, 3, HOST_NQN), Err(ConfigError::NoSuchNamespace));
    assert_eq!(show(&mut world, 2, "storage"), Err(ConfigError::BadNqn));
    world.target.remove_ns(DEFAULT_NQN, 2).unwrap();
    admin.expect_silence(&mut world);
}

#[test]
fn a_namespace_is_hidden_once_what_was_let_in_before_has_ended() {
    let (mut world, disk) = world();
    show(&mut world, 2, HOST_NQN).unwrap();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 1, cntlid);
    disk.hold.store(true, Ordering::Relaxed);
    let held = io.submit(&world, Command::write_zeroes(2, 5, 1), &[]);
    world.rounds(20);
    let (target, ended) = (Rc::clone(&world.target), Rc::new(Cell::new(None)));
    let slot = Rc::clone(&ended);
    world.reactors[0].local().spawn("test", async move {
        slot.set(Some(target.ns_remove_host(DEFAULT_NQN, 2, HOST_NQN).await));
    });
    world.rounds(500);
    assert_eq!(ended.get(), None);
    disk.hold.store(false, Ordering::Relaxed);
    let (done, _) = io.complete(&mut world, &[]);
    assert_eq!((done.cid.get(), done.status()), (held, Status::SUCCESS));
    world.rounds(500);
    assert_eq!(ended.get(), Some(Ok(())));
}

#[test]
fn paths_of_hosts_that_left_are_used_again() {
    let (mut world, _) = world();
    show(&mut world, 2, OTHER).unwrap();
    for turn in 0..20 {
        let (name, seen) = if turn % 2 == 0 { (HOST_NQN, false) } else { (OTHER, true) };
        let (admin, cntlid) = Host::admin_of(&mut world, name, DEFAULT_NQN, 4420);
        let mut io = admin.join(&mut world, 1, cntlid);
        assert_eq!(read(&mut world, &mut io, 2).is_success(), seen, "{name}");
        assert_eq!(world.stats(1).paths, 1);
        admin.hang_up(&world);
        world.rounds(60);
        assert_eq!(world.stats(1).paths, 0);
    }
}
