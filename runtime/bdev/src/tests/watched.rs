//! What is looked at only if somebody asks: limits, histograms, queue depth.

use super::*;
use crate::null::{self, NullOptions};
use crate::vbdev::Vbdevs;
use crate::vbdev::delay::{self, Latencies};
use crate::{Access, Channel, HistogramShape, OpenError, QosLimits, SgList};

const MIB: u64 = 1 << 20;

struct World {
    cores: Cores,
    channels: Vec<Channel>,
}

impl World {
    /// A bdev on two cores that answers at once, or after so many microseconds.
    fn new(slow_us: u64) -> Self {
        let cores = Cores::new(2);
        let options = NullOptions { num_blocks: 4096, block_size: 512, ..Default::default() };
        null::create(&cores.registry, options).unwrap();
        let vbdevs = Vbdevs::of(&cores.core(0)).unwrap();
        vbdevs.create(delay::recipe("D", "Null0", Latencies::new([slow_us; 4]), None)).unwrap();
        let disk = cores.registry.open("D", Access::ReadWrite).unwrap();
        let channels = [0, 1].map(|core| disk.channel(&cores.core(core)).unwrap());
        Self { cores, channels: channels.into() }
    }

    fn io(&self, op: Op, blocks: u32) -> Io {
        let buf = self.cores.pool.alloc(blocks as usize * 512).unwrap();
        Io::with_data(op, 0, blocks, SgList::One(buf), 0)
    }

    /// Ios of both cores that are taken in so many rounds of a microsecond, each of which tries.
    fn pressed(&mut self, op: Op, blocks: u32, rounds: u32) -> u64 {
        let mut taken = 0;
        for _ in 0..rounds {
            for core in [0, 1] {
                let io = self.io(op, blocks);
                match self.channels[core].submit(io) {
                    Ok(()) => taken += 1,
                    Err(refused) => assert_eq!(refused.reason, RejectReason::QueueFull),
                }
                let _ = self.channels[core].poll(drop);
            }
            self.cores.round();
        }
        taken
    }

    fn poll(&mut self) {
        for channel in &mut self.channels {
            let _ = channel.poll(drop);
        }
    }

    fn limit(&self, limits: QosLimits) {
        assert!(self.cores.registry.set_qos_limits("D", limits));
    }
}

#[test]
fn reads_and_writes_are_limited_on_all_cores_together() {
    let mut world = World::new(0);
    world.limit(QosLimits { rw_ios: 20_000, ..Default::default() });
    let taken = world.pressed(Op::Read, 1, 10_000);
    assert!((195..=225).contains(&taken), "{taken} of 200 in 10 ms");
    let taken = world.pressed(Op::Write, 1, 10_000);
    assert!((195..=225).contains(&taken), "{taken} of 200 in 10 ms");
    world.limit(QosLimits::default());
    assert_eq!(world.pressed(Op::Read, 1, 1000), 2000, "and no longer");
}

#[test]
fn bytes_are_limited_by_direction_and_a_debt_is_paid() {
    let mut world = World::new(0);
    world.limit(QosLimits { read_bytes: 64 * MIB, write_bytes: 16 * MIB, ..Default::default() });
    // 64 KiB a millisecond and 16 KiB, in Ios of 64 KiB.
    let (reads, writes) =
        (world.pressed(Op::Read, 128, 20_000), world.pressed(Op::Write, 128, 20_000));
    assert!((19..=23).contains(&reads) && (5..=8).contains(&writes), "{reads} {writes}");
    let mut world = World::new(0);
    world.limit(QosLimits { rw_bytes: 32 * MIB, rw_ios: 1000, ..Default::default() });
    let taken = world.pressed(Op::Read, 128, 20_000);
    assert!((9..=13).contains(&taken), "the tighter one counts: {taken}");
}

#[test]
fn what_the_bdev_has_no_room_for_does_not_count() {
    let cores = Cores::new(1);
    Held::register(&cores.registry, "H", 2);
    let limits = QosLimits { rw_ios: 8000, ..Default::default() };
    assert!(cores.registry.set_qos_limits("H", limits));
    let disk = cores.registry.open("H", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&cores.core(0)).unwrap();
    let read = || {
        let buf = cores.pool.alloc(512).unwrap();
        Io::with_data(Op::Read, 0, 1, SgList::One(buf), 0)
    };
    let mut submit = || channel.submit(read()).is_ok();
    assert!(submit() && submit());
    assert!((0..50).all(|_| !submit()), "it is full");
    HeldQueues::of(&cores.core(0)).accepted.borrow_mut().clear();
    assert!(submit() && submit(), "of eight in a millisecond, two were taken");
}

#[test]
fn a_base_is_limited_also_for_what_stands_on_it() {
    let mut world = World::new(0);
    assert!(world.pressed(Op::Read, 1, 10) == 20);
    let limits = QosLimits { rw_ios: 20_000, ..Default::default() };
    assert!(world.cores.registry.set_qos_limits("Null0", limits));
    let taken = world.pressed(Op::Read, 1, 10_000);
    assert!((195..=240).contains(&taken), "{taken} of 200 in 10 ms");
    assert!(world.cores.registry.set_qos_limits("Null0", QosLimits::default()));
    assert_eq!(world.pressed(Op::Read, 1, 100), 200, "and no longer");
}

#[test]
fn what_is_no_read_or_write_is_not_limited() {
    let mut world = World::new(0);
    world.limit(QosLimits { rw_ios: 1000, ..Default::default() });
    for _ in 0..100 {
        world.channels[0].submit(Io::new(Op::Flush, 0, 0, 0)).unwrap();
    }
}

#[test]
fn latencies_are_counted_while_somebody_wants_to_know() {
    let mut world = World::new(40);
    let registry = Rc::clone(&world.cores.registry);
    let _ = world.pressed(Op::Read, 1, 3);
    let shape = HistogramShape::new(7, 0, u64::MAX, Some(Op::Read));
    registry.set_histogram("D", shape).unwrap();
    let run = |world: &mut World, op| {
        for core in [0, 1] {
            let io = world.io(op, 1);
            world.channels[core].submit(io).unwrap();
        }
        for _ in 0..100 {
            world.poll();
            world.cores.round();
        }
    };
    for _ in 0..5 {
        run(&mut world, Op::Read);
        run(&mut world, Op::Write);
    }
    let histogram = registry.histogram("D").unwrap();
    let (quick, all) = (histogram.below(32_768), histogram.below(u64::MAX));
    assert_eq!((quick, all), (0, 16), "with those that were under way");
    registry.set_histogram("D", None).unwrap();
    assert_eq!(registry.histogram("D"), None);
    assert_eq!(registry.set_histogram("X", None), Err(OpenError::NoSuchBdev));
}

#[test]
fn the_queue_depth_of_all_cores_is_looked_at_every_so_often() {
    let mut world = World::new(400);
    let (local, registry) = (world.cores.core(0), Rc::clone(&world.cores.registry));
    let asks = Rc::clone(&registry);
    local.clone().spawn("test", async move {
        assert!(asks.sample_depth(&local, "D", Duration::from_micros(10)).await);
    });
    (0..5).for_each(|_| world.cores.round());
    assert_eq!(registry.depth_stat("D").unwrap().depth, 0);
    for core in [0, 0, 1] {
        let io = world.io(Op::Read, 1);
        world.channels[core].submit(io).unwrap();
    }
    for _ in 0..1000 {
        world.poll();
        world.cores.round();
        if world.cores.now == Instant::from_ns(300_000) {
            assert_eq!(registry.depth_stat("D").unwrap().depth, 3);
        }
    }
    let stat = registry.depth_stat("D").unwrap();
    assert_eq!(stat.depth, 0);
    let busy = stat.busy.as_micros();
    assert!((380..=420).contains(&busy), "{stat:?}");
    assert!((busy * 3 - 60..=busy * 3).contains(&stat.weighted.as_micros()), "{stat:?}");
}

#[test]
fn an_io_that_takes_longer_than_its_descriptor_allows_is_told_once() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let [limited, free] = [(); 2].map(|()| cores.registry.open("disk", Access::ReadWrite).unwrap());
    limited.set_timeout(Some(Duration::from_micros(50)));
    assert_eq!(limited.timeout(), Some(Duration::from_micros(50)));
    assert_eq!(free.timeout(), None);
    let [mut watched, mut other] =
        [&limited, &free].map(|disk| disk.channel(&cores.core(0)).unwrap());
    let late = |channel: &mut Channel| {
        let mut late = Vec::new();
        channel.find_late(|io| late.push((io.op, io.lba, io.tag)));
        late
    };
    for tag in [1, 2] {
        watched.submit(Io::new(Op::Flush, tag, 0, tag)).unwrap();
        other.submit(Io::new(Op::Flush, 0, 0, tag)).unwrap();
    }
    HeldQueues::of(&cores.core(0)).end_one(Ok(()));
    let mut ended = Vec::new();
    let _ = watched.poll(|io| ended.push(io.tag));
    assert_eq!(ended, [1]);
    (0..40).for_each(|_| cores.round());
    watched.submit(Io::new(Op::WriteZeroes, 5, 1, 3)).unwrap();
    assert_eq!(late(&mut watched), [], "not yet");
    (0..20).for_each(|_| cores.round());
    assert_eq!(late(&mut watched), [(Op::Flush, 2, 2)]);
    assert_eq!(late(&mut watched), [], "it was told");
    (0..40).for_each(|_| cores.round());
    assert_eq!(late(&mut watched), [(Op::WriteZeroes, 5, 3)]);
    assert_eq!(late(&mut other), [], "nobody limits these");
    limited.set_timeout(None);
    watched.submit(Io::new(Op::Flush, 0, 0, 4)).unwrap();
    (0..100).for_each(|_| cores.round());
    assert_eq!(late(&mut watched), []);
}

#[test]
fn what_is_made_of_other_operations_can_be_late_as_well() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadWrite).unwrap();
    disk.set_timeout(Some(Duration::from_micros(5)));
    let mut channel = disk.channel(&cores.core(0)).unwrap();
    channel.submit(Io::copy(0, 10, 4, 9)).unwrap();
    (0..10).for_each(|_| cores.round());
    let mut late = Vec::new();
    channel.find_late(|io| late.push((io.op, io.tag)));
    assert_eq!(late, [(Op::Copy, 9)]);
    let queues = HeldQueues::of(&cores.core(0));
    for _ in 0..2 {
        queues.end_one(Ok(()));
        let _ = channel.poll(|_| {});
    }
    assert_eq!(channel.in_flight(), 0);
    drop((channel, disk));
    assert!(cores.registry.unregister("disk").is_ok());
}
