//! Abort of I/O commands, wherever they are.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use core::time::Duration;

use basalt_nvme_spec::{Command, SglDescriptor, Status};

use super::host::Host;
use super::world::World;
use crate::pdu::Digests;
use crate::{DEFAULT_NQN, TransportConfig};
use basalt_bdev::suite::disk::{Disk, Shared};

struct Bench {
    world: World,
    shared: Arc<Shared>,
    admin: Host,
    io: Host,
}

impl Bench {
    /// A disk that keeps what it is given, at most `depth` Ios, on two cores.
    fn new(depth: usize, core: usize) -> Self {
        let disk = Disk::lacking(512, 8192, &[], depth);
        let shared = Arc::clone(&disk.shared);
        let mut world = World::configured(2, TransportConfig::default(), Arc::new(disk));
        let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let io = Host::io(&mut world, core, cntlid, 1, Digests::default());
        shared.hold.store(true, Ordering::Relaxed);
        shared.aborts.store(true, Ordering::Relaxed);
        Self { world, shared, admin, io }
    }

    fn read(&mut self, len: u32) -> u16 {
        let mut read = Command::read(1, 0, len / 512);
        read.set_sgl1(SglDescriptor::transport(len));
        self.io.submit(&self.world, read, &[])
    }

    /// Whether the target says that it has aborted the command.
    fn abort(&mut self, cid: u16) -> bool {
        let (answer, _) = self.admin.run(&mut self.world, Command::abort(1, cid), &[], &[]);
        assert!(answer.status().is_success());
        answer.dw0.get() & 1 == 0
    }

    fn ended(&mut self) -> (u16, Status) {
        let (completion, _) = self.io.complete(&mut self.world, &[]);
        (completion.cid.get(), completion.status())
    }
}

#[test]
fn what_the_bdev_has_is_aborted_on_the_core_that_has_it() {
    for core in [0, 1] {
        let mut bench = Bench::new(64, core);
        let [first, second] = [bench.read(4096), bench.read(4096)];
        bench.world.rounds(10);
        assert!(bench.abort(second));
        let (cid, status) = bench.ended();
        assert!(cid == second && status.is(Status::ABORT_REQUESTED), "{status}");
        assert!(!bench.abort(second), "it is no more");
        bench.shared.hold.store(false, Ordering::Relaxed);
        let (cid, status) = bench.ended();
        assert!(cid == first && status.is_success());
    }
}

#[test]
fn what_waits_for_room_in_the_bdev_is_aborted_at_once() {
    let mut bench = Bench::new(1, 0);
    let [first, second, third] = [(); 3].map(|()| bench.read(4096));
    bench.world.rounds(10);
    bench.shared.aborts.store(false, Ordering::Relaxed);
    assert!(bench.abort(second));
    assert_eq!(bench.ended().0, second);
    bench.shared.hold.store(false, Ordering::Relaxed);
    assert_eq!([bench.ended(), bench.ended()].map(|(cid, _)| cid), [first, third]);
    bench.io.expect_silence(&mut bench.world);
}

#[test]
fn what_the_bdev_does_not_abort_ends_as_it_would() {
    let mut bench = Bench::new(64, 0);
    bench.shared.aborts.store(false, Ordering::Relaxed);
    let read = bench.read(4096);
    bench.world.rounds(10);
    assert!(!bench.abort(read));
    assert!(!bench.abort(77), "there is none");
    let (none, _) = bench.admin.run(&mut bench.world, Command::abort(9, read), &[], &[]);
    assert_eq!(none.dw0.get() & 1, 1, "nor such a queue");
    bench.shared.hold.store(false, Ordering::Relaxed);
    assert_eq!(bench.ended(), (read, Status::SUCCESS));
}

#[test]
fn an_abort_is_not_waited_for_without_end() {
    let mut bench = Bench::new(64, 0);
    // A command that its host still owes data to is left alone.
    let mut write = Command::write(1, 0, 64);
    write.set_sgl1(SglDescriptor::transport(64 * 512));
    let write = bench.io.submit(&bench.world, write, &[]);
    bench.world.rounds(10);
    assert!(!bench.abort(write));
    bench.shared.hold.store(false, Ordering::Relaxed);
    let data = alloc::vec![7; 64 * 512];
    let (completion, _) = bench.io.complete(&mut bench.world, &data);
    assert_eq!((completion.cid.get(), completion.status()), (write, Status::SUCCESS));
    bench.world.pass(Duration::from_secs(2));
    assert_eq!(bench.world.stats(0).commands, 0);
}
