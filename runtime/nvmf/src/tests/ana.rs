//! Asymmetric Namespace Access: one subsystem behind two listeners, ports 4420 and 4421.

mod delays;

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use basalt_nvme_spec::identify::{IdentifyController, IdentifyNamespace};
use basalt_nvme_spec::registers::{self, Cc};
use basalt_nvme_spec::{
    AnaGroup, AnaHeader, AsyncEvent, Cns, Command, FeatureId, LogPageId, NSID_ALL, SglDescriptor,
    Status,
};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::{World, opened};
use crate::pdu::Digests;
use crate::{
    AnaState, ConfigError, DEFAULT_NQN, HostPolicy, Listener, NamespaceOptions, SubsystemOptions,
    TransportConfig,
};
use basalt_bdev::suite::disk::{Disk, Shared};

/// A machine of two cores whose subsystem has three namespaces, the third in the group of the
/// first, and the disk of the first.
fn world() -> (World, Arc<Shared>) {
    let mut world = World::empty(2, TransportConfig::default(), 16 << 20);
    let options = SubsystemOptions { ana_reporting: true, ..SubsystemOptions::default() };
    world.target.create_subsystem(DEFAULT_NQN, options).unwrap();
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    let disks = [1, 2, 1].map(|anagrpid| {
        let disk = Disk::new(512, 64);
        let shared = Arc::clone(&disk.shared);
        let options = NamespaceOptions { anagrpid: Some(anagrpid), ..NamespaceOptions::default() };
        world.target.add_ns(DEFAULT_NQN, opened(Arc::new(disk)), options).unwrap();
        shared
    });
    world.listen(DEFAULT_NQN, 4420);
    world.listen(DEFAULT_NQN, 4421);
    let [disk, ..] = disks;
    (world, disk)
}

fn set(world: &mut World, port: u16, ana: AnaState, group: Option<u32>) {
    let target = Rc::clone(&world.target);
    let task = async move { target.set_ana_state(DEFAULT_NQN, port.into(), ana, group).await };
    assert_eq!(world.run(task), Some(Ok(())));
}

fn read(world: &mut World, io: &mut Host, nsid: u32) -> Status {
    let mut read = Command::read(nsid, 0, 1);
    read.set_sgl1(SglDescriptor::transport(512));
    io.run(world, read, &[], &[]).0.status()
}

/// Has a host hear of changed access and hold a request.
fn listen(world: &mut World, admin: &mut Host) -> u16 {
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 11);
    assert!(admin.run(world, want, &[], &[]).0.status().is_success());
    admin.submit(world, Command::async_event_request(), &[])
}

fn log(offset: u64, len: u32) -> Command {
    Command::get_log_page(LogPageId::ASYMMETRIC_NAMESPACE_ACCESS, 0, offset, len)
}

/// Change count of the page, and of each group its identifier, state, change count and namespaces.
type Page = (u64, Vec<(u32, u8, u64, Vec<u32>)>);

fn page(world: &mut World, admin: &mut Host, command: Command) -> Page {
    let (done, bytes) = admin.fetch(world, command, 512);
    assert!(done.status().is_success());
    let (header, mut rest) = AnaHeader::read_from_prefix(&bytes).unwrap();
    let groups = (0..header.groups.get()).map(|_| {
        let (group, after) = AnaGroup::read_from_prefix(rest).unwrap();
        let (nsids, after) = after.split_at(group.nsids.get() as usize * 4);
        rest = after;
        let nsids = nsids.chunks(4).map(|nsid| u32::from_le_bytes(nsid.try_into().unwrap()));
        (group.anagrpid.get(), group.state, group.change_count.get(), nsids.collect())
    });
    let groups = groups.collect();
    (header.change_count.get(), groups)
}

fn identify_ns(world: &mut World, admin: &mut Host, nsid: u32) -> IdentifyNamespace {
    let (_, bytes) = admin.fetch(world, Command::identify(Cns::NAMESPACE, nsid), 4096);
    IdentifyNamespace::read_from_bytes(&bytes).unwrap()
}

fn identify(world: &mut World, admin: &mut Host) -> IdentifyController {
    let (_, bytes) = admin.fetch(world, Command::identify(Cns::CONTROLLER, 0), 4096);
    IdentifyController::read_from_bytes(&bytes).unwrap()
}

#[test]
fn identify_tells_what_is_reported_of_access() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let id = identify(&mut world, &mut admin);
    assert_eq!((id.cmic, id.oaes.get() & 1 << 11), (0b1011, 1 << 11));
    assert_eq!((id.anatt, id.anacap), (10, 0b1_1111));
    assert_eq!((id.anagrpmax.get(), id.nanagrpid.get()), (1024, 1024));
    for (nsid, group) in [(1, 1), (2, 2), (3, 1)] {
        assert_eq!(identify_ns(&mut world, &mut admin, nsid).anagrpid.get(), group);
        let independent = Command::identify(Cns::NAMESPACE_INDEPENDENT, nsid);
        assert_eq!(admin.fetch(&mut world, independent, 4096).1[4..8], group.to_le_bytes());
    }
}

#[test]
fn a_subsystem_with_symmetric_access_says_nothing_of_groups() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let id = identify(&mut world, &mut admin);
    assert_eq!((id.cmic, id.oaes.get() & 1 << 11, id.anagrpmax.get()), (0b11, 0, 0));
    assert_eq!(identify_ns(&mut world, &mut admin, 1).anagrpid.get(), 0);
    let (done, _) = admin.fetch(&mut world, log(0, 512), 512);
    assert!(done.status().is(Status::INVALID_LOG_PAGE));
    let target = Rc::clone(&world.target);
    let task = async move {
        let lost = AnaState::Inaccessible;
        target.set_ana_state(DEFAULT_NQN, 4420.into(), lost, None).await
    };
    assert_eq!(world.run(task), Some(Err(ConfigError::AnaDisabled)));
    assert_eq!(world.target.ana_states(DEFAULT_NQN), []);
}

#[test]
fn commands_end_by_the_state_of_the_path_they_came_by_and_may_be_retried() {
    let (mut world, _) = world();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (other, other_cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4421);
    let mut near = admin.join(&mut world, 0, cntlid);
    let mut far = other.join(&mut world, 1, other_cntlid);
    for (ana, expected) in [
        (AnaState::NonOptimized, Status::SUCCESS),
        (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
        (AnaState::Change, Status::ANA_TRANSITION),
        (AnaState::Optimized, Status::SUCCESS),
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
    ] {
        set(&mut world, 4421, ana, Some(1));
        let statuses = [1, 2, 3].map(|nsid| read(&mut world, &mut far, nsid));
        assert_eq!(statuses, [expected, Status::SUCCESS, expected], "{ana:?}: no DNR");
        assert!([1, 2, 3].iter().all(|nsid| read(&mut world, &mut near, *nsid).is_success()));
        let (flushed, _) = far.run(&mut world, Command::flush(1), &[], &[]);
        assert_eq!(flushed.status(), expected);
    }
}

#[test]
fn a_lost_path_stays_lost() {
    let (mut world, _) = world();
    set(&mut world, 4420, AnaState::PersistentLoss, Some(2));
    set(&mut world, 4420, AnaState::PersistentLoss, None);
    let target = Rc::clone(&world.target);
    let task = async move {
        target.set_ana_state(DEFAULT_NQN, 4420.into(), AnaState::Optimized, Some(2)).await
    };
    assert_eq!(world.run(task), Some(Err(ConfigError::AnaLost)));
}

#[test]
fn hosts_of_the_listener_are_told_of_a_change_and_no_others() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (mut other, _) = Host::admin(&mut world, DEFAULT_NQN, 4421);
    let (mut deaf, _) = Host::admin(&mut world, DEFAULT_NQN, 4421);
    let _ = deaf.submit(&world, Command::async_event_request(), &[]);
    let _ = listen(&mut world, &mut admin);
    let held = listen(&mut world, &mut other);
    set(&mut world, 4421, AnaState::Inaccessible, Some(7));
    set(&mut world, 4421, AnaState::Change, Some(1));
    other.expect_silence(&mut world);
    set(&mut world, 4421, AnaState::Inaccessible, Some(1));
    let (event, _) = other.complete(&mut world, &[]);
    let expected = AsyncEvent::new(AsyncEvent::TYPE_NOTICE, 3, 0x0c);
    assert_eq!((event.cid.get(), AsyncEvent(event.dw0.get())), (held, expected));
    let _ = other.submit(&world, Command::async_event_request(), &[]);
    set(&mut world, 4421, AnaState::Optimized, None);
    other.expect_silence(&mut world);
    let (_, groups) = page(&mut world, &mut other, log(0, 512));
    assert_eq!(groups.iter().map(|group| group.1).collect::<Vec<_>>(), [1, 1]);
    set(&mut world, 4421, AnaState::NonOptimized, None);
    assert_eq!(AsyncEvent(other.complete(&mut world, &[]).0.dw0.get()), expected);
    for silent in [&admin, &deaf] {
        silent.expect_silence(&mut world);
    }
}

#[test]
fn the_log_page_lists_groups_with_their_namespaces_and_counts_changes() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let whole = page(&mut world, &mut admin, log(0, 512));
    assert_eq!(whole, (0, [(1, 1, 0, [1, 3].into()), (2, 1, 0, [2].into())].into()));
    set(&mut world, 4421, AnaState::Inaccessible, None);
    assert_eq!(page(&mut world, &mut admin, log(0, 512)), whole, "another listener's");
    set(&mut world, 4420, AnaState::NonOptimized, Some(2));
    set(&mut world, 4420, AnaState::Inaccessible, Some(1));
    let changed = (2, [(1, 3, 2, [1, 3].into()), (2, 2, 1, [2].into())].into());
    assert_eq!(page(&mut world, &mut admin, log(0, 512)), changed);
    let mut groups_only = log(0, 512);
    groups_only.cdw10 = (groups_only.cdw10.get() | 1 << 8).into();
    let (_, groups) = page(&mut world, &mut admin, groups_only);
    assert_eq!(groups, [(1, 3, 2, [].into()), (2, 2, 1, [].into())]);
    world.target.remove_ns(DEFAULT_NQN, 2).unwrap();
    let (count, groups) = page(&mut world, &mut admin, log(0, 512));
    assert_eq!((count, groups), (3, [(1, 3, 2, [1, 3].into())].into()));
    assert!(admin.property_set(&mut world, registers::CC, 0).status().is_success());
    let enabled = u64::from(Cc::enabled(Cc::CSS_NVM).0);
    assert!(admin.property_set(&mut world, registers::CC, enabled).status().is_success());
    let (count, groups) = page(&mut world, &mut admin, log(0, 512));
    assert_eq!((count, groups), (0, [(1, 3, 0, [1, 3].into())].into()));
}

#[test]
fn the_log_page_may_be_read_in_pieces_and_not_beyond_its_end() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    set(&mut world, 4420, AnaState::NonOptimized, Some(2));
    let (_, whole) = admin.fetch(&mut world, log(0, 512), 512);
    let len = 16 + 2 * 32 + 3 * 4;
    assert!(whole[len..].iter().all(|byte| *byte == 0));
    for offset in (0..len).step_by(4) {
        let (_, piece) = admin.fetch(&mut world, log(offset as u64, 8), 8);
        assert_eq!(piece, whole[offset..offset + 8], "{offset}");
    }
    let (beyond, _) = admin.fetch(&mut world, log(len as u64 + 4, 8), 8);
    assert!(beyond.status().is(Status::INVALID_FIELD));
}

#[test]
fn a_namespace_out_of_reach_has_no_capacity_to_tell_and_no_features_of_its_own() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let about = |mut command: Command, nsid: u32| {
        command.nsid = nsid.into();
        command
    };
    let recovery = |nsid| about(Command::set_features(FeatureId::ERROR_RECOVERY, 1), nsid);
    let events = |nsid| about(Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 0), nsid);
    let get = |nsid| Command::get_features(FeatureId::ERROR_RECOVERY, nsid);
    for (ana, told, refusal) in [
        (AnaState::Change, 64, Status::ANA_TRANSITION),
        (AnaState::Inaccessible, 0, Status::ANA_INACCESSIBLE),
        (AnaState::PersistentLoss, 0, Status::ANA_PERSISTENT_LOSS),
    ] {
        set(&mut world, 4420, ana, Some(2));
        let ns = identify_ns(&mut world, &mut admin, 2);
        assert_eq!((ns.nsze.get(), ns.nuse.get()), (64, told));
        assert_eq!(u64::try_from(ns.nvmcap.get()), Ok(told * 512));
        let lost = ana == AnaState::PersistentLoss;
        for (command, expected) in [
            (recovery(1), Status::SUCCESS),
            (get(1), Status::SUCCESS),
            (get(NSID_ALL), Status::SUCCESS),
            (events(0), Status::SUCCESS),
            (recovery(2), refusal),
            (get(2), refusal),
            (events(NSID_ALL), refusal),
        ] {
            let (done, _) = admin.run(&mut world, command, &[], &[]);
            assert_eq!(done.status(), expected, "{ana:?} {command:?}");
        }
        let (done, _) = admin.run(&mut world, events(2), &[], &[]);
        assert!(done.status().is(if lost { refusal } else { Status::FEATURE_NOT_PER_NAMESPACE }));
    }
}

#[test]
fn a_path_is_closed_once_what_was_let_in_before_has_ended() {
    let (mut world, disk) = world();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 1, cntlid);
    disk.hold.store(true, Ordering::Relaxed);
    let mut write = Command::write(1, 5, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    let written = io.submit(&world, write, &[1; 512]);
    world.rounds(20);
    let (target, ended) = (Rc::clone(&world.target), Rc::new(core::cell::Cell::new(None)));
    let slot = Rc::clone(&ended);
    world.reactors[0].local().spawn("test", async move {
        let lost = AnaState::Inaccessible;
        slot.set(Some(target.set_ana_state(DEFAULT_NQN, 4420.into(), lost, None).await));
    });
    world.rounds(500);
    assert_eq!(ended.get(), None, "a write is at the disk");
    let late = io.submit(&world, write, &[2; 512]);
    let (refused, _) = io.complete(&mut world, &[]);
    assert_eq!((refused.cid.get(), refused.status()), (late, Status::ANA_INACCESSIBLE));
    disk.hold.store(false, Ordering::Relaxed);
    let (done, _) = io.complete(&mut world, &[]);
    assert_eq!((done.cid.get(), done.status()), (written, Status::SUCCESS));
    world.rounds(500);
    assert_eq!(ended.get(), Some(Ok(())));
    assert_eq!(disk.bytes.lock()[5 * 512], 1);
}

#[test]
fn what_a_full_disk_has_not_taken_yet_is_refused_when_its_path_closes() {
    let mut world = World::empty(1, TransportConfig::default(), 16 << 20);
    let options = SubsystemOptions { ana_reporting: true, ..SubsystemOptions::default() };
    world.target.create_subsystem(DEFAULT_NQN, options).unwrap();
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    let disk = Disk::lacking(512, 64, &[], 1);
    let shared = Arc::clone(&disk.shared);
    world.target.add_ns(DEFAULT_NQN, opened(Arc::new(disk)), Default::default()).unwrap();
    world.listen(DEFAULT_NQN, 4420);
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 0, cntlid);
    shared.hold.store(true, Ordering::Relaxed);
    let cids = [1, 2].map(|_| io.submit(&world, Command::write_zeroes(1, 0, 1), &[]));
    world.rounds(20);
    let target = Rc::clone(&world.target);
    world.reactors[0].local().spawn("test", async move {
        let lost = AnaState::Inaccessible;
        target.set_ana_state(DEFAULT_NQN, 4420.into(), lost, None).await.unwrap();
    });
    world.rounds(20);
    shared.hold.store(false, Ordering::Relaxed);
    let done = [1, 2].map(|_| io.complete(&mut world, &[]).0);
    let done = done.map(|done| (done.cid.get(), done.status()));
    assert_eq!(done, [(cids[1], Status::ANA_INACCESSIBLE), (cids[0], Status::SUCCESS)]);
}

#[test]
fn no_core_goes_by_the_old_state_once_it_has_been_changed_under_load() {
    let (mut world, _) = world();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut queues = [0, 1].map(|core| {
        let mut io = Host::dial(&world, core, 4420);
        io.greet(&mut world, Digests::default());
        let done = io.try_connect(&mut world, core as u16 + 1, 16, cntlid, 0);
        assert!(done.status().is_success());
        io
    });
    for turn in 0..40 {
        for io in &mut queues {
            for _ in 0..8 {
                let _ = io.submit(&world, Command::write_zeroes(1, 0, 1), &[]);
            }
        }
        world.rounds(turn % 7);
        let (ana, after) = match turn % 2 {
            0 => (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
            _ => (AnaState::Optimized, Status::SUCCESS),
        };
        set(&mut world, 4420, ana, None);
        for io in &mut queues {
            let last = io.submit(&world, Command::write_zeroes(1, 0, 1), &[]);
            let mut statuses = Vec::new();
            loop {
                let (done, _) = io.complete(&mut world, &[]);
                statuses.push(done.status());
                if done.cid.get() == last {
                    break;
                }
            }
            assert_eq!(statuses.last(), Some(&after));
            let either = [Status::SUCCESS, Status::ANA_INACCESSIBLE];
            assert!(statuses.iter().all(|status| either.contains(status)), "{statuses:?}");
        }
    }
}

#[test]
fn a_namespace_may_change_its_group_and_every_host_is_told() {
    let (mut world, _) = world();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 1, cntlid);
    set(&mut world, 4420, AnaState::Inaccessible, Some(9));
    let held = listen(&mut world, &mut admin);
    let target = Rc::clone(&world.target);
    let task = async move { target.set_ns_ana_group(DEFAULT_NQN, 3, 9).await };
    assert_eq!(world.run(task), Some(Ok(())));
    assert_eq!(admin.complete(&mut world, &[]).0.cid.get(), held);
    let expected = [(1, 1, 1, [1].into()), (2, 1, 0, [2].into()), (9, 3, 1, [3].into())];
    assert_eq!(page(&mut world, &mut admin, log(0, 512)), (1, expected.into()));
    assert_eq!(read(&mut world, &mut io, 3), Status::ANA_INACCESSIBLE);
    assert!(read(&mut world, &mut io, 1).is_success());
    let target = Rc::clone(&world.target);
    let task = async move { target.set_ns_ana_group(DEFAULT_NQN, 3, 1025).await };
    assert_eq!(world.run(task), Some(Err(ConfigError::BadAnaGroup)));
}

#[test]
fn a_path_refused_is_no_error_to_log() {
    let (mut world, _) = world();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = admin.join(&mut world, 0, cntlid);
    set(&mut world, 4420, AnaState::Inaccessible, None);
    assert!(!read(&mut world, &mut io, 1).is_success());
    world.rounds(20);
    let log = Command::get_log_page(LogPageId::ERROR_INFORMATION, NSID_ALL, 0, 64);
    assert_eq!(admin.fetch(&mut world, log, 64).1, [0; 64]);
}

#[test]
fn a_listener_that_goes_takes_its_controllers_along_and_leaves_the_others() {
    let (mut world, _) = world();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let io = admin.join(&mut world, 1, cntlid);
    let (other, _) = Host::admin(&mut world, DEFAULT_NQN, 4421);
    world.target.remove_listener(DEFAULT_NQN, 4420).unwrap();
    world.rounds(60);
    assert!(admin.is_closed(&world) && io.is_closed(&world) && !other.is_closed(&world));
}

#[test]
fn all_queues_of_a_controller_come_by_the_same_port() {
    let (mut world, _) = world();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::dial(&world, 0, 4421);
    io.greet(&mut world, Digests::default());
    let refused = io.try_connect(&mut world, 1, 16, cntlid, 0).status();
    assert!(refused.is(Status::CONNECT_INVALID_PARAMETERS));
}

#[test]
fn of_two_listeners_that_fit_the_one_at_the_address_itself_counts() {
    let (mut world, _) = world();
    let at = Listener { address: [10, 0, 0, 1].into(), port: 4420 };
    let target = Rc::clone(&world.target);
    let task = async move { target.add_listener_in(DEFAULT_NQN, at, AnaState::NonOptimized).await };
    assert_eq!(world.run(task), Some(Ok(())));
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (_, groups) = page(&mut world, &mut admin, log(0, 512));
    assert!(groups.iter().all(|group| group.1 == AnaState::NonOptimized as u8));
}
