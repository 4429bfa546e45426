use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_nvme_spec::identify::{
    IdentifyController, IdentifyNamespace, NamespaceDescriptor, NamespaceList, Oncs,
    namespace_descriptors,
};
use basalt_nvme_spec::registers::{self, Cc, Shutdown, Version};
use basalt_nvme_spec::{AsyncEvent, Cns, Command, Csi, FeatureId, LogPageId, Status, ascii_field};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::{World, opened};
use crate::pdu::Digests;
use crate::{ConfigError, DEFAULT_NQN, DISCOVERY_NQN, NamespaceOptions, SubsystemOptions};
use basalt_bdev::suite::disk::Disk;

fn world() -> (World, Host, u16) {
    let mut world = World::new();
    let (host, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    (world, host, cntlid)
}

#[test]
fn properties_read_as_a_2_0_controller() {
    let (mut world, mut host, _) = world();
    let cap = registers::Cap(host.property_get(&mut world, registers::CAP, 8));
    assert_eq!(cap.queue_entries_max(), 256);
    assert!(cap.nvm_command_set() && cap.contiguous_queues());
    let version = host.property_get(&mut world, registers::VS, 4);
    assert_eq!(version, u64::from(Version::V2_0.0));
    let down = Cc::enabled(Cc::CSS_NVM).with_shutdown(Shutdown::NORMAL);
    assert!(host.property_set(&mut world, registers::CC, down.0.into()).status().is_success());
    assert_eq!(host.property_get(&mut world, registers::CSTS, 4) >> 2 & 3, 2);
    assert!(host.property_set(&mut world, registers::CC, 0).status().is_success());
    assert_eq!(host.property_get(&mut world, registers::CSTS, 4) & 1, 0);
    let (refused, _) = host.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    assert!(refused.status().is(Status::SEQUENCE_ERROR));
    let big_pages = Cc(Cc::enabled(Cc::CSS_NVM).0 | 1 << 7);
    let refused = host.property_set(&mut world, registers::CC, big_pages.0.into());
    assert!(refused.status().is(Status::INVALID_FIELD));
}

#[test]
fn identify_describes_controller_and_namespaces() {
    let (mut world, mut host, cntlid) = world();
    let (_, bytes) = host.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let controller = IdentifyController::read_from_bytes(&bytes).unwrap();
    assert_eq!(controller.cntlid.get(), cntlid);
    assert_eq!((controller.sqes, controller.cqes, controller.cntrltype), (0x66, 0x44, 1));
    assert_eq!((controller.ioccsz.get(), controller.iorcsz.get()), (516, 1));
    assert_eq!(controller.transfer_max(4096), Some(1 << 20));
    assert!(controller.kas.get() > 0 && controller.sgls.get() & 3 == 1);
    assert_eq!(ascii_field(&controller.subnqn), Some(DEFAULT_NQN));
    let (_, bytes) = host.fetch(&mut world, Command::identify(Cns::ACTIVE_NAMESPACES, 0), 4096);
    let list = NamespaceList::read_from_bytes(&bytes).unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [1]);
    let (_, bytes) = host.fetch(&mut world, Command::identify(Cns::NAMESPACE, 1), 4096);
    let namespace = IdentifyNamespace::read_from_bytes(&bytes).unwrap();
    assert_eq!((namespace.nsze.get(), namespace.block_size()), (8192, Some(512)));
    let descriptors = Command::identify(Cns::NAMESPACE_DESCRIPTORS, 1);
    let (_, bytes) = host.fetch(&mut world, descriptors, 4096);
    let found: Vec<_> = namespace_descriptors(&bytes).collect();
    let expected = [NamespaceDescriptor::Uuid([7; 16]), NamespaceDescriptor::CommandSet(Csi::NVM)];
    assert_eq!(found, expected);
}

#[test]
fn identify_of_what_is_not_there_gives_zeroes_or_its_status() {
    let (mut world, mut host, _) = world();
    let (done, bytes) = host.fetch(&mut world, Command::identify(Cns::NAMESPACE, 9), 4096);
    assert!(done.status().is_success() && bytes.iter().all(|&byte| byte == 0));
    for (command, expected) in [
        (Command::identify(Cns::NAMESPACE, 0), Status::INVALID_NAMESPACE),
        (Command::identify(Cns::NAMESPACE, u32::MAX), Status::INVALID_NAMESPACE),
        (Command::identify(Cns::NAMESPACE_DESCRIPTORS, 2), Status::INVALID_NAMESPACE),
        (Command::identify(Cns::ACTIVE_NAMESPACES, u32::MAX), Status::INVALID_NAMESPACE),
        (Command::identify(Cns(0x7f), 0), Status::INVALID_FIELD),
        (Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::ZONED), Status::INVALID_FIELD),
        (Command::get_log_page(LogPageId(0xc0), 0, 0, 512), Status::INVALID_LOG_PAGE),
        (Command::get_log_page(LogPageId::SMART_HEALTH, 0, 2, 64), Status::INVALID_FIELD),
        (Command::get_log_page(LogPageId::SMART_HEALTH, 0, 4096, 64), Status::INVALID_FIELD),
    ] {
        let (done, _) = host.fetch(&mut world, command, 4096);
        assert!(done.status().is(expected), "{command:?}: {:?}", done.status());
    }
    for command in [
        Command::identify(Cns::NAMESPACE_INDEPENDENT, 1),
        Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 1, Csi::NVM),
        Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::NVM),
        Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 0, 4096),
        Command::get_log_page(LogPageId::SMART_HEALTH, u32::MAX, 256, 256),
        Command::get_log_page(LogPageId::FIRMWARE_SLOT, 0, 0, 512),
        Command::get_log_page(LogPageId::ERROR_INFORMATION, 0, 0, 64),
    ] {
        let (done, _) = host.fetch(&mut world, command, 4096);
        assert!(done.status().is_success(), "{command:?}: {:?}", done.status());
    }
}

#[test]
fn what_identify_announces_is_consistent() {
    let (mut world, mut host, _) = world();
    let (_, bytes) = host.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let controller = IdentifyController::read_from_bytes(&bytes).unwrap();
    assert_eq!(controller.cmic & 3, 3, "several ports and controllers");
    assert_eq!(controller.lpa, 0b10_0110, "effects, offsets, supported pages and features");
    assert!(controller.oncs().contains(Oncs::SAVE), "SEL and SV are understood");
    assert_eq!((controller.fuses.get(), controller.ofcs.get(), controller.icdoff.get()), (1, 0, 0));
    let (_, bytes) = host.fetch(&mut world, Command::identify(Cns::NAMESPACE, 1), 4096);
    let namespace = IdentifyNamespace::read_from_bytes(&bytes).unwrap();
    assert_eq!(namespace.npwg.get(), 7, "pages of 4 KiB");
    let whole = (namespace.nows.get() + 1) % (namespace.npwg.get() + 1);
    assert_eq!(whole, 0, "the optimal size is whole granules");
}

#[test]
fn every_structure_of_an_inactive_namespace_is_zero() {
    let (mut world, mut host, _) = world();
    for command in [
        Command::identify(Cns::NAMESPACE, 2),
        Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 2, Csi::NVM),
        Command::identify(Cns::NAMESPACE_INDEPENDENT, 2),
    ] {
        let (done, bytes) = host.fetch(&mut world, command, 4096);
        assert!(done.status().is_success() && bytes == [0; 4096], "{command:?}");
        let invalid = Command { nsid: 1025.into(), ..command };
        let (done, _) = host.fetch(&mut world, invalid, 4096);
        assert!(done.status().is(Status::INVALID_NAMESPACE), "{command:?}");
    }
}

#[test]
fn a_new_namespace_is_announced_once_until_its_log_is_read() {
    let (mut world, mut host, _) = world();
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 8);
    assert!(host.run(&mut world, want, &[], &[]).0.status().is_success());
    let held = host.submit(&world, Command::async_event_request(), &[]);
    host.submit(&world, Command::async_event_request(), &[]);
    host.expect_silence(&mut world);
    let add = |world: &World| {
        let disk = opened(Arc::new(Disk::new(4096, 16)));
        world.target.add_ns(DEFAULT_NQN, disk, NamespaceOptions::default()).unwrap()
    };
    assert_eq!((add(&world), add(&world)), (2, 3));
    let (event, _) = host.complete(&mut world, &[]);
    assert_eq!(event.cid.get(), held);
    assert_eq!(AsyncEvent(event.dw0.get()).log_page(), LogPageId::CHANGED_NAMESPACES.0);
    host.expect_silence(&mut world);
    let log = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
    let (_, bytes) = host.fetch(&mut world, log, 4096);
    let list = NamespaceList::read_from_bytes(&bytes).unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [2, 3]);
    world.target.remove_ns(DEFAULT_NQN, 2).unwrap();
    assert_eq!(host.complete(&mut world, &[]).0.cid.get(), held + 1);
}

#[test]
fn event_requests_are_limited_and_can_be_aborted() {
    let (mut world, mut host, _) = world();
    let first = host.submit(&world, Command::async_event_request(), &[]);
    for _ in 1..4 {
        host.submit(&world, Command::async_event_request(), &[]);
    }
    let (refused, _) = host.run(&mut world, Command::async_event_request(), &[], &[]);
    assert!(refused.status().is(Status::AER_LIMIT));
    let abort = host.submit(&world, Command::abort(0, first), &[]);
    let [aborted, done] = [host.complete(&mut world, &[]).0, host.complete(&mut world, &[]).0];
    assert_eq!((aborted.cid.get(), done.cid.get()), (first, abort), "in this order");
    assert!(aborted.status().is(Status::ABORT_REQUESTED));
    assert!(done.status().is_success() && done.dw0.get() == 0);
    let (nothing, _) = host.run(&mut world, Command::abort(1, 77), &[], &[]);
    assert_eq!(nothing.dw0.get(), 1);
}

#[test]
fn connect_is_refused_for_the_reason_it_says() {
    let (mut world, _admin, cntlid) = world();
    world.target.create_subsystem("nqn.2026-11.io.basalt:b", SubsystemOptions::default()).unwrap();
    world.listen("nqn.2026-11.io.basalt:b", 4420);
    let cases: [(&str, u16, u16, u16, Status, u32); 8] = [
        (
            "nqn.2026-11.io.basalt:none",
            0,
            32,
            0xffff,
            Status::CONNECT_INVALID_PARAMETERS,
            1 << 16 | 256,
        ),
        ("nqn.2026-11.io.basalt:b", 0, 32, 0xffff, Status::CONNECT_INVALID_HOST, 0),
        (DEFAULT_NQN, 0, 32, 1, Status::CONNECT_INVALID_PARAMETERS, 1 << 16 | 16),
        (DEFAULT_NQN, 0, 1, 0xffff, Status::CONNECT_INVALID_PARAMETERS, 44),
        (DEFAULT_NQN, 0, 1000, 0xffff, Status::CONNECT_INVALID_PARAMETERS, 44),
        (DEFAULT_NQN, 1, 32, 999, Status::CONNECT_INVALID_PARAMETERS, 1 << 16 | 16),
        (DEFAULT_NQN, 500, 32, cntlid, Status::CONNECT_INVALID_PARAMETERS, 42),
        (DISCOVERY_NQN, 1, 32, cntlid, Status::CONNECT_INVALID_PARAMETERS, 1 << 16 | 256),
    ];
    for (nqn, qid, entries, cntlid, expected, result) in cases {
        let mut host = Host::dial(&world, 0, 4420);
        host.nqn = nqn;
        host.greet(&mut world, Digests::default());
        let refused = host.try_connect(&mut world, qid, entries, cntlid, 0);
        assert!(refused.status().is(expected), "{nqn} {qid}: {:?}", refused.status());
        assert_eq!(refused.dw0.get(), result, "{nqn} {qid}");
    }
    let _first = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut twin = Host::dial(&world, 0, 4420);
    twin.greet(&mut world, Digests::default());
    let refused = twin.try_connect(&mut world, 1, 16, cntlid, 0);
    assert!(refused.status().is(Status::SEQUENCE_ERROR));
}

#[test]
fn commands_before_connect_are_out_of_sequence() {
    let mut world = World::new();
    let mut host = Host::dial(&world, 0, 4420);
    host.greet(&mut world, Digests::default());
    let (refused, _) = host.run(&mut world, Command::keep_alive(), &[], &[]);
    assert!(refused.status().is(Status::SEQUENCE_ERROR));
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is(Status::SEQUENCE_ERROR));
}

#[test]
fn a_silent_host_loses_its_controller_and_a_talking_one_keeps_it() {
    let mut world = World::new();
    let mut host = Host::dial(&world, 0, 4420);
    host.greet(&mut world, Digests::default());
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 2000).status().is_success());
    let enabled = u64::from(Cc::enabled(Cc::CSS_NVM).0);
    assert!(host.property_set(&mut world, registers::CC, enabled).status().is_success());
    for _ in 0..4 {
        world.pass(Duration::from_millis(1500));
        let (alive, _) = host.run(&mut world, Command::keep_alive(), &[], &[]);
        assert!(alive.status().is_success());
    }
    world.pass(Duration::from_secs(3));
    assert!(host.is_closed(&world));
    assert!(world.target.controllers().is_empty());
}

#[test]
fn configuration_is_checked() {
    let world = World::new();
    let create = |nqn: &str| world.target.create_subsystem(nqn, SubsystemOptions::default());
    assert_eq!(create("storage"), Err(ConfigError::BadNqn));
    assert_eq!(create(DISCOVERY_NQN), Err(ConfigError::BadNqn));
    assert_eq!(create(DEFAULT_NQN), Err(ConfigError::Exists));
    let disk = || opened(Arc::new(Disk::new(512, 8)));
    let ns = |nsid| NamespaceOptions { nsid: Some(nsid), ..Default::default() };
    let add = |nsid| world.target.add_ns(DEFAULT_NQN, disk(), ns(nsid));
    assert_eq!(add(0), Err(ConfigError::BadNsid));
    assert_eq!(add(1), Err(ConfigError::BadNsid));
    assert_eq!(add(5), Ok(5));
    let info = &world.target.subsystems()[0];
    assert_eq!(info.namespaces.iter().map(|ns| ns.nsid).collect::<Vec<_>>(), [1, 5]);
    assert_eq!((info.ports.as_slice(), info.allow_any_host), (&[4420][..], true));
}
