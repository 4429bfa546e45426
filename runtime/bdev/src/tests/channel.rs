use core::time::Duration;

use basalt_env::CoreId;

use super::{Cores, Held, HeldQueues};
use crate::{Access, Io, IoError, IoStat, Op, RejectReason, SgList, StatReset};

#[test]
fn latency_bytes_and_errors_are_counted_per_kind() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&cores.core(0)).unwrap();
    let queues = HeldQueues::of(&cores.core(0));
    cores.round();
    for rounds in [1, 5, 3] {
        let buf = cores.pool.alloc(1024).unwrap();
        channel.submit(Io::with_data(Op::Read, 0, 2, SgList::One(buf), 0)).unwrap();
        (0..rounds).for_each(|_| cores.round());
        queues.end_one(Ok(()));
        let _ = channel.poll(|_| {});
    }
    channel.submit(Io::new(Op::Flush, 0, 99, 0)).unwrap();
    queues.end_one(Ok(()));
    channel.submit(Io::new(Op::WriteZeroes, 0, 9, 0)).unwrap();
    queues.end_one(Err(IoError::Timeout));
    let _ = channel.poll(|_| {});

    let stat = disk.iostat();
    let read = stat.op(Op::Read);
    assert_eq!((read.ops, read.bytes, read.errors), (3, 3072, 0));
    let times = (read.latency_min_ns, read.latency_max_ns, read.latency_total_ns);
    assert_eq!(times, (Some(1_000), 5_000, 9_000));
    assert_eq!((stat.op(Op::Flush).ops, stat.op(Op::Flush).bytes), (1, 0));
    let zeroes = stat.op(Op::WriteZeroes);
    assert_eq!((zeroes.ops, zeroes.bytes, zeroes.errors), (0, 0, 1));
    assert_eq!((zeroes.latency_min_ns, zeroes.latency_max_ns), (None, 0));
    assert_eq!(stat.failures(), &[0, 0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn cores_are_counted_apart_merged_on_reading_and_reset_together() {
    let cores = Cores::new(2);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadWrite).unwrap();
    let mut channels = [0, 1].map(|core| disk.channel(&cores.core(core)).unwrap());
    let mut zero = |core: usize, blocks| {
        channels[core].submit(Io::new(Op::WriteZeroes, 0, blocks, 0)).unwrap();
        HeldQueues::of(&cores.core(core)).end_one(Ok(()));
        let _ = channels[core].poll(|_| {});
    };
    let bytes = || {
        let of = |core| cores.registry.iostat_of_core("disk", CoreId(core)).unwrap();
        let total = cores.registry.iostat("disk").unwrap();
        [of(0), of(1), total].map(|stat| stat.op(Op::WriteZeroes).bytes)
    };
    zero(0, 1);
    zero(1, 4);
    assert_eq!(bytes(), [512, 2048, 2560]);
    assert!(cores.registry.reset_iostat("disk", StatReset::All));
    assert_eq!(bytes(), [0, 0, 0]);
    zero(1, 3);
    assert_eq!(bytes(), [0, 1536, 1536]);
    assert!(!cores.registry.reset_iostat("disc", StatReset::All));
}

/// Bytes, errors, all failures, those of comparisons, and the latencies.
type Counts = (u64, u64, u64, u64, Option<u64>, u64);

fn counts(stat: &IoStat) -> Counts {
    let read = stat.op(Op::Read);
    let failures = stat.failures().iter().sum();
    let times = (read.latency_min_ns, read.latency_max_ns);
    (read.bytes, read.errors, failures, stat.miscompares(), times.0, times.1)
}

#[test]
fn latencies_and_errors_are_reset_apart_from_the_other_counters() {
    let mut cores = Cores::new(2);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadWrite).unwrap();
    let mut channels = [0, 1].map(|core| disk.channel(&cores.core(core)).unwrap());
    let mut read = |cores: &mut Cores, core: usize, rounds: u32, status| {
        let buf = cores.pool.alloc(512).unwrap();
        channels[core].submit(Io::with_data(Op::Read, 0, 1, SgList::One(buf), 0)).unwrap();
        (0..rounds).for_each(|_| cores.round());
        HeldQueues::of(&cores.core(core)).end_one(status);
        let _ = channels[core].poll(|_| {});
    };
    let differs = Err(IoError::Nvme { sct: 2, sc: 0x85, dnr: true });
    let registry = cores.registry.clone();
    let total = || counts(&registry.iostat("disk").unwrap());
    let first = || counts(&registry.iostat_of_core("disk", CoreId(0)).unwrap());
    cores.round();
    read(&mut cores, 0, 9, Ok(()));
    read(&mut cores, 0, 1, differs);
    read(&mut cores, 1, 2, Ok(()));
    read(&mut cores, 1, 1, Err(IoError::Removed));
    assert_eq!(total(), (1024, 2, 2, 1, Some(2_000), 9_000));

    // Neither core has counted since, and one of them does not for long.
    assert!(cores.registry.reset_iostat("disk", StatReset::Extremes));
    assert_eq!(total(), (1024, 2, 2, 1, None, 0));
    read(&mut cores, 1, 4, Ok(()));
    assert_eq!(total(), (1536, 2, 2, 1, Some(4_000), 4_000));
    assert!(cores.registry.reset_iostat("disk", StatReset::Errors));
    assert_eq!(total(), (1536, 0, 0, 0, Some(4_000), 4_000));
    assert_eq!(first(), (512, 0, 0, 0, None, 0));
    read(&mut cores, 0, 6, Ok(()));
    read(&mut cores, 0, 6, differs);
    assert_eq!(first(), (1024, 1, 1, 1, Some(6_000), 6_000));
    assert_eq!(total(), (2048, 1, 1, 1, Some(4_000), 6_000));

    // As many resets of one kind as of another do not look alike.
    for what in [StatReset::Errors, StatReset::Extremes, StatReset::All] {
        assert!(cores.registry.reset_iostat("disk", what));
    }
    assert_eq!((total(), first()), ((0, 0, 0, 0, None, 0), (0, 0, 0, 0, None, 0)));
    read(&mut cores, 0, 3, Ok(()));
    assert_eq!(total(), (512, 0, 0, 0, Some(3_000), 3_000));
    let [reads, _] = cores.registry.latencies("disk").unwrap();
    assert_eq!(reads.buckets().map(|(_, count)| count).take(64).sum::<u64>(), 1);
}

#[test]
fn a_read_only_descriptor_writes_nothing() {
    let cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadOnly).unwrap();
    let mut channel = disk.channel(&cores.core(0)).unwrap();
    for op in [Op::Write, Op::WriteZeroes, Op::Unmap] {
        let refused = channel.submit(Io::new(op, 0, 1, 5)).unwrap_err();
        assert_eq!((refused.reason, refused.io.tag), (RejectReason::Unsupported, 5));
        assert!(!disk.allows(op));
    }
    assert!(disk.allows(Op::Read) && disk.allows(Op::Flush));
    channel.submit(Io::new(Op::Flush, 0, 0, 0)).unwrap();
}

#[test]
fn after_a_removal_nothing_is_accepted_but_everything_comes_back() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&cores.core(0)).unwrap();
    channel.submit(Io::new(Op::Flush, 0, 0, 1)).unwrap();
    cores.registry.remove("disk").unwrap();
    let refused = channel.submit(Io::new(Op::Flush, 0, 0, 2)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Removed);
    cores.round();
    HeldQueues::of(&cores.core(0)).end_one(Err(IoError::Removed));
    let mut tags = alloc::vec![];
    let _ = channel.poll(|io| tags.push((io.tag, io.status)));
    assert_eq!(tags, [(1, Err(IoError::Removed))]);
    assert_eq!(channel.in_flight(), 0);
}

#[test]
fn time_that_stands_still_counts_as_no_latency() {
    let mut cores = Cores::new(1);
    Held::register(&cores.registry, "disk", 8);
    let disk = cores.registry.open("disk", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&cores.core(0)).unwrap();
    cores.now = cores.now + Duration::from_secs(5);
    cores.round();
    channel.submit(Io::new(Op::Flush, 0, 0, 1)).unwrap();
    HeldQueues::of(&cores.core(0)).end_one(Ok(()));
    let _ = channel.poll(|_| {});
    let flush = *disk.iostat().op(Op::Flush);
    assert_eq!((flush.ops, flush.latency_min_ns, flush.latency_max_ns), (1, Some(0), 0));
}
