//! Errors that are injected into commands.

use alloc::rc::Rc;

use basalt_bdev::{IoError, IoStatus, NvmePassthru};
use basalt_models::nvme::{Fault, any_io};
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{
    AdminOpcode, ErrorChange, Fate, FeatureId, InjectedError, NvmOpcode, QueueKind, Status,
};

use super::faults::reset;
use super::*;
use crate::{ControlError, ControllerOrder};

const READ: u8 = NvmOpcode::READ.0;
const UNREADABLE: IoStatus = Err(IoError::Nvme { sct: 2, sc: 0x81, dnr: false });
const HELD: Fate = Fate::Held(Duration::from_millis(50));

fn change(rig: &mut Rig, queues: QueueKind, change: ErrorChange) -> Result<(), ControlError> {
    let controllers = NvmeControllers::of(&rig.core(0));
    let order = ControllerOrder::Inject(queues, change);
    rig.wait_for(async move { controllers.order("Nvme0", order).await })
}

/// Injects the error that a block cannot be read.
fn inject(rig: &mut Rig, queues: QueueKind, opcode: u8, fate: Fate, count: u32) {
    let error = InjectedError { opcode, fate, count, status: Status::UNRECOVERED_READ };
    change(rig, queues, ErrorChange::Add(error)).unwrap();
}

fn statuses(ended: &[Io]) -> Vec<IoStatus> {
    ended.iter().map(|io| io.status).collect()
}

/// How so many reads end on a core.
fn reads(rig: &mut Rig, core: usize, count: u64) -> Vec<IoStatus> {
    let mut channel = rig.channel(core);
    for tag in 0..count {
        channel.submit(rig.read(core, tag, tag)).unwrap();
    }
    let ended = rig.drain(&mut channel, count as usize);
    assert_eq!(channel.in_flight(), 0);
    statuses(&ended)
}

#[test]
fn as_many_commands_of_each_core_fail_as_were_asked_for_and_no_others() {
    let mut rig = Rig::attached(2, Config::default());
    inject(&mut rig, QueueKind::Io, READ, Fate::Submitted, 2);
    for core in 0..2 {
        let mut channel = rig.channel(core);
        let data = rig.filled(core, &[7; 512]);
        channel.submit(Io::with_data(Op::Write, 1, 1, data, 0)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()), "another opcode");
        assert_eq!(reads(&mut rig, core, 3), [UNREADABLE, UNREADABLE, Ok(())]);
        assert_eq!(reads(&mut rig, core, 1), [Ok(())]);
    }
    assert_eq!(rig.model.io_commands(), 2 * 5, "the controller got them all");
    assert_eq!(rig.info().resets, 0);
    rig.assert_no_violations();
}

#[test]
fn an_error_takes_the_place_of_that_of_its_opcode_and_can_be_removed() {
    let mut rig = Rig::attached(1, Config::default());
    inject(&mut rig, QueueKind::Io, READ, Fate::Submitted, 100);
    inject(&mut rig, QueueKind::Io, READ, Fate::Submitted, 1);
    assert_eq!(reads(&mut rig, 0, 2), [UNREADABLE, Ok(())]);
    inject(&mut rig, QueueKind::Io, READ, Fate::Submitted, 100);
    inject(&mut rig, QueueKind::Io, NvmOpcode::WRITE.0, Fate::Submitted, 1);
    change(&mut rig, QueueKind::Io, ErrorChange::Remove(READ)).unwrap();
    assert_eq!(reads(&mut rig, 0, 2), [Ok(()); 2]);
    let mut channel = rig.channel(0);
    let write = Io::with_data(Op::Write, 1, 1, rig.filled(0, &[7; 512]), 0);
    channel.submit(write).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, UNREADABLE, "the other one is left");
}

#[test]
fn what_is_held_back_never_reaches_the_controller_and_ends_in_time() {
    let mut rig = Rig::attached(2, Config::default());
    inject(&mut rig, QueueKind::Io, READ, HELD, 3);
    for core in 0..2 {
        let start = rig.now;
        assert_eq!(reads(&mut rig, core, 3), [UNREADABLE; 3]);
        let took = rig.now.since(start);
        assert!((50..55).contains(&took.as_millis()), "{took:?}");
    }
    assert_eq!(rig.model.io_commands(), 0);
    assert_eq!(reads(&mut rig, 0, 1), [Ok(())]);
    inject(&mut rig, QueueKind::Io, READ, Fate::Held(Duration::from_micros(u64::MAX)), 1);
    assert!(rig.channel(0).submit(rig.read(0, 0, 0)).is_ok());
    rig.rounds(2_000);
    assert_eq!(rig.info().resets, 0, "the controller is not to blame");
    rig.assert_no_violations();
}

#[test]
fn what_counts_as_done_without_being_sent_brings_zeroes() {
    let mut rig = Rig::attached(1, Config::default());
    let fate = Fate::Held(Duration::ZERO);
    let error = InjectedError { opcode: READ, fate, count: 1, status: Status::SUCCESS };
    change(&mut rig, QueueKind::Io, ErrorChange::Add(error)).unwrap();
    let mut channel = rig.channel(0);
    let data = rig.filled(0, &[7; 512]);
    channel.submit(Io::with_data(Op::Read, 0, 1, data, 0)).unwrap();
    let ended = rig.drain(&mut channel, 1);
    assert_eq!((ended[0].status, rig.model.io_commands()), (Ok(()), 0));
    assert_eq!(ended[0].data.as_slice()[0].as_slice(), [0; 512]);
}

#[test]
fn a_reset_ends_what_is_held_back_with_its_status_and_the_errors_with_it() {
    for core in 0..2 {
        let mut rig = Rig::attached(2, Config::default());
        let day = Fate::Held(Duration::from_secs(86_400));
        inject(&mut rig, QueueKind::Io, READ, day, 4);
        let mut channel = rig.channel(core);
        for tag in 0..3 {
            channel.submit(rig.read(core, tag, tag)).unwrap();
        }
        rig.rounds(10);
        assert_eq!(channel.in_flight(), 3);
        reset(&mut rig).unwrap();
        assert_eq!(statuses(&rig.drain(&mut channel, 3)), [UNREADABLE; 3]);
        assert_eq!((channel.in_flight(), rig.model.io_commands()), (0, 0));
        assert_eq!(reads(&mut rig, core, 2), [Ok(()); 2]);
        rig.assert_no_violations();
    }
}

#[test]
fn a_reset_that_comes_before_the_end_of_a_command_leaves_nothing_of_its_error() {
    let mut rig = Rig::attached(1, Config::default());
    rig.model.plan(|plan| {
        plan.on(any_io(), Fault::DropCompletion);
    });
    inject(&mut rig, QueueKind::Io, READ, Fate::Submitted, 1);
    let mut channel = rig.channel(0);
    channel.submit(rig.read(0, 0, 1)).unwrap();
    rig.rounds(5);
    reset(&mut rig).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()), "it was sent again");
    assert_eq!(reads(&mut rig, 0, 10), [Ok(()); 10]);
}

#[test]
fn a_drive_that_goes_ends_what_is_held_back() {
    let mut rig = Rig::attached(2, Config::default());
    inject(&mut rig, QueueKind::Io, READ, Fate::Held(Duration::MAX), 9);
    let mut channel = rig.channel(1);
    channel.submit(rig.read(1, 0, 1)).unwrap();
    rig.rounds(5);
    let start = rig.now;
    let controllers = NvmeControllers::of(&rig.core(0));
    assert_eq!(rig.wait_for(async move { controllers.detach("Nvme0").await }), Ok(()));
    assert_eq!(rig.drain(&mut channel, 1)[0].status, UNREADABLE);
    assert!(rig.now.since(start) < Duration::from_secs(1), "nobody waits for it");

    let mut rig = Rig::attached(1, Config::default());
    inject(&mut rig, QueueKind::Io, READ, Fate::Held(Duration::MAX), 9);
    let mut channel = rig.channel(0);
    channel.submit(rig.read(0, 0, 1)).unwrap();
    rig.rounds(5);
    rig.model.remove();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, UNREADABLE);
    rig.rounds(500);
    assert!(rig.registry.list().is_empty());
    let gone = change(&mut rig, QueueKind::Io, ErrorChange::Remove(READ));
    assert_eq!(gone, Err(ControlError::Gone));
}

#[test]
fn what_is_held_back_can_be_aborted() {
    let mut rig = Rig::attached(1, Config::default());
    inject(&mut rig, QueueKind::Io, READ, Fate::Held(Duration::MAX), 2);
    let mut channel = rig.channel(0);
    for tag in [4, 5] {
        channel.submit(rig.read(0, 0, tag)).unwrap();
    }
    rig.rounds(5);
    assert!(channel.abort(5));
    let ended = rig.drain(&mut channel, 1);
    assert_eq!((ended[0].tag, ended[0].status), (5, Err(IoError::Aborted)));
    assert_eq!(channel.in_flight(), 1);
}

#[test]
fn each_piece_is_a_command_and_a_passing_error_is_tried_again() {
    let mut rig = Rig::attached(1, Config { mdts: 1, ..Config::default() });
    let mut pieces = |fate, count, status| {
        let error = InjectedError { opcode: READ, fate, count, status };
        change(&mut rig, QueueKind::Io, ErrorChange::Add(error)).unwrap();
        let mut channel = rig.channel(0);
        let data = SgList::One(rig.buf(0, 64 << 10));
        let before = rig.model.io_commands();
        channel.submit(Io::with_data(Op::Read, 0, 128, data, 1)).unwrap();
        let ended = rig.drain(&mut channel, 1)[0].status;
        let remove = change(&mut rig, QueueKind::Io, ErrorChange::Remove(READ));
        assert_eq!(remove, Ok(()));
        (ended, rig.model.io_commands() - before)
    };
    let not_ready = Status::NAMESPACE_NOT_READY;
    assert_eq!(pieces(Fate::Submitted, 2, not_ready), (Ok(()), 8 + 2));
    assert_eq!(pieces(HELD, 3, not_ready), (Ok(()), 8));
    let (ended, sent) = pieces(HELD, 4, not_ready);
    assert!(ended.is_err() && sent == 0, "not for ever");
    assert_eq!(pieces(Fate::Submitted, 1, Status::UNRECOVERED_READ), (UNREADABLE, 1));
    assert_eq!(pieces(HELD, 7, Status::SUCCESS), (Ok(()), 1));
}

#[test]
fn a_compare_and_write_ends_once_with_the_error_of_either_command() {
    for opcode in [NvmOpcode::COMPARE.0, NvmOpcode::WRITE.0] {
        for (fate, sent) in [(Fate::Submitted, 2), (HELD, 0)] {
            let config = Config { fused_max: 8, ..Config::default() };
            let oncs = config.oncs | Oncs::COMPARE;
            let mut rig = Rig::attached(1, Config { oncs, ..config });
            inject(&mut rig, QueueKind::Io, opcode, fate, 1);
            let mut channel = rig.channel(0);
            for status in [UNREADABLE, Ok(())] {
                let data = rig.filled(0, &[0; 1024]);
                channel.submit(Io::with_data(Op::CompareAndWrite, 3, 1, data, 5)).unwrap();
                let ended = rig.drain(&mut channel, 1);
                assert_eq!((ended[0].status, ended[0].data.len()), (status, 1024));
            }
            assert_eq!(rig.model.io_commands(), sent + 2, "{opcode} {fate:?}");
            rig.assert_no_violations();
        }
    }
}

/// Sends Get Features as an admin command of somebody's, which ends later.
fn get_feature(rig: &Rig) -> Rc<RefCell<Option<IoStatus>>> {
    let (controllers, place) = (NvmeControllers::of(&rig.core(0)), Rc::default());
    let ended: Rc<RefCell<Option<IoStatus>>> = Rc::clone(&place);
    rig.core(0).spawn("get_feature", async move {
        let mut command = [0; 16];
        command[0] = u32::from(AdminOpcode::GET_FEATURES.0);
        command[10] = u32::from(FeatureId::NUMBER_OF_QUEUES.0);
        let passthru = NvmePassthru { command, ..NvmePassthru::default() };
        let (_, status) = controllers.admin_passthru("Nvme0", passthru).await;
        *ended.borrow_mut() = Some(status);
    });
    place
}

#[test]
fn admin_commands_fail_too_and_those_held_back_end_when_the_controller_is_reset() {
    const GET: u8 = AdminOpcode::GET_FEATURES.0;
    let mut rig = Rig::attached(2, Config::default());
    inject(&mut rig, QueueKind::Admin, GET, Fate::Submitted, 1);
    let [first, second] = [(); 2].map(|()| get_feature(&rig));
    rig.rounds(10);
    assert_eq!([first.take(), second.take()], [Some(UNREADABLE), Some(Ok(()))]);

    // Longer than an admin command may take.
    inject(&mut rig, QueueKind::Admin, GET, Fate::Held(Duration::from_millis(300)), 2);
    let held = get_feature(&rig);
    rig.rounds(290);
    assert_eq!(held.take(), None);
    rig.rounds(20);
    assert_eq!(held.take(), Some(UNREADABLE));
    let held = get_feature(&rig);
    rig.rounds(10);
    let start = rig.now;
    reset(&mut rig).unwrap();
    rig.rounds(2);
    assert_eq!(held.take(), Some(UNREADABLE));
    assert!(rig.now.since(start) < Duration::from_millis(200));

    // The driver's own commands are no exception: of two resets the second one works.
    let identify = AdminOpcode::IDENTIFY.0;
    inject(&mut rig, QueueKind::Admin, identify, Fate::Held(Duration::MAX), 1);
    assert_eq!(reset(&mut rig), Ok(()));
    assert_eq!(rig.info().resets, 3);
    rig.assert_no_violations();
}
