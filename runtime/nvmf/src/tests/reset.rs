//! Controller configuration, shutdown and reset.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::registers::{self, Cap, Cc, Csts, Shutdown};
use basalt_nvme_spec::{Command, SglDescriptor, Status};

use super::disk::Disk;
use super::host::Host;
use super::world::World;
use crate::DEFAULT_NQN;
use crate::pdu::Digests;

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
