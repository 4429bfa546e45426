use alloc::vec::Vec;

use basalt_bdev::{Channel, Io, IoError, IoStatus, NvmePassthru, Op, RejectReason};
use basalt_env::CoreId;
use basalt_models::nvme::{Config, Fault, admin, any_io, enable, io};
use basalt_nvme_spec::{AdminOpcode, NvmOpcode};

use super::Rig;
use crate::{ControlError, ControllerState, NvmeControllers};

/// Reads eight blocks on each of two cores, with `fault` in the way of the third command. Gives
/// how they ended.
fn reads_with(rig: &mut Rig, fault: Fault) -> Vec<IoStatus> {
    rig.model.plan(|plan| {
        plan.on(any_io().nth(3), fault);
    });
    let mut channels = [rig.channel(0), rig.channel(1)];
    for (core, channel) in channels.iter_mut().enumerate() {
        for tag in 0..8 {
            channel.submit(rig.read(core, tag, tag)).unwrap();
        }
    }
    let mut ended = Vec::new();
    for channel in &mut channels {
        let ios = rig.drain(channel, 8);
        assert!(ios.iter().map(|io| io.tag).eq(0..8), "each comes back exactly once");
        ended.extend(ios.iter().map(|io| io.status));
        assert_eq!(channel.in_flight(), 0);
    }
    ended
}

fn wait_until_enabled(rig: &mut Rig, resets: u32) {
    for _ in 0..20_000 {
        rig.round();
        let info = rig.info();
        if (info.state, info.resets) == (ControllerState::Enabled, resets) {
            return;
        }
    }
    panic!("the controller did not come back: {:?}", rig.info());
}

fn assert_works(rig: &mut Rig) {
    for core in 0..2 {
        let mut channel = rig.channel(core);
        channel.submit(rig.read(core, 1, 0)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    }
}

#[test]
fn a_late_command_is_aborted_and_the_controller_goes_on() {
    let mut rig = Rig::attached(2, Config::default());
    let ended = reads_with(&mut rig, Fault::Delay(1_000_000));
    assert_eq!(ended.iter().filter(|status| **status == Err(IoError::Timeout)).count(), 1);
    assert_eq!(ended.iter().filter(|status| status.is_ok()).count(), 15);
    assert_eq!(rig.info().resets, 0, "that was enough");
    assert_works(&mut rig);
    rig.assert_no_violations();
}

#[test]
fn a_dropped_completion_ends_in_a_reset_and_another_try() {
    let mut rig = Rig::attached(2, Config::default());
    let start = rig.now;
    let ended = reads_with(&mut rig, Fault::DropCompletion);
    assert_eq!(ended, [Ok(()); 16], "what was lost is read again");
    let took = rig.now.since(start);
    assert!(took >= super::IO_TIMEOUT && took < 3 * super::IO_TIMEOUT, "{took:?}");
    wait_until_enabled(&mut rig, 1);
    assert_works(&mut rig);
    rig.assert_no_violations();
}

#[test]
fn what_never_ends_is_not_tried_for_ever() {
    let mut rig = Rig::attached(1, Config::default());
    rig.model.plan(|plan| {
        plan.on(io(NvmOpcode::READ).every(), Fault::DropCompletion);
    });
    let mut channel = rig.channel(0);
    channel.submit(rig.read(0, 5, 1)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Err(IoError::Timeout));
    rig.model.plan(|plan| plan.clear());
    wait_until_enabled(&mut rig, 4);
    submit_and_succeed(&mut rig, &mut channel);
    rig.assert_no_violations();
}

#[test]
fn a_command_of_somebody_else_is_not_sent_twice() {
    let mut rig = Rig::attached(1, Config::default());
    rig.model.plan(|plan| {
        plan.on(any_io(), Fault::DropCompletion);
    });
    let mut channel = rig.channel(0);
    // A flush, as far as the controller is concerned.
    channel.submit(Io::nvme(Op::NvmeIo, NvmePassthru::default(), 1)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Err(IoError::Timeout));
}

#[test]
fn what_is_not_ready_yet_is_asked_again() {
    let mut rig = Rig::attached(1, Config::default());
    let not_ready = Fault::Status(0, 0x82);
    for (failures, status) in
        [(3, Ok(())), (4, Err(IoError::Nvme { sct: 0, sc: 0x82, dnr: false }))]
    {
        rig.model.plan(|plan| {
            plan.clear();
            for nth in 1..=failures {
                plan.on(io(NvmOpcode::READ).nth(nth), not_ready);
            }
        });
        let mut channel = rig.channel(0);
        channel.submit(rig.read(0, 5, 1)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1)[0].status, status);
    }
}

#[test]
fn a_status_error_is_passed_on_and_resets_nothing() {
    let mut rig = Rig::attached(2, Config::default());
    let ended = reads_with(&mut rig, Fault::Status(2, 0x81));
    let failed: Vec<_> = ended.iter().filter_map(|status| status.err()).collect();
    let [IoError::Nvme { sct: 2, sc: 0x81, .. }] = failed[..] else { panic!("{failed:?}") };
    assert_eq!(rig.info().resets, 0);
    assert_works(&mut rig);
}

#[test]
fn lies_and_fatal_errors_end_in_a_reset_with_every_io_done() {
    for fault in [Fault::WrongCid, Fault::FatalStatus, Fault::DuplicateCompletion] {
        let mut rig = Rig::attached(2, Config::default());
        let ended = reads_with(&mut rig, fault);
        assert_eq!(ended, [Ok(()); 16], "{fault:?}");
        wait_until_enabled(&mut rig, 1);
        assert_works(&mut rig);
    }
}

#[test]
fn a_removed_device_takes_its_bdevs_with_it() {
    let mut rig = Rig::attached(2, Config::default());
    let disk = rig.open("Nvme0n1");
    let mut idle = rig.channel(0);
    let ended = reads_with(&mut rig, Fault::AllOnes);
    let allowed = [Ok(()), Err(IoError::Removed)];
    assert!(ended.iter().all(|status| allowed.contains(status)), "{ended:?}");
    assert!(ended.contains(&Err(IoError::Removed)));
    rig.rounds(200);
    assert!(disk.is_removed() && rig.registry.list().is_empty());
    assert_eq!(rig.info().state, ControllerState::Failed);
    assert_eq!(idle.submit(rig.read(0, 0, 0)).unwrap_err().reason, RejectReason::Removed);
    let controllers = NvmeControllers::of(&rig.core(0));
    let reset = rig.wait_for(async move { controllers.reset("Nvme0").await });
    assert_eq!(reset, Err(ControlError::Gone));
    let controllers = NvmeControllers::of(&rig.core(0));
    assert_eq!(rig.wait_for(async move { controllers.detach("Nvme0").await }), Ok(()));
}

#[test]
fn an_idle_device_that_vanishes_is_noticed() {
    let mut rig = Rig::attached(1, Config::default());
    rig.rounds(10);
    rig.model.remove();
    rig.rounds(500);
    assert_eq!(rig.info().state, ControllerState::Failed);
    assert!(rig.registry.list().is_empty());
}

#[test]
fn a_controller_that_does_not_come_back_is_given_up() {
    let mut rig = Rig::attached(2, Config::default());
    let free: Vec<_> = rig.pools.iter().map(|pool| pool.stats().bytes_free).collect();
    rig.model.plan(|plan| {
        plan.on(enable().every(), Fault::StuckReady);
    });
    let ended = reads_with(&mut rig, Fault::DropCompletion);
    assert!(ended.contains(&Err(IoError::Removed)));
    rig.rounds(20_000);
    assert_eq!(rig.info().state, ControllerState::Failed);
    assert!(rig.registry.list().is_empty());
    for (pool, free) in rig.pools.iter().zip(free) {
        assert!(pool.stats().bytes_free >= free, "no memory stays behind");
    }
}

#[test]
fn submissions_wait_while_the_controller_resets() {
    let mut rig = Rig::attached(1, Config { ready_after: 50, ..Config::default() });
    rig.model.plan(|plan| {
        plan.on(io(NvmOpcode::READ), Fault::DropCompletion);
    });
    let mut channel = rig.channel(0);
    channel.submit(rig.read(0, 0, 1)).unwrap();
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.core(0).spawn("reset", async move {
        controllers.reset("Nvme0").await.unwrap();
    });
    rig.rounds(5);
    assert_eq!(rig.info().state, ControllerState::Resetting);
    assert_eq!(channel.submit(rig.read(0, 0, 2)).unwrap_err().reason, RejectReason::QueueFull);
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()), "the one from before is sent again");
    wait_until_enabled(&mut rig, 1);
    submit_and_succeed(&mut rig, &mut channel);
    rig.assert_no_violations();
}

fn submit_and_succeed(rig: &mut Rig, channel: &mut Channel) {
    channel.submit(rig.read(0, 0, 3)).unwrap();
    assert_eq!(rig.drain(channel, 1)[0].status, Ok(()));
}

#[test]
fn a_second_reset_works_like_the_first() {
    let mut rig = Rig::attached(2, Config::default());
    for resets in 1..=3 {
        let ended = reads_with(&mut rig, Fault::WrongCid);
        assert_eq!(ended, [Ok(()); 16]);
        wait_until_enabled(&mut rig, resets);
        rig.model.plan(|plan| plan.clear());
    }
    assert_works(&mut rig);
}

#[test]
fn a_core_that_gets_no_queue_after_a_reset_hears_that_it_is_gone() {
    let mut rig = Rig::attached(2, Config::default());
    let (mut first, mut second) = (rig.channel(0), rig.channel(1));
    rig.model.plan(|plan| {
        plan.on(admin(AdminOpcode::CREATE_IO_SQ).nth(2), Fault::Status(1, 1));
    });
    reset(&mut rig).unwrap();
    assert_eq!(rig.info().queues, [CoreId(0)]);
    submit_and_succeed(&mut rig, &mut first);
    assert_eq!(second.submit(rig.read(1, 0, 0)).unwrap_err().reason, RejectReason::Removed);
    let mut borrowed = rig.channel(1);
    borrowed.submit(rig.read(1, 0, 0)).unwrap();
    assert_eq!(rig.drain(&mut borrowed, 1)[0].status, Ok(()));
    reset(&mut rig).unwrap();
    assert_works(&mut rig);
    rig.assert_no_violations();
}

#[test]
fn a_queue_whose_creation_is_not_answered_stops_the_controller() {
    for (every, expected) in [(false, Ok(())), (true, Err(ControlError::ResetFailed))] {
        let mut rig = Rig::attached(2, Config::default());
        rig.model.plan(|plan| {
            let create = admin(AdminOpcode::CREATE_IO_CQ);
            let create = if every { create.every() } else { create.nth(2) };
            plan.on(create, Fault::DropCompletion);
        });
        assert_eq!(reset(&mut rig), expected, "once it is tried again");
        assert_eq!(rig.registry.list().is_empty(), every);
        let state = if every { ControllerState::Failed } else { ControllerState::Enabled };
        assert_eq!(rig.info().state, state);
    }
}

pub(super) fn reset(rig: &mut Rig) -> Result<(), ControlError> {
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.reset("Nvme0").await })
}
