//! Operations that keep others away, on two cores.

use core::time::Duration;

use super::*;
use crate::malloc::{self, MallocOptions};
use crate::vbdev::Vbdevs;
use crate::vbdev::delay::{self, Latencies};
use crate::{Access, Channel, Descriptor, IoError, IoStatus, SgList};

/// A slow RAM disk, with a channel on each of two cores.
struct World {
    cores: Cores,
    disk: Descriptor,
    channels: Vec<Channel>,
}

/// How long it takes to read or write.
const SLOW: u64 = 50;

impl World {
    fn new() -> Self {
        let cores = Cores::new(2);
        let options = MallocOptions { num_blocks: 64, block_size: 512, ..Default::default() };
        malloc::create(&cores.registry, options).unwrap();
        let vbdevs = Vbdevs::of(&cores.core(0)).unwrap();
        let slow = Latencies::new([SLOW; 4]);
        vbdevs.create(delay::recipe("Slow", "Malloc0", slow, None)).unwrap();
        Self::over(cores, "Slow")
    }

    fn over(cores: Cores, name: &str) -> Self {
        let disk = cores.registry.open(name, Access::ReadWrite).unwrap();
        let channels = [0, 1].map(|core| disk.channel(&cores.core(core)).unwrap());
        Self { cores, disk, channels: channels.into() }
    }

    fn io(&self, op: Op, lba: u64, bytes: &[u8]) -> Io {
        let buf = |byte: &u8| {
            let mut buf = self.cores.pool.alloc(512).unwrap();
            buf.as_mut_slice().fill(*byte);
            buf
        };
        Io::with_data(op, lba, 1, SgList::Many(bytes.iter().map(buf).collect()), lba)
    }

    fn submit(&mut self, core: usize, io: Io) -> Result<(), RejectReason> {
        self.channels[core].submit(io).map_err(|refused| refused.reason)
    }

    /// What ends on either core in so many rounds of a microsecond.
    fn run(&mut self, rounds: u64) -> Vec<(usize, Op, IoStatus)> {
        let mut ended = Vec::new();
        for _ in 0..rounds {
            for (core, channel) in self.channels.iter_mut().enumerate() {
                let _ = channel.poll(|io| ended.push((core, io.op, io.status)));
            }
            self.cores.round();
        }
        ended
    }
}

#[test]
fn a_compare_and_write_sees_what_was_written_before_it_on_another_core() {
    let mut world = World::new();
    let write = world.io(Op::Write, 5, &[7]);
    world.submit(1, write).unwrap();
    let swap = world.io(Op::CompareAndWrite, 5, &[7, 8]);
    world.submit(0, swap).unwrap();
    let ended = world.run(4 * SLOW);
    assert_eq!(ended, [(1, Op::Write, Ok(())), (0, Op::CompareAndWrite, Ok(()))]);
}

#[test]
fn while_one_compares_and_writes_nobody_else_changes_its_blocks() {
    let mut world = World::new();
    let swap = world.io(Op::CompareAndWrite, 5, &[0, 1]);
    world.submit(0, swap).unwrap();
    assert_eq!(world.run(10), []);
    for core in [0, 1] {
        for op in [Op::Write, Op::WriteZeroes, Op::Unmap] {
            let io = Io { data: SgList::Empty, ..world.io(op, 5, &[]) };
            let io = if op == Op::Write { world.io(op, 5, &[9]) } else { io };
            assert_eq!(world.submit(core, io), Err(RejectReason::QueueFull), "{op:?}");
        }
        let (elsewhere, read) = (world.io(Op::Write, 6, &[9]), world.io(Op::Read, 5, &[0]));
        assert_eq!(world.submit(core, elsewhere), Ok(()));
        assert_eq!(world.submit(core, read), Ok(()));
    }
    let other = world.io(Op::CompareAndWrite, 5, &[1, 2]);
    assert_eq!(world.submit(1, other), Ok(()), "it waits for its turn");
    let ended = world.run(10 * SLOW);
    let swaps = ended.iter().filter(|(_, op, _)| *op == Op::CompareAndWrite);
    assert!(swaps.eq(&[(0, Op::CompareAndWrite, Ok(())), (1, Op::CompareAndWrite, Ok(()))]));
    assert_eq!(ended.len(), 6);
    let write = world.io(Op::Write, 5, &[9]);
    assert_eq!(world.submit(1, write), Ok(()), "and then it is over");
}

#[test]
fn a_reset_waits_for_all_cores_and_keeps_them_away() {
    let mut world = World::new();
    let writes = [world.io(Op::Write, 1, &[1]), world.io(Op::Write, 2, &[2])];
    for (core, write) in writes.into_iter().enumerate() {
        world.submit(core, write).unwrap();
    }
    world.submit(0, Io::new(Op::Reset, 0, 0, 0)).unwrap();
    assert_eq!(world.run(10), []);
    for core in [0, 1] {
        let read = world.io(Op::Read, 5, &[0]);
        assert_eq!(world.submit(core, read), Err(RejectReason::QueueFull));
    }
    let ended = world.run(2 * SLOW);
    assert_eq!(ended.len(), 3);
    assert_eq!(ended[2], (0, Op::Reset, Ok(())), "{ended:?}");
    let read = world.io(Op::Read, 5, &[0]);
    assert_eq!(world.submit(1, read), Ok(()));
    assert_eq!(world.disk.iostat().op(Op::Reset).ops, 1);
}

#[test]
fn a_channel_that_is_dropped_lets_go() {
    let mut world = World::new();
    let swap = world.io(Op::CompareAndWrite, 5, &[0, 1]);
    world.submit(0, swap).unwrap();
    assert_eq!(world.run(10), []);
    world.channels.remove(0);
    let write = world.io(Op::Write, 5, &[9]);
    assert_eq!(world.submit(0, write), Ok(()));
    assert_eq!(world.run(2 * SLOW), [(0, Op::Write, Ok(()))]);
}

#[test]
fn a_bdev_that_does_not_answer_is_given_up_and_others_may_go_on() {
    let cores = Cores::new(2);
    Held::register(&cores.registry, "Held", 8);
    let mut world = World::over(cores, "Held");
    let write = world.io(Op::Write, 5, &[1]);
    world.submit(1, write).unwrap();
    world.submit(0, Io::new(Op::Reset, 0, 0, 0)).unwrap();
    assert_eq!(world.run(100), []);
    world.cores.now = world.cores.now + Duration::from_secs(31);
    assert_eq!(world.run(10), [(0, Op::Reset, Err(IoError::Timeout))]);
    let read = world.io(Op::Read, 5, &[1]);
    assert_eq!(world.submit(0, read), Ok(()));
}

#[test]
fn a_hold_that_is_over_is_not_taken_for_the_next() {
    let cores = Cores::new(2);
    Held::register(&cores.registry, "Held", 8);
    let mut world = World::over(cores, "Held");
    let write = world.io(Op::Write, 5, &[1]);
    world.submit(1, write).unwrap();
    world.submit(0, Io::new(Op::Reset, 0, 0, 0)).unwrap();
    assert_eq!(world.run(20), []);
    // Its holder goes, and another one comes before the core has looked again.
    let disk = world.disk.clone();
    world.channels[0] = disk.channel(&world.cores.core(0)).unwrap();
    world.submit(0, Io::new(Op::Reset, 0, 0, 0)).unwrap();
    assert_eq!(world.run(50), []);
    HeldQueues::of(&world.cores.core(1)).end_one(Ok(()));
    let ended = world.run(100);
    assert_eq!(ended, [(1, Op::Write, Ok(())), (0, Op::Reset, Ok(()))]);
}

#[test]
fn a_bdev_that_goes_meanwhile_ends_it() {
    let mut world = World::new();
    let write = world.io(Op::Write, 5, &[7]);
    world.submit(1, write).unwrap();
    let swap = world.io(Op::CompareAndWrite, 5, &[7, 8]);
    world.submit(0, swap).unwrap();
    let _ = world.run(10);
    world.cores.registry.remove("Slow").unwrap();
    let read = world.io(Op::Read, 5, &[0]);
    assert_eq!(world.submit(1, read), Err(RejectReason::Removed));
    assert_eq!(world.run(4 * SLOW).len(), 2, "what was taken comes back");
    world.channels.clear();
}
