use basalt_env::Device;
use basalt_models::nvme::{Fault, MetadataPlace, admin, disable, enable};
use basalt_nvme_spec::{
    AdminOpcode, AsyncEvent, Cns, Command, FeatureId, LogPageId, NSID_ALL, ascii_field,
};

use super::*;
use crate::{AdminError, Events};

fn short() -> Options {
    Options { admin_timeout: Duration::from_millis(200), ..Options::default() }
}

#[test]
fn bring_up_finds_the_namespaces_and_what_they_are_called() {
    let bench = Bench::new(two_namespaces());
    let controller = bench.controller(Options { queues: 4, ..Options::default() });
    let found = controller.namespaces();
    let sizes: Vec<_> = found.iter().map(|ns| (ns.nsid(), ns.block_size(), ns.blocks())).collect();
    assert_eq!(sizes, [(2, 512, 2048), (9, 4096, 256)]);
    assert_eq!(found[1].uuid().unwrap()[..4], [0, 0, 0, 9]);
    assert_eq!(ascii_field(&controller.identify().sn), Some("BASALT0001"));
    assert_eq!(controller.queues(), 4);
    assert_eq!(controller.transfer_max(), 1 << 20);
    assert!(bench.model.violations().is_empty(), "{:?}", bench.model.violations());
}

#[test]
fn a_controller_grants_fewer_queues_and_entries_than_asked_for() {
    let bench = Bench::new(Config { queues: 2, queue_entries_max: 8, ..Config::default() });
    let controller = bench.controller(Options { queues: 64, ..Options::default() });
    assert_eq!(controller.queues(), 2);
    assert_eq!(controller.queue_spec(1).unwrap().depth(), 7);
    assert!(controller.queue_spec(3).is_none() && controller.queue_spec(0).is_none());
}

#[test]
fn a_namespace_with_odd_blocks_or_metadata_that_cannot_be_described_is_left_out() {
    let mut config = Config { sgls: false, ..two_namespaces() };
    config.namespaces[0] = config.namespaces[0].with_metadata(8, MetadataPlace::InLine);
    config.namespaces.push(NamespaceConfig::new(11, 256, 16));
    let short = NamespaceConfig::new(12, 512, 16).protected(1);
    config.namespaces.push(short.with_metadata(4, MetadataPlace::Separate));
    let much = NamespaceConfig::new(13, 512, 16).with_metadata(4100, MetadataPlace::Separate);
    config.namespaces.push(much);
    let controller = Bench::new(config).controller(Options::default());
    let nsids: Vec<_> = controller.namespaces().iter().map(Namespace::nsid).collect();
    assert_eq!(nsids, [9]);
}

#[test]
fn more_namespaces_than_one_list_holds_are_all_found() {
    let namespaces = (1..=1100).map(|nsid| NamespaceConfig::new(nsid, 512, 1)).collect();
    let bench = Bench::new(Config { namespaces, ..Config::default() });
    assert_eq!(bench.controller(Options::default()).namespaces().len(), 1100);
}

#[test]
fn a_controller_left_running_by_firmware_is_restarted() {
    let bench = Bench::with_defaults();
    core::mem::forget(bench.controller(Options::default()));
    assert!(bench.try_bring_up(Options::default()).is_ok());
}

#[test]
fn a_controller_that_never_gets_ready_is_named_so() {
    let bench = Bench::with_defaults();
    bench.model.inject(enable(), Fault::StuckReady);
    let error = bench.try_bring_up(Options::default()).err().unwrap();
    assert!(matches!(error, InitError::NeverReady { waited } if waited.as_secs() <= 2));
}

#[test]
fn a_controller_that_never_stops_is_cut_off_from_memory() {
    let mut ready = Ready::with_defaults();
    ready.submit_read(7);
    ready.bench.model.inject(disable().every(), Fault::StuckReady);
    assert_eq!(ready.stop(), [7]);
    assert_eq!(ready.bench.model.device().config_read(4) & 4, 0, "bus mastering is off");
    let error = ready.bench.run(ready.controller.restart()).err().unwrap();
    assert!(matches!(error, InitError::NeverStopped { .. }), "{error}");
    assert_eq!(ready.bench.model.device().config_read(4) & 4, 0, "and stays off");
}

#[test]
fn fatal_status_and_removal_end_bring_up_at_any_point() {
    for (fault, expected) in
        [(Fault::FatalStatus, AdminError::Fatal), (Fault::AllOnes, AdminError::Removed)]
    {
        for opcode in [AdminOpcode::IDENTIFY, AdminOpcode::SET_FEATURES] {
            let bench = Bench::with_defaults();
            bench.model.inject(admin(opcode), fault);
            let error = bench.try_bring_up(short()).err().unwrap();
            assert_eq!(error, InitError::Command { opcode, error: expected });
        }
    }
    let bench = Bench::with_defaults();
    bench.model.inject(enable(), Fault::FatalStatus);
    assert_eq!(bench.try_bring_up(short()).err(), Some(InitError::Fatal));
    bench.model.remove();
    assert_eq!(bench.try_bring_up(short()).err(), Some(InitError::Removed));
}

#[test]
fn an_admin_command_that_is_never_answered_times_out() {
    for fault in [Fault::DropCompletion, Fault::StalePhase] {
        let bench = Bench::with_defaults();
        bench.model.inject(admin(AdminOpcode::IDENTIFY).nth(2), fault);
        let error = bench.try_bring_up(short()).err().unwrap();
        let opcode = AdminOpcode::IDENTIFY;
        assert_eq!(error, InitError::Command { opcode, error: AdminError::Timeout });
    }
}

#[test]
fn an_answer_to_nothing_is_noticed() {
    for fault in [Fault::WrongCid, Fault::DuplicateCompletion] {
        let bench = Bench::with_defaults();
        bench.model.inject(admin(AdminOpcode::IDENTIFY), fault);
        let error = bench.try_bring_up(short()).err().unwrap();
        assert!(
            matches!(error, InitError::Command { error: AdminError::BadCompletion, .. }),
            "{fault:?}: {error}"
        );
    }
}

#[test]
fn delayed_answers_and_missing_descriptors_are_no_failure() {
    let bench = Bench::with_defaults();
    bench.model.plan(|plan| {
        plan.on(admin(AdminOpcode::IDENTIFY).nth(1), Fault::Delay(5));
        // The one of descriptors, and before that of limits.
        plan.on(admin(AdminOpcode::IDENTIFY).nth(2), Fault::Status(0, 2));
        plan.on(admin(AdminOpcode::IDENTIFY).nth(5), Fault::Status(0, 2));
    });
    let controller = bench.controller(Options::default());
    assert_eq!(controller.namespaces()[0].uuid(), None);
    assert_eq!(controller.command_limits().deallocate_blocks, u32::MAX);
}

#[test]
fn a_namespace_list_that_starts_with_zero_is_empty() {
    let bench = Bench::with_defaults();
    bench.model.inject(admin(AdminOpcode::IDENTIFY).nth(3), Fault::CorruptData);
    // One bit turns namespace 1 into 0.
    assert!(bench.controller(Options::default()).namespaces().is_empty());
}

#[test]
fn admin_commands_carry_data_both_ways_and_are_checked_for_length() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    assert_eq!(bench.run(controller.smart()).unwrap().available_spare, 100);
    let errors = bench.run(controller.log_page(LogPageId::ERROR_INFORMATION, NSID_ALL, 0, 64));
    assert_eq!(errors.unwrap().len(), 64);
    let get = Command::get_features(FeatureId::VOLATILE_WRITE_CACHE, 0);
    assert_eq!(bench.run(controller.admin(get, None)).unwrap().dw0, 1);
    let identify = Command::identify(Cns::CONTROLLER, 0);
    let short = bench.pool.alloc(2048).ok();
    assert_eq!(bench.run(controller.admin(identify, short)).err(), Some(AdminError::BadBuffer));
    assert_eq!(bench.run(controller.admin(identify, None)).err(), Some(AdminError::BadBuffer));
    let buffer = Command::set_features(FeatureId::HOST_MEMORY_BUFFER, 1);
    assert_eq!(bench.run(controller.admin(buffer, None)).err(), Some(AdminError::NotAllowed));
    let create = Command::create_io_cq(1, 16, 0x1000);
    assert_eq!(bench.run(controller.admin(create, None)).err(), Some(AdminError::NotAllowed));
}

#[test]
fn a_vendors_command_is_sent_if_it_is_known_how_much_data_it_moves() {
    const READ: AdminOpcode = AdminOpcode(0xc2);
    let command = Command { cdw10: 1024.into(), ..Command::admin(READ) };
    for (avscc, expected) in
        [(0, AdminError::NotAllowed), (1, AdminError::Status(Status::INVALID_OPCODE.with_dnr()))]
    {
        let bench = Bench::new(Config { avscc, ..Config::default() });
        let controller = bench.controller(Options::default());
        let page = bench.pool.alloc(4096).ok();
        assert_eq!(bench.run(controller.admin(command, page)).err(), Some(expected));
        let short = bench.pool.alloc(4092).ok();
        let refused = bench.run(controller.admin(command, short)).err();
        assert_eq!(refused, Some(AdminError::BadBuffer));
    }
}

#[test]
fn an_abandoned_admin_command_keeps_its_buffer_until_it_completes() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    bench.model.inject(admin(AdminOpcode::GET_LOG_PAGE), Fault::Delay(3));
    let free = bench.pool.stats().bytes_free;
    {
        let mut future = pin!(controller.smart());
        let poll = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    }
    assert!(bench.pool.stats().bytes_free < free, "the slot still owns the buffer");
    (0..4).for_each(|_| bench.model.step());
    assert!(controller.poll_event().is_none());
    assert_eq!(bench.pool.stats().bytes_free, free);
}

#[test]
fn events_arrive_once_and_are_asked_for_again_once_they_were_seen_to() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    let event = AsyncEvent::new(AsyncEvent::TYPE_HEALTH, AsyncEvent::HEALTH_TEMPERATURE, 2);
    for _ in 0..3 {
        assert_eq!(bench.run(controller.see_to_events()).unwrap(), Events::default());
        let raised = (0..9).take_while(|_| bench.model.raise_event(event)).count();
        assert_eq!(raised, 4, "as many as the controller takes requests for");
        let events = bench.run(controller.see_to_events()).unwrap();
        assert_eq!(events, Events { count: 4, ..Events::default() });
    }
    assert_eq!(bench.model.violations(), [""; 0]);
}

#[test]
fn a_controller_with_few_requests_is_sent_no_more_than_it_takes() {
    let bench = Bench::new(Config { event_requests: 1, ..Config::default() });
    let controller = bench.controller(Options::default());
    let event = AsyncEvent::new(AsyncEvent::TYPE_ERROR, 0, 1);
    for _ in 0..2 {
        assert_eq!((0..9).take_while(|_| bench.model.raise_event(event)).count(), 1);
        assert_eq!(bench.run(controller.see_to_events()).unwrap().count, 1);
        bench.run(controller.restart()).unwrap();
    }
}

#[test]
fn namespaces_that_come_go_and_grow_are_told_of_and_found() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    let changed = |count| Events { count, namespaces_changed: count > 0, ..Events::default() };
    let nsids = || -> Vec<(u32, u64)> {
        bench.run(controller.rescan()).unwrap();
        controller.namespaces().iter().map(|ns| (ns.nsid(), ns.blocks())).collect()
    };
    bench.model.add_namespace(NamespaceConfig::new(3, 512, 100));
    bench.model.add_namespace(NamespaceConfig::new(2, 4096, 10));
    assert_eq!(bench.run(controller.see_to_events()).unwrap(), changed(1), "both in one");
    assert_eq!(nsids(), [(1, 16_384), (2, 10), (3, 100)]);
    bench.model.remove_namespace(1);
    assert_eq!(bench.run(controller.see_to_events()).unwrap(), changed(1));
    bench.model.resize_namespace(3, 200);
    assert_eq!(bench.run(controller.see_to_events()).unwrap(), changed(1));
    assert_eq!(nsids(), [(2, 10), (3, 200)]);
    assert_eq!(bench.run(controller.see_to_events()).unwrap(), changed(0));
}

#[test]
fn shutdown_waits_until_the_controller_says_it_is_done() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    let _ = bench.run(controller.shutdown());
    assert!(bench.run(controller.restart()).is_ok());
    assert!(bench.model.violations().is_empty(), "{:?}", bench.model.violations());
}

#[test]
fn a_dropped_controller_reaches_no_memory() {
    let bench = Bench::with_defaults();
    drop(bench.controller(Options::default()));
    assert_eq!(bench.model.device().config_read(4) & 4, 0);
}
