//! Cores without a queue, which use those of others.

use basalt_bdev::suite::{self, Medium};
use basalt_bdev::{IoError, RejectReason};
use basalt_models::nvme::{Fault, admin, any_io};
use basalt_nvme_spec::AdminOpcode;

use super::faults::reset;
use super::*;

/// A machine of three cores whose controller has two queues.
fn short_of_queues() -> Rig {
    let rig = Rig::attached(3, Config { queues: 2, ..Config::default() });
    assert_eq!(rig.info().queues, [0, 1].map(CoreId));
    rig
}

#[test]
fn a_core_without_a_queue_does_all_that_the_others_do() {
    let mut rig = short_of_queues();
    rig.suite_core = 2;
    let disk = rig.open("Nvme0n1");
    let stats = |rig: &Rig| -> Vec<_> { rig.pools.iter().map(DmaPool::stats).collect() };
    let before = stats(&rig);
    suite::run(&mut rig, &disk, Medium::Keeps);
    rig.assert_no_violations();
    rig.rounds(2);
    assert_eq!(stats(&rig), before, "all memory is back where it is of");
}

#[test]
fn cores_near_the_device_have_its_queues() {
    let mut rig = Rig::new(3, Config { queues: 2, ..Config::default() });
    let cores = [2, 7, 1].map(CoreId).into();
    rig.attach_with(Options { cores, ..quick() }).unwrap();
    assert_eq!(rig.info().queues, [1, 2].map(CoreId));
    reset(&mut rig).unwrap();
    assert_eq!(rig.info().queues, [1, 2].map(CoreId), "and after a reset");
    let mut channel = rig.channel(0);
    channel.submit(rig.read(0, 0, 0)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
}

#[test]
fn all_cores_do_io_at_once() {
    let mut rig = short_of_queues();
    let mut channels: Vec<_> = (0..3).map(|core| rig.channel(core)).collect();
    for round in 0..20 {
        for (core, channel) in channels.iter_mut().enumerate() {
            for tag in 0..8 {
                channel.submit(rig.read(core, round * 8 + tag, tag)).unwrap();
            }
        }
        for channel in &mut channels {
            assert!(rig.drain(channel, 8).iter().all(|io| io.status == Ok(())));
        }
    }
    rig.assert_no_violations();
}

#[test]
fn a_borrowed_queue_takes_no_more_than_it_has_room_for() {
    let mut rig = short_of_queues();
    let mut channel = rig.channel(2);
    let mut taken = 0;
    let refused = loop {
        match channel.submit(rig.read(2, 0, taken)) {
            Ok(()) => taken += 1,
            Err(refused) => break refused.reason,
        }
    };
    assert_eq!(refused, RejectReason::QueueFull);
    let ended = rig.drain(&mut channel, taken as usize);
    assert!(ended.iter().all(|io| io.status == Ok(())));
    channel.submit(rig.read(2, 0, 0)).unwrap();
}

#[test]
fn what_a_dropped_channel_had_in_flight_returns_its_memory() {
    let mut rig = short_of_queues();
    let before = rig.pools[2].stats();
    for after in [0, 1, 2, 5] {
        rig.model.plan(|plan| {
            plan.on(any_io().every(), Fault::Delay(4));
        });
        let mut channel = rig.channel(2);
        for tag in 0..16 {
            channel.submit(rig.read(2, tag, tag)).unwrap();
        }
        rig.rounds(after);
        drop(channel);
        rig.rounds(20);
        assert_eq!(rig.pools[2].stats(), before, "dropped after {after} rounds");
        rig.model.plan(|plan| plan.clear());
    }
    rig.assert_no_violations();
}

#[test]
fn a_reset_loses_nothing_of_what_was_borrowed_for() {
    let mut rig = short_of_queues();
    let mut channel = rig.channel(2);
    rig.model.plan(|plan| {
        plan.on(any_io(), Fault::DropCompletion);
    });
    channel.submit(rig.read(2, 0, 0)).unwrap();
    rig.rounds(3);
    rig.model.plan(|plan| plan.clear());
    reset(&mut rig).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()), "it is read again");
    channel.submit(rig.read(2, 0, 1)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
}

#[test]
fn a_lender_that_loses_its_queue_says_so() {
    let mut rig = Rig::attached(3, Config { queues: 2, ..Config::default() });
    // Core 2 borrows of core 0; core 0 itself loses its queue by the reset.
    let mut channel = rig.channel(2);
    rig.model.plan(|plan| {
        plan.on(admin(AdminOpcode::CREATE_IO_SQ).nth(1), Fault::Status(1, 1));
    });
    reset(&mut rig).unwrap();
    channel.submit(rig.read(2, 0, 0)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Err(IoError::Removed));
    let mut again = rig.channel(2);
    again.submit(rig.read(2, 0, 0)).unwrap();
    assert_eq!(rig.drain(&mut again, 1)[0].status, Ok(()), "core 1 lends its own");
}
