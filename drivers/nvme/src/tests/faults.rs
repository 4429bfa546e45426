use alloc::string::String;

use basalt_models::nvme::{Fault, admin, any_io, io};
use basalt_nvme_spec::{AdminOpcode, NvmOpcode};

use super::*;
use crate::{NotQuiesced, QueueError, RejectReason};

fn faulty(fault: Fault, nth: u64) -> Ready {
    let ready = Ready::with_defaults();
    ready.bench.model.inject(io(NvmOpcode::READ).nth(nth), fault);
    ready
}

fn check_late(ready: &mut Ready) -> Option<QueueError> {
    let mut late = Vec::new();
    let mut check = |ready: &mut Ready| ready.queue.check(ready.bench.now(), |t| late.push(t));
    assert_eq!(check(ready), None, "the clock starts here");
    ready.bench.advance(Duration::from_secs(31));
    assert_eq!(check(ready), None);
    assert_eq!(check(ready), None, "there is time to abort it");
    ready.bench.advance(Duration::from_secs(15));
    let error = check(ready);
    let told = late.len();
    late.dedup();
    assert_eq!(late.len(), told, "each is told once");
    error
}

#[test]
fn a_late_command_that_is_aborted_ends_and_the_queue_goes_on() {
    let mut ready = faulty(Fault::Delay(1_000_000), 2);
    (0..3).for_each(|tag| ready.submit_read(tag));
    assert_eq!(ready.bench.drain(&mut ready.queue).len(), 2);
    let mut late = Vec::new();
    for seconds in [0, 31, 1] {
        ready.bench.advance(Duration::from_secs(seconds));
        let now = ready.bench.now();
        assert_eq!(ready.queue.check(now, |ticket| late.push(ticket)), None);
    }
    let [ticket] = late[..] else { panic!("{late:?}") };
    assert_eq!(ready.bench.run(ready.controller.abort(1, ticket)), Ok(true));
    let ended = ready.bench.drain(&mut ready.queue);
    assert_eq!(ended.len(), 1);
    assert!(ended[0].1.is(Status::ABORT_REQUESTED) && ended[0].0.0 == 1, "{}", ended[0].1);
    assert_eq!(ready.bench.run(ready.controller.abort(1, ticket)), Ok(false), "it is over");
    ready.submit_read(5);
    assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success());
}

#[test]
fn a_lost_completion_times_out_and_a_reset_hands_everything_back_once() {
    for fault in [Fault::DropCompletion, Fault::StalePhase] {
        let mut ready = faulty(fault, 3);
        (0..5).for_each(|tag| ready.submit_read(tag));
        let mut seen: Vec<u64> =
            ready.bench.drain(&mut ready.queue).iter().map(|(payload, _)| payload.0).collect();
        assert_eq!(check_late(&mut ready), Some(QueueError::Timeout));
        let refused = ready.queue.flush(&ready.ns, (9, Vec::new())).unwrap_err();
        assert_eq!(refused.reason, RejectReason::Failed(QueueError::Timeout));
        seen.extend(ready.stop());
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4], "{fault:?}");
    }
}

#[test]
fn a_delayed_completion_is_merely_late() {
    let mut ready = faulty(Fault::Delay(20), 1);
    ready.submit_read(1);
    ready.submit_read(2);
    let tags: Vec<u64> =
        ready.bench.drain(&mut ready.queue).iter().map(|(payload, _)| payload.0).collect();
    assert_eq!(tags, [2, 1]);
    assert_eq!(check_late(&mut ready), None);
}

#[test]
fn completions_that_overtake_each_other_end_their_own_commands() {
    let mut ready = Ready::with_defaults();
    for tag in 0..8 {
        let data = ready.bench.buffers(&[4096], tag as u8 + 1);
        assert!(ready.write(tag * 8, data).is_success());
    }
    for nth in [1, 3, 8] {
        ready.bench.model.inject(io(NvmOpcode::READ).nth(nth), Fault::Reorder);
    }
    (0..8).for_each(|tag| ready.submit_read(tag));
    let ended = ready.bench.drain(&mut ready.queue);
    let order: Vec<u64> = ended.iter().map(|((tag, _), _)| *tag).collect();
    assert_eq!(order, [1, 0, 3, 2, 4, 5, 6, 7], "nothing overtakes the last one");
    for ((tag, data), status) in ended {
        assert!(status.is_success());
        assert!(data[0].as_slice().iter().all(|byte| u64::from(*byte) == tag + 1), "{tag}");
    }
    assert_eq!((ready.queue.fault(), check_late(&mut ready)), (None, None));
    assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
}

#[test]
fn admin_completions_may_overtake_each_other_too() {
    let bench = Bench::with_defaults();
    bench.model.inject(admin(AdminOpcode::IDENTIFY).every(), Fault::Reorder);
    let controller = bench.controller(Options::default());
    assert_eq!(controller.namespaces().len(), 1);
}

#[test]
fn an_error_status_reaches_the_submitter_with_the_payload() {
    let mut ready = faulty(Fault::Status(2, 0x81), 2);
    assert!(ready.read(0, &[4096]).1.is_success());
    let (_, status) = ready.read(0, &[4096]);
    assert!(status.is(Status::UNRECOVERED_READ));
    assert!(ready.read(0, &[4096]).1.is_success());
    assert_eq!(ready.queue.stats().failed, 1);
}

#[test]
fn completions_of_unknown_or_finished_commands_fail_the_queue() {
    for (fault, outstanding) in [(Fault::WrongCid, 2), (Fault::DuplicateCompletion, 1)] {
        let mut ready = faulty(fault, 1);
        ready.submit_read(1);
        ready.submit_read(2);
        let _ = ready.queue.commit();
        let _ = ready.queue.poll(64, |_, _| {});
        assert!(matches!(ready.queue.fault(), Some(QueueError::BadCompletion { .. })));
        assert_eq!(ready.queue.stats().bad_completions, 1);
        assert_eq!(ready.queue.outstanding(), outstanding, "{fault:?}");
        assert_eq!(ready.stop().len(), outstanding);
    }
}

#[test]
fn fatal_status_and_removal_are_found_by_the_check() {
    for (fault, expected) in
        [(Fault::FatalStatus, QueueError::Fatal), (Fault::AllOnes, QueueError::Removed)]
    {
        let mut ready = faulty(fault, 1);
        ready.submit_read(8);
        assert!(ready.bench.drain(&mut ready.queue).is_empty());
        assert_eq!(ready.queue.check(ready.bench.now(), |_| {}), Some(expected));
        assert_eq!(ready.stop(), [8]);
    }
}

#[test]
fn corrupt_data_is_for_the_reader_to_notice() {
    let mut ready = faulty(Fault::CorruptData, 1);
    assert_eq!(ready.read(0, &[512]).0[0], 1);
    assert_eq!(ready.read(0, &[512]).0[0], 0);
}

#[test]
fn a_fault_can_befall_every_command() {
    let mut ready = Ready::with_defaults();
    ready.bench.model.inject(any_io().every(), Fault::Status(0, 6));
    let data = ready.bench.buffers(&[512], 0);
    assert!(ready.write(0, data).is(Status::INTERNAL_ERROR));
    assert!(ready.read(0, &[512]).1.is(Status::INTERNAL_ERROR));
}

#[test]
fn after_a_restart_only_queues_of_the_new_run_are_taken() {
    let mut ready = faulty(Fault::DropCompletion, 1);
    ready.submit_read(3);
    let _ = ready.queue.commit();
    let early = ready.bench.run(ready.controller.stop());
    ready.bench.run(ready.controller.restart()).unwrap();
    let stale = ready.bench.run(ready.controller.create_io_queue(ready.queue.address(), None));
    assert!(stale.is_err());
    let mut next = ready.bench.queue(&ready.controller, 1);
    assert_eq!(next.abort_all(early, |_| {}), Err(NotQuiesced));
    let mut tags = Vec::new();
    ready.queue.abort_all(early, |(tag, _)| tags.push(tag)).unwrap();
    assert_eq!(tags, [3]);
    ready.queue = next;
    assert!(ready.read(0, &[4096]).1.is_success());
}

#[test]
fn a_queue_dropped_in_use_gives_its_memory_up_rather_than_free_it() {
    let mut ready = faulty(Fault::DropCompletion, 1);
    ready.submit_read(0);
    let _ = ready.queue.commit();
    let Ready { bench, controller, queue, .. } = ready;
    let before = bench.pool.stats().bytes_free;
    drop(queue);
    assert_eq!(bench.pool.stats().bytes_free, before, "nothing came back");
    drop(controller);
}

#[test]
fn a_quiet_queue_gives_all_its_memory_back() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    let before = bench.pool.stats().bytes_free;
    let queue = bench.queue(&controller, 1);
    assert!(bench.pool.stats().bytes_free < before);
    drop(queue);
    assert_eq!(bench.pool.stats().bytes_free, before);
}
