use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use basalt_nvme_spec::identify::IdentifyController;
use basalt_nvme_spec::log_page::{ErrorEntry, SmartHealth};
use basalt_nvme_spec::registers::{self, Cc, Shutdown};
use basalt_nvme_spec::{Cns, Command, FeatureId, LogPageId, SglDescriptor, Status};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::World;
use crate::DEFAULT_NQN;
use crate::pdu::Digests;
use basalt_bdev::suite::disk::Disk;

fn transport(mut command: Command, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command
}

fn errors(host: &mut Host, world: &mut World) -> Vec<ErrorEntry> {
    let log = Command::get_log_page(LogPageId::ERROR_INFORMATION, u32::MAX, 0, 4096);
    let (_, bytes) = host.fetch(world, log, 4096);
    let entries = bytes.chunks(64).map(|bytes| ErrorEntry::read_from_bytes(bytes).unwrap());
    entries.filter(|entry| entry.error_count.get() != 0).collect()
}

fn smart(host: &mut Host, world: &mut World) -> SmartHealth {
    let log = Command::get_log_page(LogPageId::SMART_HEALTH, u32::MAX, 0, 512);
    SmartHealth::read_from_bytes(&host.fetch(world, log, 512).1).unwrap()
}

#[test]
fn a_failed_command_of_any_core_is_found_in_the_error_log() {
    let mut world = World::with(2, Arc::new(Disk::new(512, 8192)));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert!(errors(&mut admin, &mut world).is_empty());
    let mut io = Host::io(&mut world, 1, cntlid, 3, Digests::default());
    let read = transport(Command::read(1, 9000, 1), 512);
    let (failed, _) = io.run(&mut world, read, &[], &[]);
    let (refused, _) = admin.fetch(&mut world, Command::identify(Cns(0x7f), 5), 4096);
    let log = errors(&mut admin, &mut world);
    let [newest, oldest] = log[..] else { panic!("{log:?}") };
    assert_eq!((newest.error_count.get(), oldest.error_count.get()), (2, 1));
    assert_eq!((newest.sqid.get(), newest.nsid.get(), newest.cid), (0, 5, refused.cid));
    assert_eq!((oldest.sqid.get(), oldest.nsid.get(), oldest.cid), (3, 1, failed.cid));
    assert_eq!((oldest.lba.get(), oldest.trtype), (9000, 3));
    assert_eq!(oldest.status_phase, failed.status_phase);
    assert_eq!(smart(&mut admin, &mut world).error_entries.get(), 2);
}

#[test]
fn the_error_log_keeps_as_many_entries_as_announced_and_starts_anew_after_a_reset() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (_, bytes) = admin.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let kept = u64::from(IdentifyController::read_from_bytes(&bytes).unwrap().elpe) + 1;
    for _ in 0..kept + 10 {
        admin.fetch(&mut world, Command::identify(Cns(0x7f), 0), 4096);
    }
    let log = errors(&mut admin, &mut world);
    assert!(log.iter().map(|entry| entry.error_count.get()).eq((11..=kept + 10).rev()));
    assert!(admin.property_set(&mut world, registers::CC, 0).status().is_success());
    let enabled = u64::from(Cc::enabled(Cc::CSS_NVM).0);
    assert!(admin.property_set(&mut world, registers::CC, enabled).status().is_success());
    assert!(errors(&mut admin, &mut world).is_empty());
    assert_eq!(u64::try_from(smart(&mut admin, &mut world).error_entries.get()), Ok(kept + 10));
}

#[test]
fn the_health_log_adds_up_what_all_cores_have_moved() {
    let mut world = World::with(2, Arc::new(Disk::new(512, 8192)));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut near = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut far = Host::io(&mut world, 1, cntlid, 2, Digests::default());
    let len = 2000 * 512;
    for host in [&mut near, &mut far] {
        for lba in [0, 3000] {
            let read = transport(Command::read(1, lba, 2000), len);
            assert!(host.run(&mut world, read, &[], &[]).0.status().is_success());
        }
    }
    let write = transport(Command::write(1, 0, 1), 512);
    assert!(far.run(&mut world, write, &[], &[1; 512]).0.status().is_success());
    assert!(far.run(&mut world, Command::write_zeroes(1, 0, 8), &[], &[]).0.status().is_success());
    let health = smart(&mut admin, &mut world);
    assert_eq!((health.host_reads.get(), health.data_units_read.get()), (4, 8));
    assert_eq!((health.host_writes.get(), health.data_units_written.get()), (1, 1));
    assert_eq!((health.media_errors.get(), health.busy_minutes.get()), (0, 0));
}

#[test]
fn the_health_log_knows_busy_time_power_on_hours_and_media_errors() {
    let disk = Disk::new(512, 8192);
    let shared = Arc::clone(&disk.shared);
    let mut world = World::with(1, Arc::new(disk));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut io = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    shared.hold.store(true, Ordering::Relaxed);
    io.submit(&world, transport(Command::read(1, 0, 1), 512), &[]);
    world.pass(Duration::from_secs(130));
    assert_eq!(smart(&mut admin, &mut world).busy_minutes.get(), 2, "still outstanding");
    shared.fail.store(true, Ordering::Relaxed);
    shared.hold.store(false, Ordering::Relaxed);
    assert!(io.complete(&mut world, &[]).0.status().is(Status::UNRECOVERED_READ));
    world.now = world.now + Duration::from_secs(7200);
    let health = smart(&mut admin, &mut world);
    assert_eq!((health.busy_minutes.get(), health.power_on_hours.get()), (2, 2));
    assert_eq!((health.media_errors.get(), health.host_reads.get()), (1, 0));
}

#[test]
fn a_controller_lost_without_shutdown_is_an_unsafe_one() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let down = Cc::enabled(Cc::CSS_NVM).with_shutdown(Shutdown::NORMAL);
    assert!(admin.property_set(&mut world, registers::CC, down.0.into()).status().is_success());
    admin.hang_up(&world);
    world.rounds(40);
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert_eq!(smart(&mut admin, &mut world).unsafe_shutdowns.get(), 0);
    admin.hang_up(&world);
    world.rounds(40);
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert_eq!(smart(&mut admin, &mut world).unsafe_shutdowns.get(), 1);
}

#[test]
fn the_log_of_features_lists_just_those_that_can_be_read() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let log = Command::get_log_page(LogPageId::FEATURES_SUPPORTED, 0, 0, 1024);
    let (done, listed) = admin.fetch(&mut world, log, 1024);
    assert!(done.status().is_success());
    for feature in 0..=u8::MAX {
        let nsid = u32::from(matches!(
            FeatureId(feature),
            FeatureId::RESERVATION_NOTIFICATION_MASK | FeatureId::RESERVATION_PERSISTENCE
        ));
        let mut get = Command::get_features(FeatureId(feature), nsid);
        get.cdw11 = u32::from(feature == FeatureId::HOST_IDENTIFIER.0).into();
        let (done, _) = admin.fetch(&mut world, get, 512);
        let claimed = listed[usize::from(feature) * 4] & 1 != 0;
        assert_eq!(done.status().is_success(), claimed, "{feature:#x}");
    }
}

#[test]
fn every_log_page_listed_as_supported_can_be_read_and_no_other() {
    let mut world = World::new();
    for nqn in [DEFAULT_NQN, crate::DISCOVERY_NQN] {
        let (mut admin, _) = Host::admin(&mut world, nqn, 4420);
        let log = Command::get_log_page(LogPageId::SUPPORTED_LOG_PAGES, 0, 0, 1024);
        let (_, listed) = admin.fetch(&mut world, log, 1024);
        for page in 0..=u8::MAX {
            let log = Command::get_log_page(LogPageId(page), 0, 0, 64);
            let (done, _) = admin.fetch(&mut world, log, 64);
            let claimed = listed[usize::from(page) * 4] & 1 != 0;
            assert_eq!(done.status().is_success(), claimed, "{nqn} {page:#x}");
        }
    }
}

#[test]
fn a_structure_must_fit_the_buffer_and_a_log_the_largest_transfer() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let identify = Command::identify(Cns::CONTROLLER, 0);
    let log = |len| Command::get_log_page(LogPageId::ERROR_INFORMATION, 0, 0, len);
    let mut indexed = log(64);
    indexed.cdw14 = (1 << 23).into();
    let mut host_id = Command::get_features(FeatureId::HOST_IDENTIFIER, 0);
    host_id.cdw11 = 1.into();
    for (command, len, expected) in [
        (identify, 4092, Status::SGL_LENGTH_INVALID),
        (identify, 0, Status::SGL_LENGTH_INVALID),
        (log(4096), 512, Status::SGL_LENGTH_INVALID),
        (log(2 << 20), 4096, Status::INVALID_FIELD),
        (indexed, 64, Status::INVALID_FIELD),
        (host_id, 8, Status::SGL_LENGTH_INVALID),
    ] {
        let (done, _) = admin.fetch(&mut world, command, len);
        assert!(done.status().is(expected), "{command:?}: {:?}", done.status());
    }
}
