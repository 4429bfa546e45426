use basalt_nvme_spec::registers::Cc;
use basalt_nvme_spec::{AsyncEvent, Command, FeatureId, LogPageId, QueueCounts, Status, registers};

use super::host::Host;
use super::world::World;
use crate::DEFAULT_NQN;
use crate::pdu::Digests;

fn world() -> (World, Host, u16) {
    let mut world = World::new();
    let (host, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    (world, host, cntlid)
}

fn set(host: &mut Host, world: &mut World, feature: FeatureId, value: u32) -> Status {
    host.run(world, Command::set_features(feature, value), &[], &[]).0.status()
}

/// Get Features with a SEL field.
fn select(host: &mut Host, world: &mut World, feature: FeatureId, select: u32) -> (Status, u32) {
    let mut get = Command::get_features(feature, 0);
    get.cdw10 = (get.cdw10.get() | select << 8).into();
    let (done, _) = host.fetch(world, get, 16);
    (done.status(), done.dw0.get())
}

#[test]
fn features_are_kept_granted_or_refused() {
    let (mut world, mut host, _) = world();
    let counts = QueueCounts::pairs(1000).to_dword();
    let set = Command::set_features(FeatureId::NUMBER_OF_QUEUES, counts);
    let (granted, _) = host.run(&mut world, set, &[], &[]);
    assert_eq!(QueueCounts::from_dword(granted.dw0.get()), QueueCounts::pairs(127));
    let set = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 0x100);
    assert!(host.run(&mut world, set, &[], &[]).0.status().is_success());
    let get = Command::get_features(FeatureId::ASYNC_EVENT_CONFIG, 0);
    assert_eq!(host.fetch(&mut world, get, 0).0.dw0.get(), 0x100);
    let mut get = Command::get_features(FeatureId::HOST_IDENTIFIER, 0);
    get.cdw11 = 1.into();
    assert_eq!(host.fetch(&mut world, get, 16).1, [9; 16]);
    let set = Command::set_features(FeatureId::INTERRUPT_COALESCING, 0);
    let (refused, _) = host.run(&mut world, set, &[], &[]);
    assert!(refused.status().is(Status::INVALID_FIELD));
}

#[test]
fn a_feature_has_a_current_a_default_and_no_saved_value() {
    const CURRENT: u32 = 0;
    const DEFAULT: u32 = 1;
    const SAVED: u32 = 2;
    const CAPABILITIES: u32 = 3;
    let (mut world, mut host, _) = world();
    assert!(set(&mut host, &mut world, FeatureId::ARBITRATION, 7).is_success());
    for (sel, expected) in [(CURRENT, 7), (DEFAULT, 0), (SAVED, 0), (CAPABILITIES, 0b100)] {
        let (status, value) = select(&mut host, &mut world, FeatureId::ARBITRATION, sel);
        assert!(status.is_success() && value == expected, "SEL {sel}: {status:?} {value}");
    }
    let (status, _) = select(&mut host, &mut world, FeatureId::ARBITRATION, 4);
    assert!(status.is(Status::INVALID_FIELD));
    let cache = select(&mut host, &mut world, FeatureId::VOLATILE_WRITE_CACHE, CAPABILITIES);
    assert_eq!((cache.0.is_success(), cache.1), (true, 0), "the cache cannot be turned off");
    let off = set(&mut host, &mut world, FeatureId::VOLATILE_WRITE_CACHE, 0);
    assert!(off.is(Status::FEATURE_NOT_CHANGEABLE));
}

#[test]
fn features_are_neither_saved_nor_set_for_one_namespace() {
    let (mut world, mut host, _) = world();
    let mut save = Command::set_features(FeatureId::ARBITRATION, 1);
    save.cdw10 = (save.cdw10.get() | 1 << 31).into();
    let (refused, _) = host.run(&mut world, save, &[], &[]);
    assert!(refused.status().is(Status::FEATURE_NOT_SAVEABLE));
    save.cdw10 = (0xee | 1 << 31).into();
    let (unknown, _) = host.run(&mut world, save, &[], &[]);
    assert!(unknown.status().is(Status::INVALID_FIELD), "what is not there is not there");
    let mut one = Command::set_features(FeatureId::ARBITRATION, 1);
    one.nsid = 1.into();
    let (refused, _) = host.run(&mut world, one, &[], &[]);
    assert!(refused.status().is(Status::FEATURE_NOT_PER_NAMESPACE));
}

#[test]
fn a_temperature_threshold_is_kept_per_kind_and_warns_when_crossed() {
    const TOO_COLD: u32 = 1 << 20;
    let (mut world, mut host, _) = world();
    let feature = FeatureId::TEMPERATURE_THRESHOLD;
    assert!(set(&mut host, &mut world, FeatureId::ASYNC_EVENT_CONFIG, 1 << 1).is_success());
    assert!(set(&mut host, &mut world, feature, TOO_COLD | 250).is_success());
    assert!(set(&mut host, &mut world, feature, 400).is_success());
    for (which, expected) in [(0, 400), (TOO_COLD, 250)] {
        let mut get = Command::get_features(feature, 0);
        get.cdw11 = which.into();
        assert_eq!(host.fetch(&mut world, get, 0).0.dw0.get(), expected);
    }
    assert!(set(&mut host, &mut world, feature, 3 << 16 | 300).is(Status::INVALID_FIELD));
    let held = host.submit(&world, Command::async_event_request(), &[]);
    host.expect_silence(&mut world);
    let low = Command::set_features(feature, 280);
    host.submit(&world, low, &[]);
    let both = [host.complete(&mut world, &[]).0, host.complete(&mut world, &[]).0];
    let event = AsyncEvent(both.iter().find(|c| c.cid.get() == held).unwrap().dw0.get());
    assert_eq!((event.kind(), event.info()), (AsyncEvent::TYPE_HEALTH, 1));
    assert_eq!(event.log_page(), LogPageId::SMART_HEALTH.0);
    let log = Command::get_log_page(LogPageId::SMART_HEALTH, u32::MAX, 0, 512);
    assert_eq!(host.fetch(&mut world, log, 512).1[0], 1 << 1);
}

#[test]
fn events_nobody_wants_any_more_are_not_sent() {
    let (mut world, mut host, _) = world();
    let wanted = u32::MAX;
    assert!(set(&mut host, &mut world, FeatureId::ASYNC_EVENT_CONFIG, wanted).is_success());
    let (_, kept) = select(&mut host, &mut world, FeatureId::ASYNC_EVENT_CONFIG, 0);
    assert_eq!(kept, 0x13f, "namespaces and critical warnings");
    world.target.remove_ns(DEFAULT_NQN, 1).unwrap();
    assert!(set(&mut host, &mut world, FeatureId::ASYNC_EVENT_CONFIG, 0).is_success());
    host.submit(&world, Command::async_event_request(), &[]);
    host.expect_silence(&mut world);
}

#[test]
fn a_log_read_before_its_event_clears_it_unless_the_event_is_retained() {
    let (mut world, mut host, _) = world();
    assert!(set(&mut host, &mut world, FeatureId::ASYNC_EVENT_CONFIG, 1 << 8).is_success());
    world.target.remove_ns(DEFAULT_NQN, 1).unwrap();
    let mut log = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
    log.cdw10 = (log.cdw10.get() | 1 << 15).into();
    assert_eq!(host.fetch(&mut world, log, 4096).1[0], 1);
    let event = host.run(&mut world, Command::async_event_request(), &[], &[]).0;
    assert_eq!(AsyncEvent(event.dw0.get()).log_page(), LogPageId::CHANGED_NAMESPACES.0);
    let log = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
    assert_eq!(host.fetch(&mut world, log, 4096).1[0], 1, "a retained event keeps its log");
    assert_eq!(host.fetch(&mut world, log, 4096).1[0], 0);
    host.submit(&world, Command::async_event_request(), &[]);
    host.expect_silence(&mut world);
}

#[test]
fn no_more_queues_connect_than_were_granted() {
    let (mut world, mut host, cntlid) = world();
    let two = QueueCounts::pairs(2).to_dword();
    assert!(set(&mut host, &mut world, FeatureId::NUMBER_OF_QUEUES, two).is_success());
    let none = set(&mut host, &mut world, FeatureId::NUMBER_OF_QUEUES, 0xffff);
    assert!(none.is(Status::INVALID_FIELD));
    let _second = Host::io(&mut world, 0, cntlid, 2, Digests::default());
    let mut third = Host::dial(&world, 0, 4420);
    third.greet(&mut world, Digests::default());
    let refused = third.try_connect(&mut world, 3, 16, cntlid, 0);
    assert!(refused.status().is(Status::CONNECT_INVALID_PARAMETERS));
    assert_eq!(refused.dw0.get(), 42);
    let late = set(&mut host, &mut world, FeatureId::NUMBER_OF_QUEUES, two);
    assert!(late.is(Status::SEQUENCE_ERROR));
}

#[test]
fn a_reset_brings_the_defaults_back() {
    let (mut world, mut host, _) = world();
    assert!(set(&mut host, &mut world, FeatureId::ERROR_RECOVERY, 9).is_success());
    assert!(host.property_set(&mut world, registers::CC, 0).status().is_success());
    let enabled = u64::from(Cc::enabled(Cc::CSS_NVM).0);
    assert!(host.property_set(&mut world, registers::CC, enabled).status().is_success());
    assert_eq!(select(&mut host, &mut world, FeatureId::ERROR_RECOVERY, 0).1, 0);
}
