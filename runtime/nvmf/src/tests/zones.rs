//! Namespaces of the Zoned Namespace Command Set.

mod disk;

use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::Op;
use basalt_nvme_spec::identify::{
    IdentifyNamespace, NamespaceDescriptor, NamespaceList, namespace_descriptors,
};
use basalt_nvme_spec::log_page::CommandEffects;
use basalt_nvme_spec::registers::{self, Cap, Cc};
use basalt_nvme_spec::{
    AsyncEvent, Cns, Command, Csi, FeatureId, IdentifyZonedNamespace, IoFlags, LogPageId,
    NvmOpcode, SglDescriptor, Status, ZoneAction, ZoneDescriptor, ZoneState,
};
use zerocopy::FromBytes;

use self::disk::{BLOCK, CAPACITY, ZONE, ZONES, ZonedDisk};
use super::host::Host;
use super::world::{World, opened};
use crate::pdu::Digests;
use crate::{ConfigError, DEFAULT_NQN, NamespaceOptions};
use basalt_bdev::suite::disk::Disk;

const EXTENDED: u32 = 1;
const SELECT_ALL: u32 = 1 << 8;
const PARTIAL: u32 = 1 << 16;

/// A plain namespace, and one with zones as the second.
fn world() -> (World, Arc<ZonedDisk>) {
    let world = World::new();
    let disk = Arc::new(ZonedDisk::new());
    let bdev = opened(disk.clone());
    assert_eq!(world.target.add_ns(DEFAULT_NQN, bdev, NamespaceOptions::default()), Ok(2));
    (world, disk)
}

/// The admin queue of a controller whose host has selected command sets so, and an I/O queue.
fn host(world: &mut World, css: u8) -> (Host, Host) {
    let mut admin = Host::dial(world, 0, 4420);
    admin.greet(world, Digests::default());
    let cntlid = admin.try_connect(world, 0, 32, 0xffff, 0).dw0.get() as u16;
    let cc = u64::from(Cc::enabled(css).0);
    assert!(admin.property_set(world, registers::CC, cc).status().is_success());
    let io = admin.join(world, 0, cntlid);
    (admin, io)
}

fn page(host: &mut Host, world: &mut World, command: Command) -> Result<Vec<u8>, Status> {
    let (done, bytes) = host.fetch(world, command, 4096);
    if done.status().is_success() { Ok(bytes) } else { Err(done.status()) }
}

fn listed(host: &mut Host, world: &mut World, command: Command) -> Vec<u32> {
    let bytes = page(host, world, command).unwrap();
    NamespaceList::read_from_bytes(&bytes).unwrap().iter().collect()
}

fn refused<T>(result: &Result<T, Status>, status: Status) -> bool {
    result.as_ref().is_err_and(|error| error.is(status))
}

/// Status, and where the data went.
fn send(host: &mut Host, world: &mut World, mut command: Command, bytes: &[u8]) -> (Status, u64) {
    command.set_sgl1(SglDescriptor::transport(bytes.len() as u32));
    let (done, _) = host.run(world, command, &[], bytes);
    (done.status(), done.result64())
}

fn append(host: &mut Host, world: &mut World, lba: u64, blocks: u32, byte: u8) -> (Status, u64) {
    let bytes = alloc::vec![byte; blocks as usize * BLOCK];
    send(host, world, Command::zone_append(2, lba, blocks), &bytes)
}

fn manage(host: &mut Host, world: &mut World, lba: u64, how: u32) -> Status {
    let mut command = Command::zone_send(2, lba, ZoneAction::Reset);
    command.cdw13 = how.into();
    host.run(world, command, &[], &[]).0.status()
}

/// The header's count, and states and write pointers, of a report of so many descriptors.
fn report(
    host: &mut Host,
    world: &mut World,
    lba: u64,
    count: usize,
    how: u32,
) -> Result<(u64, Vec<(u8, u64)>), Status> {
    let len = 64 + count * 64;
    let mut command = Command::zone_report(2, lba, len as u32);
    command.cdw13 = how.into();
    let (done, bytes) = host.fetch(world, command, len as u32);
    if !done.status().is_success() {
        return Err(done.status());
    }
    assert_eq!(bytes.len(), len);
    let zones = bytes[64..].chunks(64).map(|one| ZoneDescriptor::read_from_bytes(one).unwrap());
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    Ok((header, zones.map(|zone| (zone.state(), zone.wp.get())).collect()))
}

#[test]
fn a_zoned_namespace_says_what_it_is() {
    let (mut world, _disk) = world();
    let (mut host, _io) = host(&mut world, Cc::CSS_ALL);
    assert!(Cap(host.property_get(&mut world, registers::CAP, 8)).io_command_sets());
    let mut get = |command| page(&mut host, &mut world, command);
    let sets = get(Command::identify(Cns(0x1c), 0).tap(|c| c.cdw10 = 0xffff_001c.into())).unwrap();
    assert_eq!(sets[..8], [0b101, 0, 0, 0, 0, 0, 0, 0]);
    assert!(sets[8..].iter().all(|byte| *byte == 0), "there is one combination");
    let other = get(Command::identify(Cns(0x1c), 0).tap(|c| c.cdw10 = 0x7777_001c.into()));
    assert!(refused(&other, Status::INVALID_FIELD), "there is no such controller");
    let descriptors = get(Command::identify(Cns::NAMESPACE_DESCRIPTORS, 2)).unwrap();
    let zoned = NamespaceDescriptor::CommandSet(Csi::ZONED);
    assert!(namespace_descriptors(&descriptors).any(|found| found == zoned));
    let plain = get(Command::identify(Cns::NAMESPACE, 2)).unwrap();
    let plain = IdentifyNamespace::read_from_bytes(&plain).unwrap();
    assert_eq!((plain.nsze.get(), plain.block_size()), (ZONES * ZONE, Some(512)));
    let zoned = get(Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 2, Csi::ZONED)).unwrap();
    let zoned = IdentifyZonedNamespace::read_from_bytes(&zoned).unwrap();
    assert_eq!((zoned.zoc.get(), zoned.ozcs.get()), (0, 1));
    assert_eq!((zoned.mor.get(), zoned.mar.get()), (1, u32::MAX), "two, and any number");
    assert_eq!((zoned.lbafe[0].zsze.get(), zoned.lbafe[0].zdes), (ZONE, 0));
    let wrong = get(Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 1, Csi::ZONED));
    assert!(refused(&wrong, Status::INVALID_COMMAND_SET));
    let absent = get(Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 3, Csi::ZONED)).unwrap();
    assert!(absent.iter().all(|byte| *byte == 0));
    let limits = get(Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::ZONED)).unwrap();
    assert_eq!(limits[0], 2, "appends of 16 KiB: 32 blocks of the 40 that the bdev takes");
    let independent = get(Command::identify(Cns::NAMESPACE_INDEPENDENT, 2)).unwrap();
    assert_eq!((independent[1], independent[14]), (1, 1), "shared and ready");
    let unknown = get(Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::KEY_VALUE));
    assert!(refused(&unknown, Status::INVALID_FIELD));
}

#[test]
fn namespaces_effects_and_profile_are_told_by_command_set() {
    let (mut world, _disk) = world();
    let (mut host, _io) = host(&mut world, Cc::CSS_ALL);
    let of = |csi| Command::identify_csi(Cns(0x07), 0, csi);
    assert_eq!(listed(&mut host, &mut world, of(Csi::NVM)), [1]);
    assert_eq!(listed(&mut host, &mut world, of(Csi::ZONED)), [2]);
    let all = Command::identify(Cns::ACTIVE_NAMESPACES, 0);
    assert_eq!(listed(&mut host, &mut world, all), [1, 2]);
    let effects = |csi: Csi| {
        let log = Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 0, 4096);
        log.tap(|log| log.cdw14 = (u32::from(csi.0) << 24).into())
    };
    let changes = CommandEffects::SUPPORTED | CommandEffects::LOGICAL_BLOCKS_CHANGE;
    for (csi, zoned) in [(Csi::NVM, 0), (Csi::ZONED, changes)] {
        let bytes = page(&mut host, &mut world, effects(csi)).unwrap();
        let log = CommandEffects::read_from_bytes(&bytes).unwrap();
        let effect = |opcode: NvmOpcode| log.io[usize::from(opcode.0)].get() & changes;
        assert_eq!(effect(NvmOpcode::ZONE_SEND), zoned);
        assert_eq!(effect(NvmOpcode::ZONE_APPEND), zoned);
        assert_eq!(effect(NvmOpcode::ZONE_RECEIVE), zoned & CommandEffects::SUPPORTED);
        assert_eq!(effect(NvmOpcode::COPY), changes - zoned, "zones are not copied to");
        assert_eq!(effect(NvmOpcode::WRITE), changes);
    }
    let unknown = page(&mut host, &mut world, effects(Csi::KEY_VALUE));
    assert!(refused(&unknown, Status::INVALID_FIELD));
    let mut set = |value| {
        let set = Command::set_features(FeatureId::COMMAND_SET_PROFILE, value);
        host.run(&mut world, set, &[], &[]).0.status()
    };
    assert!(set(0).is_success());
    assert!(set(1).is(Status::COMBINATION_REJECTED));
    let get = Command::get_features(FeatureId::COMMAND_SET_PROFILE, 0);
    assert_eq!(host.run(&mut world, get, &[], &[]).0.dw0.get(), 0);
}

#[test]
fn who_has_selected_the_nvm_command_set_alone_does_not_see_it() {
    let (mut world, disk) = world();
    let (mut host, mut io) = host(&mut world, Cc::CSS_NVM);
    let all = Command::identify(Cns::ACTIVE_NAMESPACES, 0);
    assert_eq!(listed(&mut host, &mut world, all), [1]);
    let nothing = page(&mut host, &mut world, Command::identify(Cns::NAMESPACE, 2)).unwrap();
    assert!(nothing.iter().all(|byte| *byte == 0), "as if it were not there");
    let hidden = [
        (Command::identify(Cns::NAMESPACE_DESCRIPTORS, 2), Status::INVALID_NAMESPACE),
        (Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 2, Csi::ZONED), Status::INVALID_FIELD),
        (Command::identify_csi(Cns(0x07), 0, Csi::ZONED), Status::INVALID_FIELD),
    ];
    for (command, status) in hidden {
        assert!(refused(&page(&mut host, &mut world, command), status), "{command:?}");
    }
    let (status, _) = send(&mut io, &mut world, Command::write(2, 0, 1), &[1; BLOCK]);
    assert!(status.is(Status::INVALID_NAMESPACE));
    assert!(append(&mut io, &mut world, 0, 1, 1).0.is(Status::INVALID_NAMESPACE));
    assert_eq!(disk.commands(), 0);
    // Nor does it hear of another.
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 8);
    assert!(host.run(&mut world, want, &[], &[]).0.status().is_success());
    host.submit(&world, Command::async_event_request(), &[]);
    world.target.remove_ns(DEFAULT_NQN, 2).unwrap();
    host.expect_silence(&mut world);
    let plain = opened(Arc::new(Disk::new(512, 8)));
    world.target.add_ns(DEFAULT_NQN, plain, NamespaceOptions::default()).unwrap();
    let (event, _) = host.complete(&mut world, &[]);
    assert_eq!(AsyncEvent(event.dw0.get()).log_page(), LogPageId::CHANGED_NAMESPACES.0);
}

#[test]
fn a_controller_without_io_commands_has_no_command_sets_to_choose() {
    let (mut world, _disk) = world();
    let mut host = Host::dial(&world, 0, 8009);
    host.nqn = crate::DISCOVERY_NQN;
    host.greet(&mut world, Digests::default());
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
    assert!(!Cap(host.property_get(&mut world, registers::CAP, 8)).io_command_sets());
    let all = u64::from(Cc::enabled(Cc::CSS_ALL).0);
    let refused = host.property_set(&mut world, registers::CC, all);
    assert!(refused.status().is(Status::INVALID_FIELD));
}

#[test]
fn appends_say_where_the_data_went() {
    let (mut world, disk) = world();
    let (_admin, mut io) = host(&mut world, Cc::CSS_ALL);
    let (status, first) = append(&mut io, &mut world, ZONE, 3, 0xa1);
    assert_eq!((status, first), (Status::SUCCESS, ZONE));
    let mut forced = Command::zone_append(2, ZONE, 2);
    forced.cdw12 = (forced.cdw12.get() | IoFlags::FUA.bits()).into();
    let before = disk.flushes();
    let (status, second) = send(&mut io, &mut world, forced, &[0xa2; 2 * BLOCK]);
    assert_eq!((status, second), (Status::SUCCESS, ZONE + 3), "with what a flush comes after");
    assert_eq!(disk.flushes(), before + 1);
    assert_eq!([0, 2, 3, 4].map(|n| disk.byte(ZONE + n)), [0xa1, 0xa1, 0xa2, 0xa2]);
    let mut try_append = |lba, blocks| append(&mut io, &mut world, lba, blocks, 1).0;
    assert!(try_append(ZONE + 1, 1).is(Status::INVALID_FIELD), "no zone begins there");
    assert!(try_append(ZONE, 41).is(Status::INVALID_FIELD), "more than the bdev takes");
    assert!(try_append(0, ZONE as u32 + 1).is(Status::ZONE_BOUNDARY));
    assert!(try_append((ZONES - 1) * ZONE, ZONE as u32 + 1).is(Status::ZONE_BOUNDARY));
    assert!(try_append(ZONES * ZONE, 1).is(Status::LBA_OUT_OF_RANGE));
    // The rest is for the drive to say.
    assert!(try_append(ZONE, CAPACITY as u32 - 4).is(Status::ZONE_BOUNDARY));
    assert!(try_append(ZONE, CAPACITY as u32 - 5).is_success());
    assert!(try_append(ZONE, 1).is(Status::ZONE_FULL));
}

#[test]
fn writes_go_to_the_write_pointer_and_stay_within_a_zone() {
    let (mut world, disk) = world();
    let (_admin, mut io) = host(&mut world, Cc::CSS_ALL);
    let mut write = |lba, blocks: u32| {
        let bytes = alloc::vec![7; blocks as usize * BLOCK];
        send(&mut io, &mut world, Command::write(2, lba, blocks), &bytes).0
    };
    assert!(write(0, 4).is_success());
    assert!(write(5, 1).is(Status::ZONE_INVALID_WRITE));
    let before = disk.commands();
    assert!(write(ZONE - 1, 2).is(Status::ZONE_BOUNDARY));
    assert!(write(ZONES * ZONE - 1, 2).is(Status::LBA_OUT_OF_RANGE));
    let across = Command::write_zeroes(2, ZONE - 1, 2);
    assert!(io.run(&mut world, across, &[], &[]).0.status().is(Status::ZONE_BOUNDARY));
    assert_eq!(disk.commands(), before, "the bdev might have made two of it");
    // The other namespace has no zones to stay within.
    let (status, _) = send(&mut io, &mut world, Command::write(1, ZONE - 1, 2), &[7; 2 * BLOCK]);
    assert!(status.is_success());
}

#[test]
fn zones_are_reported_and_managed_by_the_drive() {
    use ZoneState::{Closed, Empty, ExplicitlyOpened, Full, ImplicitlyOpened};
    let (mut world, _disk) = world();
    let (_admin, mut io) = host(&mut world, Cc::CSS_ALL);
    assert!(append(&mut io, &mut world, 0, 2, 1).0.is_success());
    let all = report(&mut io, &mut world, 0, 6, 0).unwrap();
    let mut expected = [(Empty as u8, 0); 4];
    expected.iter_mut().zip(0..).for_each(|(zone, n)| zone.1 = n * ZONE);
    expected[0] = (ImplicitlyOpened as u8, 2);
    assert_eq!((all.0, &all.1[..4]), (4, &expected[..]));
    assert_eq!(all.1[4..], [(0, 0); 2], "no more zones, and nothing of other hosts");
    let few = report(&mut io, &mut world, ZONE, 1, PARTIAL).unwrap();
    assert_eq!((few.0, few.1[0].1), (1, ZONE), "a partial report counts what it has");
    assert_eq!(report(&mut io, &mut world, ZONE, 1, 0).unwrap().0, 3, "another what there is");
    let steps = [
        (ZoneAction::Close, Closed),
        (ZoneAction::Open, ExplicitlyOpened),
        (ZoneAction::Finish, Full),
        (ZoneAction::Reset, Empty),
    ];
    for (action, state) in steps {
        assert!(manage(&mut io, &mut world, 0, action as u32).is_success(), "{action:?}");
        assert_eq!(report(&mut io, &mut world, 0, 1, 0).unwrap().1[0].0, state as u8);
    }
    assert!(manage(&mut io, &mut world, 0, 1).is(Status::INVALID_ZONE_TRANSITION));
    for n in 0..3 {
        assert!(append(&mut io, &mut world, n * ZONE, 1, 1).0.is_success());
    }
    // Of all, whatever block is named.
    assert!(manage(&mut io, &mut world, 5, SELECT_ALL | 4).is_success());
    let empty = report(&mut io, &mut world, 0, 4, 1 << 8).unwrap();
    assert_eq!((empty.0, empty.1[3].0), (4, Empty as u8), "by state");
}

#[test]
fn what_zones_cannot_do_is_refused_before_the_drive_has_it() {
    let (mut world, disk) = world();
    let (_admin, mut io) = host(&mut world, Cc::CSS_ALL);
    let invalid = [0, 6, 0x10, 0x11, 1 << 9 | 3];
    for how in invalid {
        assert!(manage(&mut io, &mut world, 0, how).is(Status::INVALID_FIELD), "{how:#x}");
    }
    assert!(manage(&mut io, &mut world, 1, 4).is(Status::INVALID_FIELD), "no zone begins there");
    assert!(manage(&mut io, &mut world, ZONES * ZONE, 4).is(Status::LBA_OUT_OF_RANGE));
    for how in [EXTENDED, 2, 8 << 8] {
        let answer = report(&mut io, &mut world, 0, 1, how);
        assert!(refused(&answer, Status::INVALID_FIELD), "{how:#x}: {answer:?}");
    }
    assert!(refused(&report(&mut io, &mut world, ZONES * ZONE, 1, 0), Status::LBA_OUT_OF_RANGE));
    let huge = Command::zone_report(2, 0, 2 << 20);
    let (done, _) = io.fetch(&mut world, huge, 4096);
    assert!(done.status().is(Status::INVALID_FIELD), "more than MDTS");
    let short = Command::zone_report(2, 0, 8192);
    let (done, _) = io.fetch(&mut world, short, 4096);
    assert!(done.status().is(Status::SGL_LENGTH_INVALID));
    for command in [
        Command::zone_send(1, 0, ZoneAction::Reset),
        Command::zone_report(1, 0, 4096),
        Command::zone_append(1, 0, 8),
    ] {
        let (done, _) = io.fetch(&mut world, command, 4096);
        assert!(done.status().is(Status::INVALID_OPCODE), "there are no zones: {command:?}");
    }
    assert_eq!(disk.commands(), 0);
}

#[test]
fn zones_that_cannot_be_managed_are_not_exported() {
    let world = World::new();
    let disk = opened(Arc::new(ZonedDisk::lacking(Op::NvmeIo)));
    let refused = world.target.add_ns(DEFAULT_NQN, disk, NamespaceOptions::default());
    assert_eq!(refused, Err(ConfigError::Zoned));
}

trait Tap: Sized {
    fn tap(self, change: impl FnOnce(&mut Self)) -> Self;
}

impl Tap for Command {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
