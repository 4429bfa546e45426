//! What holds on every core when a command ends, and what becomes of commands under way.

use core::sync::atomic::Ordering;

use basalt_nvme_spec::reservation::ReservationType;
use basalt_nvme_spec::{Command, NvmOpcode, Status};

use super::*;

const EXCLUSIVE: ReservationType = ReservationType::EXCLUSIVE_ACCESS;

/// Three cores; host 1 has a queue on each, of which the later ones are given.
fn spread() -> (Bench, [Host; 2]) {
    let mut bench = Bench::with(3, 2);
    let cntlid = bench.world.target.controllers().into_iter().find(|c| c.hostid == [2; 16]);
    let cntlid = cntlid.unwrap().cntlid;
    let queues = [(0, 2), (2, 3)].map(|(core, qid)| bench.queue([2; 16], core, cntlid, qid));
    bench.registered(&[0, 1]);
    (bench, queues)
}

fn preempt_and_abort(key: u64, other: u64) -> (Command, Vec<u8>) {
    let cdw10 = PREEMPT_AND_ABORT | u32::from(EXCLUSIVE.0) << 8;
    (with_action(NvmOpcode::RESERVATION_ACQUIRE, cdw10), keys(&[key, other]))
}

#[test]
fn a_preempted_host_is_kept_out_on_every_core_when_the_command_ends() {
    let (mut bench, queues) = spread();
    assert!(bench.acquire(1, ACQUIRE, EXCLUSIVE, 0).is_success());
    let (command, data) = preempt_and_abort(key(0), key(1));
    let cid = bench.start(0, command, &data);
    let mut queues = queues;
    let mut write = Command::write(1, 0, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    // Step by step, so that not a round passes between the end and the writes.
    let mut rounds = 0;
    while bench.world.stacks[0].borrow().pipes[bench.peers[0].io.pipe].to_host.is_empty() {
        bench.world.rounds(1);
        rounds += 1;
        assert!(rounds < 1000, "it never ends");
    }
    for queue in &mut queues {
        queue.submit(&bench.world, write, &[1; 512]);
    }
    let late = bench.start(1, write, &[1; 512]);
    for queue in &mut queues {
        let (done, _) = queue.complete(&mut bench.world, &[]);
        assert!(done.status().is(Status::RESERVATION_CONFLICT), "core {}", queue.core);
    }
    let (done, _) = bench.peers[1].io.complete(&mut bench.world, &[]);
    assert_eq!(done.cid.get(), late);
    assert!(done.status().is(Status::RESERVATION_CONFLICT));
    let (done, _) = bench.peers[0].io.complete(&mut bench.world, &[]);
    assert_eq!((done.cid.get(), done.status()), (cid, Status::SUCCESS));
    assert!(bench.shared.bytes.lock()[..512] == [0xee; 512]);
}

#[test]
fn preempt_and_abort_waits_for_commands_that_the_bdev_has() {
    let (mut bench, mut queues) = spread();
    bench.shared.hold.store(true, Ordering::Relaxed);
    let mut write = Command::write(1, 0, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    for queue in &mut queues {
        queue.submit(&bench.world, write, &[7; 512]);
    }
    bench.world.rounds(20);
    let (command, data) = preempt_and_abort(key(0), key(1));
    let cid = bench.start(0, command, &data);
    bench.peers[0].io.expect_silence(&mut bench.world);
    bench.shared.hold.store(false, Ordering::Relaxed);
    let (done, _) = bench.peers[0].io.complete(&mut bench.world, &[]);
    assert_eq!((done.cid.get(), done.status()), (cid, Status::SUCCESS));
    assert!(bench.shared.bytes.lock()[..512] == [7; 512], "what had begun has ended");
    for queue in &mut queues {
        assert!(queue.complete(&mut bench.world, &[]).0.status().is_success());
    }
}

#[test]
fn preempt_and_abort_aborts_what_the_bdev_gives_up() {
    let (mut bench, mut queues) = spread();
    bench.shared.hold.store(true, Ordering::Relaxed);
    bench.shared.aborts.store(true, Ordering::Relaxed);
    let mut write = Command::write(1, 0, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    for queue in &mut queues {
        queue.submit(&bench.world, write, &[7; 512]);
    }
    let own = bench.start(0, Command::write(1, 8, 1), &[8; 512]);
    bench.world.rounds(20);
    let (command, data) = preempt_and_abort(key(0), key(1));
    assert!(bench.run_ahead(command, &data).is_success());
    for queue in &mut queues {
        let (done, _) = queue.complete(&mut bench.world, &[]);
        assert!(done.status().is(Status::ABORT_REQUESTED));
    }
    bench.shared.hold.store(false, Ordering::Relaxed);
    let (done, _) = bench.peers[0].io.complete(&mut bench.world, &[]);
    assert_eq!((done.cid.get(), done.status()), (own, Status::SUCCESS), "not one's own");
    let bytes = bench.shared.bytes.lock();
    assert!(bytes[..512] == [0xee; 512] && bytes[8 * 512..][..512] == [8; 512]);
}

impl Bench {
    /// A command of host 0 that ends before those it sent earlier.
    fn run_ahead(&mut self, command: Command, data: &[u8]) -> Status {
        let cid = self.start(0, command, data);
        let (done, _) = self.peers[0].io.complete(&mut self.world, &[]);
        assert_eq!(done.cid.get(), cid);
        done.status()
    }
}

#[test]
fn preempt_and_abort_waits_even_for_a_host_that_has_left() {
    let (mut bench, queues) = spread();
    let [_, mut queue] = queues;
    bench.shared.hold.store(true, Ordering::Relaxed);
    let mut write = Command::write(1, 0, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    queue.submit(&bench.world, write, &[7; 512]);
    bench.world.rounds(20);
    queue.hang_up(&bench.world);
    bench.peers[1].admin.hang_up(&bench.world);
    bench.world.rounds(50);
    let (command, data) = preempt_and_abort(key(0), key(1));
    bench.start(0, command, &data);
    bench.peers[0].io.expect_silence(&mut bench.world);
    bench.shared.hold.store(false, Ordering::Relaxed);
    assert!(bench.peers[0].io.complete(&mut bench.world, &[]).0.status().is_success());
    bench.world.rounds(20);
    assert_eq!(bench.world.stats(2).outstanding, 0);
}

#[test]
fn a_preempted_host_that_registers_anew_does_not_hold_the_command_up() {
    let (mut bench, mut queues) = spread();
    bench.shared.hold.store(true, Ordering::Relaxed);
    let mut write = Command::write(1, 0, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    let old = queues[0].submit(&bench.world, write, &[7; 512]);
    bench.world.rounds(20);
    let cdw10 = PREEMPT_AND_ABORT | u32::from(ReservationType::WRITE_EXCLUSIVE_ALL.0) << 8;
    let command = with_action(NvmOpcode::RESERVATION_ACQUIRE, cdw10);
    let preempting = bench.start(0, command, &keys(&[key(0), key(1)]));
    bench.world.rounds(50);
    bench.registered(&[1]);
    for queue in &mut queues {
        queue.submit(&bench.world, write, &[8; 512]);
    }
    bench.peers[0].io.expect_silence(&mut bench.world);
    // The old write ends; the disk keeps the new ones.
    bench.shared.aborts.store(true, Ordering::Relaxed);
    let abort = Command::abort(2, old);
    let (done, _) = bench.peers[1].admin.run(&mut bench.world, abort, &[], &[]);
    assert_eq!((done.status(), done.dw0.get()), (Status::SUCCESS, 0));
    let (done, _) = bench.peers[0].io.complete(&mut bench.world, &[]);
    assert_eq!((done.cid.get(), done.status()), (preempting, Status::SUCCESS));
    assert_eq!(bench.world.stats(0).outstanding + bench.world.stats(2).outstanding, 2);
}

#[test]
fn nothing_is_left_of_a_host_that_goes_while_its_command_is_on_its_way() {
    let (mut bench, _queues) = spread();
    let before = bench.world.in_use();
    let third = bench.join([3; 16], 2);
    bench.registered(&[third]);
    let (command, data) = preempt_and_abort(key(third), key(1));
    bench.start(third, command, &data);
    bench.peers[third].io.hang_up(&bench.world);
    bench.peers[third].admin.hang_up(&bench.world);
    bench.world.rounds(200);
    let after = bench.world.in_use();
    assert_eq!(after[2], before[2], "the core of its queue");
    assert!(bench.acquire(0, ACQUIRE, EXCLUSIVE, 0).is_success());
}
