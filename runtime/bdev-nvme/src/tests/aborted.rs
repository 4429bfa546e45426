//! Ios that their submitter aborts.

use basalt_bdev::{IoError, IoStatus};
use basalt_models::nvme::{Fault, admin, any_io};
use basalt_nvme_spec::AdminOpcode;

use super::*;

const ABORTED: IoStatus = Err(IoError::Aborted);

/// Of eight reads on a core, two that the controller keeps back are aborted.
fn abort_two(rig: &mut Rig, core: usize) -> Vec<Io> {
    rig.model.plan(|plan| {
        plan.on(any_io().nth(3), Fault::Delay(1_000_000));
        plan.on(any_io().nth(6), Fault::Delay(1_000_000));
    });
    let mut channel = rig.channel(core);
    for tag in 0..8 {
        channel.submit(rig.read(core, tag, tag)).unwrap();
    }
    rig.rounds(5);
    assert!(channel.abort(2) && channel.abort(5));
    let ended = rig.drain(&mut channel, 8);
    assert_eq!(channel.in_flight(), 0);
    ended
}

#[test]
fn an_abort_ends_what_the_controller_keeps_and_nothing_else() {
    for core in 0..2 {
        let mut rig = Rig::attached(2, Config::default());
        let start = rig.now;
        let ended = abort_two(&mut rig, core);
        assert!(rig.now.since(start) < IO_TIMEOUT / 2, "not by being late");
        for io in ended {
            let aborted = [2, 5].contains(&io.tag);
            assert_eq!(io.status, if aborted { ABORTED } else { Ok(()) }, "{}", io.tag);
        }
        assert_eq!(rig.info().resets, 0);
        rig.assert_no_violations();
    }
}

#[test]
fn an_abort_of_what_is_borrowed_goes_all_the_way() {
    let mut rig = Rig::attached(3, Config { queues: 2, ..Config::default() });
    let ended = abort_two(&mut rig, 2);
    assert_eq!(ended.iter().filter(|io| io.status == ABORTED).count(), 2);
    assert_eq!(ended.iter().filter(|io| io.status == Ok(())).count(), 6);
    rig.assert_no_violations();
}

#[test]
fn an_io_in_pieces_ends_with_the_one_that_is_under_way() {
    let mut rig = Rig::attached(1, Config { mdts: 1, ..Config::default() });
    rig.model.plan(|plan| {
        plan.on(any_io().every(), Fault::Delay(10));
    });
    let mut channel = rig.channel(0);
    let data = SgList::One(rig.buf(0, 64 << 10));
    channel.submit(Io::with_data(Op::Read, 0, 128, data, 1)).unwrap();
    rig.rounds(25);
    assert!(channel.abort(1));
    let ended = rig.drain(&mut channel, 1);
    assert_eq!(ended[0].status, ABORTED);
    assert_eq!(ended[0].data.len(), 64 << 10, "with its buffer");
    assert!(rig.model.io_commands() < 8, "of eight pieces");
    rig.assert_no_violations();
}

#[test]
fn a_controller_that_does_not_answer_an_abort_is_reset_and_the_io_is_not_sent_again() {
    let mut rig = Rig::attached(1, Config::default());
    rig.model.plan(|plan| {
        plan.on(any_io(), Fault::DropCompletion);
        plan.on(admin(AdminOpcode::ABORT), Fault::DropCompletion);
    });
    let mut channel = rig.channel(0);
    channel.submit(rig.read(0, 0, 1)).unwrap();
    rig.rounds(2);
    assert!(channel.abort(1));
    assert!(rig.drain(&mut channel, 1)[0].status.is_err());
    rig.rounds(50);
    assert_eq!((rig.info().resets, rig.model.io_commands()), (1, 1));
    rig.assert_no_violations();
}
