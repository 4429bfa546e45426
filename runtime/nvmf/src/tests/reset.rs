//! Controller configuration, shutdown and reset.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::registers::{self, Cap, Cc, Csts, Shutdown};
use basalt_nvme_spec::{Command, SglDescriptor, Status};

use super::host::Host;
use super::world::{World, opened};
use crate::pdu::Digests;
use crate::{
    DEFAULT_NQN, HostPolicy, NamespaceOptions, SubsystemOptions, SubsystemReset, TransportConfig,
};
use basalt_bdev::suite::disk::Disk;

const ENABLED: Cc = Cc::enabled(Cc::CSS_NVM);

fn csts(host: &mut Host, world: &mut World) -> Csts {
    Csts::from_bits_retain(host.property_get(world, registers::CSTS, 4) as u32)
}

fn set_cc(host: &mut Host, world: &mut World, cc: Cc) -> Status {
    host.property_set(world, registers::CC, cc.0.into()).status()
}

#[test]
fn a_reset_controller_takes_its_queues_again_although_the_disk_still_has_their_ios() {
    let disk = Disk::new(512, 8192);
    let shared = Arc::clone(&disk.shared);
    let mut world = World::with(1, Arc::new(disk));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    shared.hold.store(true, Ordering::Relaxed);
    let mut read = Command::read(1, 0, 1);
    read.set_sgl1(SglDescriptor::transport(512));
    io.submit(&world, read, &[]);
    world.rounds(10);
    assert!(set_cc(&mut admin, &mut world, Cc::DISABLED).is_success());
    assert!(csts(&mut admin, &mut world).is_empty());
    world.rounds(20);
    assert!(io.is_closed(&world), "a disabled controller has no I/O queues");
    assert!(set_cc(&mut admin, &mut world, ENABLED).is_success());
    let _again = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    assert_eq!(world.target.controllers()[0].queues.len(), 2);
    shared.hold.store(false, Ordering::Relaxed);
    world.rounds(20);
    assert_eq!(world.target.controllers()[0].queues.len(), 2, "the old queue takes none along");
}

#[test]
fn what_is_fixed_while_enabled_cannot_be_changed() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let page_size = Cc(ENABLED.0 | 1 << 7);
    let command_sets = Cc(ENABLED.0 | 6 << 4);
    let arbitration = Cc(ENABLED.0 | 1 << 11);
    for cc in [page_size, command_sets, arbitration] {
        assert!(set_cc(&mut admin, &mut world, cc).is(Status::INVALID_FIELD));
        assert_eq!(admin.property_get(&mut world, registers::CC, 4), u64::from(ENABLED.0));
    }
    assert!(set_cc(&mut admin, &mut world, Cc::DISABLED).is_success());
    assert!(set_cc(&mut admin, &mut world, arbitration).is(Status::INVALID_FIELD));
    assert!(!csts(&mut admin, &mut world).contains(Csts::READY));
}

#[test]
fn a_controller_shut_down_takes_no_queue_until_it_is_reset() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    assert!(set_cc(&mut admin, &mut world, ENABLED.with_shutdown(Shutdown::NORMAL)).is_success());
    assert_eq!(csts(&mut admin, &mut world).shutdown(), Shutdown::COMPLETE);
    world.rounds(20);
    assert!(io.is_closed(&world));
    let mut late = Host::dial(&world, 0, 4420);
    late.greet(&mut world, Digests::default());
    let refused = late.try_connect(&mut world, 1, 16, cntlid, 0);
    assert!(refused.status().is(Status::SEQUENCE_ERROR));
    assert!(set_cc(&mut admin, &mut world, Cc::DISABLED).is_success());
    assert_eq!(admin.property_get(&mut world, registers::CC, 4), 0);
    assert!(set_cc(&mut admin, &mut world, ENABLED).is_success());
    assert_eq!(csts(&mut admin, &mut world), Csts::READY);
    let _io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
}

#[test]
fn properties_have_one_size_and_some_are_read_only() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let cap = Cap(admin.property_get(&mut world, registers::CAP, 8));
    assert!(cap.ready_with_media());
    let ready = admin.property_get(&mut world, registers::CRTO, 4) & 0xffff;
    assert_eq!(u128::from(ready * 500), cap.timeout().as_millis());
    for property in [
        Property::get(registers::CAP as u32, 4),
        Property::get(registers::CC as u32, 8),
        Property::get(registers::AQA as u32, 4),
        Property::get(2, 4),
        Property::get(u32::MAX, 4),
        Property::set(registers::CAP as u32, 8, 0),
        Property::set(registers::CSTS as u32, 4, 0),
        Property::set(registers::CC as u32, 8, 0),
    ] {
        let (done, _) = admin.run(&mut world, property.into(), &[], &[]);
        assert!(done.status().is(Status::INVALID_FIELD), "{property:?}: {:?}", done.status());
    }
}

const OTHER: &str = "nqn.2026-11.io.basalt:other";

/// A world whose default subsystem can be reset, and another that cannot.
fn resettable() -> World {
    let mut world = World::empty(2, TransportConfig::default(), 16 << 20);
    let options = SubsystemOptions { nssr: SubsystemReset::Supported, ..Default::default() };
    for (nqn, options) in [(DEFAULT_NQN, options), (OTHER, SubsystemOptions::default())] {
        world.target.create_subsystem(nqn, options).unwrap();
        world.target.allow_any_host(nqn, HostPolicy::Any).unwrap();
        let disk = opened(Arc::new(Disk::new(512, 64)));
        world.target.add_ns(nqn, disk, NamespaceOptions::default()).unwrap();
        world.listen(nqn, 4420);
    }
    world
}

fn cap(host: &mut Host, world: &mut World) -> Cap {
    Cap(host.property_get(world, registers::CAP, 8))
}

#[test]
fn a_subsystem_is_reset_with_the_controllers_of_all_hosts_and_no_other() {
    let mut world = resettable();
    let (mut first, first_id) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (mut second, second_id) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (mut other, _) = Host::admin(&mut world, OTHER, 4420);
    assert!(cap(&mut first, &mut world).subsystem_reset());
    assert!(!cap(&mut other, &mut world).subsystem_reset());
    let queues = [(0, first_id), (1, second_id)]
        .map(|(core, id)| Host::io(&mut world, core, id, 1, Digests::default()));
    let held = second.submit(&world, Command::async_event_request(), &[]);
    world.rounds(20);
    let key = u64::from(registers::NSSR_KEY);
    assert!(first.property_set(&mut world, registers::NSSR, key + 1).status().is_success());
    assert_eq!(csts(&mut first, &mut world), Csts::READY, "another value does nothing");
    let refused = other.property_set(&mut world, registers::NSSR, key);
    assert!(refused.status().is(Status::INVALID_FIELD));
    assert!(first.property_set(&mut world, registers::NSSR, key).status().is_success());
    let (aborted, _) = second.complete(&mut world, &[]);
    assert_eq!(aborted.cid.get(), held);
    assert!(aborted.status().is(Status::ABORT_REQUESTED));
    world.rounds(20);
    assert!(queues.iter().all(|queue| queue.is_closed(&world)));
    for (host, id) in [(&mut first, first_id), (&mut second, second_id)] {
        assert_eq!(csts(host, &mut world), Csts::SUBSYSTEM_RESET);
        let (refused, _) = host.run(&mut world, Command::keep_alive(), &[], &[]);
        assert!(refused.status().is(Status::SEQUENCE_ERROR), "not enabled");
        assert!(set_cc(host, &mut world, ENABLED).is_success());
        let _again = Host::io(&mut world, 0, id, 1, Digests::default());
    }
    assert_eq!(csts(&mut other, &mut world), Csts::READY);
    assert!(other.run(&mut world, Command::keep_alive(), &[], &[]).0.status().is_success());
    assert_eq!(first.property_get(&mut world, registers::NSSR, 4), 0);
}

#[test]
fn that_a_subsystem_was_reset_is_told_until_a_host_acknowledges_it() {
    let mut world = resettable();
    let (mut host, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let key = u64::from(registers::NSSR_KEY);
    assert!(host.property_set(&mut world, registers::NSSR, key).status().is_success());
    assert!(set_cc(&mut host, &mut world, ENABLED).is_success());
    let both = Csts::READY | Csts::SUBSYSTEM_RESET;
    assert_eq!(csts(&mut host, &mut world), both);
    assert!(set_cc(&mut host, &mut world, Cc::DISABLED).is_success());
    assert_eq!(csts(&mut host, &mut world), Csts::SUBSYSTEM_RESET, "a reset does not hide it");
    let clear = |value: Csts| u64::from(value.bits());
    let ready = clear(Csts::READY);
    assert!(host.property_set(&mut world, registers::CSTS, ready).status().is_success());
    assert_eq!(csts(&mut host, &mut world), Csts::SUBSYSTEM_RESET);
    let all = clear(Csts::all());
    assert!(host.property_set(&mut world, registers::CSTS, all).status().is_success());
    assert!(csts(&mut host, &mut world).is_empty());
    let mut late = Host::dial(&world, 0, 4420);
    late.greet(&mut world, Digests::default());
    assert!(late.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
    assert_eq!(csts(&mut late, &mut world), Csts::SUBSYSTEM_RESET, "a new controller tells, too");
    let (mut other, _) = Host::admin(&mut world, OTHER, 4420);
    let refused = other.property_set(&mut world, registers::CSTS, all);
    assert!(refused.status().is(Status::INVALID_FIELD));
}
