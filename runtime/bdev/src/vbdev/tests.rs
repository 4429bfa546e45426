use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::delay::{self, Latencies, Latency};
use super::error::{self, Fault, Faults, Injection};
use super::split::{self, SplitOptions};
use super::{Made, Recipe, Vbdevs, passthru};
use crate::malloc::{self, MallocOptions};
use crate::null::{self, NullOptions};
use crate::suite::{self, Medium};
use crate::tests::Cores;
use crate::{
    Access, Channel, CreateError, Io, IoError, IoStatus, Op, OpenError, RegisterError,
    RejectReason, SgList,
};

pub(super) struct Rig {
    pub(super) cores: Cores,
    pub(super) vbdevs: Rc<Vbdevs>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let cores = Cores::new(2);
        let vbdevs = Vbdevs::of(&cores.core(0)).unwrap();
        Self { cores, vbdevs }
    }

    /// With a RAM disk `M` of so many blocks.
    fn with_disk(num_blocks: u64) -> Self {
        let rig = Self::new();
        rig.add_disk("M", num_blocks);
        rig
    }

    pub(super) fn add_disk(&self, name: &str, num_blocks: u64) {
        let name = Some(name.to_string());
        let options = MallocOptions { name, num_blocks, block_size: 512, ..Default::default() };
        malloc::create(&self.cores.registry, options).unwrap();
    }

    pub(super) fn create(&self, recipe: Recipe) -> Made {
        self.vbdevs.create(recipe).unwrap()
    }

    pub(super) fn passthru(&self, name: &str, base: &str) -> Made {
        self.create(passthru::recipe(name, base, None))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.cores.registry.list().iter().map(|bdev| bdev.info().name.clone()).collect()
    }

    pub(super) fn channel(&self, name: &str) -> Channel {
        let disk = self.cores.registry.open(name, Access::ReadWrite).unwrap();
        disk.channel(&self.cores.core(0)).unwrap()
    }

    pub(super) fn io(&self, op: Op, lba: u64, byte: u8, tag: u64) -> Io {
        let mut buf = self.cores.pool.alloc(512).unwrap();
        buf.as_mut_slice().fill(byte);
        Io::with_data(op, lba, 1, SgList::One(buf), tag)
    }

    /// What `channel` finishes in so many rounds of a microsecond: tag, status, first byte.
    pub(super) fn finished(
        &mut self,
        channel: &mut Channel,
        rounds: usize,
    ) -> Vec<(u64, IoStatus, u8)> {
        let mut ended = Vec::new();
        for _ in 0..rounds {
            let _ = channel.poll(|io| {
                let first = io.data.as_slice().first().map_or(0, |buf| buf.as_slice()[0]);
                ended.push((io.tag, io.status, first));
            });
            self.cores.round();
        }
        ended
    }
}

fn halves() -> SplitOptions {
    SplitOptions { count: 2, size_mib: 0 }
}

#[test]
fn every_module_and_a_tower_of_them_behave_like_any_bdev() {
    let mut rig = Rig::with_disk(400);
    rig.create(split::recipe("M", halves()));
    rig.passthru("P", "Mp0");
    rig.create(error::recipe("P", Faults::default(), None));
    let latencies = Latencies::new([1, 5, 2, 7]);
    rig.create(delay::recipe("Top", "EE_P", latencies, None));
    rig.passthru("Other", "Mp1");
    assert_eq!(rig.names(), ["M", "Mp0", "Mp1", "P", "EE_P", "Top", "Other"]);
    for name in ["Top", "Other"] {
        let disk = rig.cores.registry.open(name, Access::ReadWrite).unwrap();
        assert_eq!(disk.info().num_blocks.get(), 200);
        suite::run(&mut rig.cores, &disk, Medium::Keeps);
    }
    let reads = |name| rig.cores.registry.iostat(name).unwrap().op(Op::Read).ops;
    assert!(reads("Top") > 0, "each layer counts");
    assert_eq!(reads("P"), reads("Top"));
    assert_eq!(reads("M"), reads("Mp0") + reads("Mp1"));
}

#[test]
fn parts_of_a_split_lie_one_after_the_other() {
    let mut rig = Rig::with_disk(101);
    rig.create(split::recipe("M", SplitOptions { count: 4, size_mib: 0 }));
    for part in 0..4 {
        let name = alloc::format!("Mp{part}");
        assert_eq!(rig.cores.registry.get(&name).unwrap().info().num_blocks.get(), 25);
        let mut channel = rig.channel(&name);
        let io = rig.io(Op::Write, 24, part + 1, 0);
        channel.submit(io).unwrap();
        assert_eq!(rig.finished(&mut channel, 1).len(), 1);
        let beyond = rig.io(Op::Write, 25, 0xff, 0);
        assert_eq!(channel.submit(beyond).unwrap_err().reason, RejectReason::OutOfRange);
    }
    let disk = rig.cores.registry.open("M", Access::ReadOnly).unwrap();
    let mut base = disk.channel(&rig.cores.core(0)).unwrap();
    for part in 0..4 {
        base.submit(rig.io(Op::Read, u64::from(part) * 25 + 24, 0, 0)).unwrap();
        assert_eq!(rig.finished(&mut base, 1), [(0, Ok(()), part + 1)]);
    }
}

#[test]
fn a_split_makes_as_many_parts_as_there_is_room_for() {
    let rig = Rig::with_disk(3 * 2048 - 1);
    let made = rig.create(split::recipe("M", SplitOptions { count: 9, size_mib: 1 }));
    assert_eq!(made, Made::Now(["Mp0", "Mp1"].map(String::from).to_vec()));
    rig.add_disk("Small", 100);
    for options in [SplitOptions { count: 1, size_mib: 1 }, SplitOptions { count: 0, size_mib: 0 }]
    {
        let refused = rig.vbdevs.create(split::recipe("Small", options));
        assert_eq!(refused, Err(CreateError::NoBlocks));
    }
    assert!(!rig.cores.registry.is_claimed("Small"), "nothing of it is left");
}

#[test]
fn a_base_is_claimed_for_one_bdev_alone() {
    let rig = Rig::with_disk(100);
    rig.passthru("P", "M");
    assert!(rig.cores.registry.is_claimed("M"));
    let second = rig.vbdevs.create(passthru::recipe("Q", "M", None));
    assert_eq!(second, Err(CreateError::Base(OpenError::Claimed)));
    let same_name = rig.vbdevs.create(passthru::recipe("P", "none", None));
    assert_eq!(same_name, Err(CreateError::Register(RegisterError::NameTaken)));
    rig.vbdevs.delete(passthru::PRODUCT_NAME, "P").unwrap();
    assert!(!rig.cores.registry.is_claimed("M"));
    rig.passthru("Q", "M");
    assert!(rig.vbdevs.delete("delay", "Q").is_err(), "of another kind");
}

#[test]
fn the_order_of_creation_does_not_matter() {
    let rig = Rig::new();
    assert_eq!(rig.passthru("Top", "Mp1"), Made::Later);
    assert_eq!(rig.create(split::recipe("M", halves())), Made::Later);
    assert_eq!(rig.names(), [""; 0]);
    rig.add_disk("M", 100);
    assert_eq!(rig.names(), ["M", "Mp0", "Mp1", "Top"]);
}

#[test]
fn what_stands_on_a_bdev_goes_and_comes_with_it_under_its_own_uuid() {
    let mut rig = Rig::with_disk(100);
    rig.create(split::recipe("M", halves()));
    rig.passthru("Top", "Mp0");
    let uuid = rig.cores.registry.get("Top").unwrap().info().uuid;
    let base_uuid = rig.cores.registry.get("M").unwrap().info().uuid;
    let mut channel = rig.channel("Top");
    let io = rig.io(Op::Write, 0, 1, 5);
    channel.submit(io).unwrap();
    rig.cores.registry.remove("M").unwrap();
    assert_eq!(rig.names(), [""; 0]);
    assert_eq!(rig.finished(&mut channel, 2).len(), 1, "what was under way still ends");
    let late = rig.io(Op::Write, 0, 1, 6);
    assert_eq!(channel.submit(late).unwrap_err().reason, RejectReason::Removed);
    drop(channel);
    let options = MallocOptions {
        name: Some("M".to_string()),
        num_blocks: 100,
        block_size: 512,
        uuid: Some(base_uuid),
        ..Default::default()
    };
    malloc::create(&rig.cores.registry, options).unwrap();
    let mut names = rig.names();
    names.sort();
    assert_eq!(names, ["M", "Mp0", "Mp1", "Top"]);
    assert_eq!(rig.cores.registry.get("Top").unwrap().info().uuid, uuid);
}

#[test]
fn a_deleted_bdev_takes_along_what_stands_on_it_and_does_not_come_back() {
    let rig = Rig::with_disk(100);
    rig.passthru("P", "M");
    rig.passthru("Q", "P");
    rig.vbdevs.delete(passthru::PRODUCT_NAME, "P").unwrap();
    assert_eq!(rig.names(), ["M"]);
    rig.passthru("P", "M");
    assert_eq!(rig.names(), ["M", "P", "Q"], "Q still waits for its base");
}

#[test]
fn a_delayed_io_ends_after_its_time_and_the_times_can_be_changed() {
    let mut rig = Rig::with_disk(100);
    let latencies = Latencies::new([50, 50, 20, 20]);
    rig.create(delay::recipe("D", "M", latencies.clone(), None));
    let mut channel = rig.channel("D");
    for (tag, op) in [(1, Op::Read), (2, Op::Write)] {
        let io = rig.io(op, tag, 0, tag);
        channel.submit(io).unwrap();
    }
    channel.submit(Io::new(Op::Flush, 0, 0, 3)).unwrap();
    let ended = |rig: &mut Rig, channel: &mut Channel, rounds| -> Vec<u64> {
        rig.finished(channel, rounds).into_iter().map(|(tag, ..)| tag).collect()
    };
    assert_eq!(ended(&mut rig, &mut channel, 2), [3], "only reads and writes are held back");
    assert_eq!(ended(&mut rig, &mut channel, 16), [0; 0]);
    assert_eq!(ended(&mut rig, &mut channel, 4), [2]);
    assert_eq!(ended(&mut rig, &mut channel, 26), [0; 0]);
    assert_eq!(ended(&mut rig, &mut channel, 4), [1]);
    let stat = rig.cores.registry.iostat("D").unwrap();
    let total = Duration::from_nanos(stat.op(Op::Read).latency_total_ns);
    assert!(total >= Duration::from_micros(50), "the delay is counted: {total:?}");
    latencies.set_us(Latency::AvgRead, 0);
    latencies.set_us(Latency::P99Read, 0);
    let io = rig.io(Op::Read, 0, 0, 9);
    channel.submit(io).unwrap();
    assert_eq!(ended(&mut rig, &mut channel, 1), [9]);
}

#[test]
fn one_io_in_a_hundred_or_so_takes_the_time_of_the_tail() {
    let mut rig = Rig::with_disk(100);
    rig.create(delay::recipe("D", "M", Latencies::new([0, 10, 0, 0]), None));
    let mut channel = rig.channel("D");
    let mut at_once = 0;
    for _ in 0..2_000 {
        let io = rig.io(Op::Read, 0, 0, 0);
        channel.submit(io).unwrap();
        at_once += rig.finished(&mut channel, 1).len();
        rig.finished(&mut channel, 12);
    }
    assert!((1_950..=1_995).contains(&at_once), "{at_once} of 2,000");
}

#[test]
fn faults_befall_so_many_operations_as_they_were_injected_for() {
    let mut rig = Rig::with_disk(100);
    let faults = Faults::default();
    rig.create(error::recipe("M", faults.clone(), None));
    let mut channel = rig.channel("EE_M");
    let inject = |op, fault, count| {
        faults.inject(op, Injection { fault, count, queue_depth: 0 });
    };
    inject(Op::Read, Fault::NvmeFailure { sct: 2, sc: 0x81 }, 2);
    inject(Op::Write, Fault::Failure, 1);
    for (tag, op) in [(1, Op::Read), (2, Op::Write), (3, Op::Read), (4, Op::Read), (5, Op::Write)] {
        let io = rig.io(op, 0, 7, tag);
        channel.submit(io).unwrap();
    }
    let mut ended = rig.finished(&mut channel, 2);
    ended.sort_by_key(|(tag, ..)| *tag);
    let media = Err(IoError::Nvme { sct: 2, sc: 0x81, dnr: false });
    let internal = Err(IoError::Nvme { sct: 0, sc: 6, dnr: false });
    let statuses: Vec<_> = ended.iter().map(|(tag, status, _)| (*tag, *status)).collect();
    assert_eq!(statuses, [(1, media), (2, internal), (3, media), (4, Ok(())), (5, Ok(()))]);

    inject(Op::Flush, Fault::NoMemory, 1);
    let flush = Io::new(Op::Flush, 0, 0, 0);
    let refused = channel.submit(flush).unwrap_err();
    assert_eq!(refused.reason, RejectReason::QueueFull);
    channel.submit(refused.io).unwrap();
    inject(Op::Unmap, Fault::Failure, 5);
    faults.clear();
    channel.submit(Io::new(Op::Unmap, 0, 1, 0)).unwrap();
    assert!(rig.finished(&mut channel, 1).iter().all(|(_, status, _)| status.is_ok()));
}

#[test]
fn corruption_changes_one_byte_of_what_is_read_or_written_and_no_other() {
    let mut rig = Rig::with_disk(100);
    let faults = Faults::default();
    rig.create(error::recipe("M", faults.clone(), None));
    let mut channel = rig.channel("EE_M");
    let corrupt = |op| {
        let fault = Fault::CorruptData { offset: 0, value: 0x0f };
        faults.inject(op, Injection { fault, count: 1, queue_depth: 0 });
    };
    let mut step = |op, byte| {
        channel.submit(rig.io(op, 3, byte, 0)).unwrap();
        rig.finished(&mut channel, 1)[0].2
    };
    corrupt(Op::Write);
    assert_eq!(step(Op::Write, 0x55), 0x55, "the writer's data is as it was");
    assert_eq!(step(Op::Read, 0), 0x5a);
    step(Op::Write, 0x55);
    corrupt(Op::Read);
    assert_eq!(step(Op::Read, 0), 0x5a);
    assert_eq!(step(Op::Read, 0), 0x55);
}

#[test]
fn a_reset_ends_what_is_pending() {
    let mut rig = Rig::with_disk(100);
    let faults = Faults::default();
    rig.create(error::recipe("M", faults.clone(), None));
    rig.passthru("P", "EE_M");
    let mut channels = [rig.channel("P"), rig.channel("P")];
    faults.inject(Op::Read, Injection { fault: Fault::Pending, count: 2, queue_depth: 0 });
    for channel in &mut channels {
        channel.submit(rig.io(Op::Read, 0, 0, 1)).unwrap();
    }
    assert_eq!(rig.finished(&mut channels[0], 20), []);
    channels[1].submit(Io::new(Op::Reset, 0, 0, 2)).unwrap();
    let mut ended = Vec::new();
    for _ in 0..50 {
        for channel in &mut channels {
            let _ = channel.poll(|io| ended.push((io.tag, io.status)));
        }
        rig.cores.round();
    }
    let aborted = (1, Err(IoError::Aborted));
    assert_eq!(ended, [aborted, aborted, (2, Ok(()))]);
}

#[test]
fn what_is_pending_on_any_channel_is_carried_out_once_it_may_go_on() {
    let mut rig = Rig::with_disk(100);
    let faults = Faults::default();
    rig.create(error::recipe("M", faults.clone(), None));
    let mut channels = [rig.channel("EE_M"), rig.channel("EE_M")];
    faults.inject(Op::Read, Injection { fault: Fault::Pending, count: 3, queue_depth: 0 });
    for (channel, tag) in [(0, 1), (0, 2), (1, 3)] {
        channels[channel].submit(rig.io(Op::Read, 0, 0, tag)).unwrap();
    }
    for channel in &mut channels {
        assert_eq!(rig.finished(channel, 20), []);
    }
    faults.resume_pending();
    let mut ended = Vec::new();
    for channel in &mut channels {
        ended.extend(rig.finished(channel, 20).iter().map(|(tag, status, ..)| (*tag, *status)));
    }
    ended.sort_by_key(|(tag, _)| *tag);
    assert_eq!(ended, [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
    // What becomes pending after that waits for the next time.
    faults.inject(Op::Read, Injection { fault: Fault::Pending, count: 1, queue_depth: 0 });
    channels[0].submit(rig.io(Op::Read, 0, 0, 4)).unwrap();
    assert_eq!(rig.finished(&mut channels[0], 20), []);
}

#[test]
fn a_pending_io_never_ends_and_faults_may_wait_for_a_queue_to_form() {
    let mut rig = Rig::with_disk(100);
    let faults = Faults::default();
    rig.create(error::recipe("M", faults.clone(), None));
    let mut channel = rig.channel("EE_M");
    faults.inject(Op::Read, Injection { fault: Fault::Pending, count: 1, queue_depth: 2 });
    for tag in 1..=4 {
        let io = rig.io(Op::Read, 0, 0, tag);
        channel.submit(io).unwrap();
    }
    let ended: Vec<_> = rig.finished(&mut channel, 10).iter().map(|(tag, ..)| *tag).collect();
    assert_eq!(ended, [1, 2, 4]);
    assert_eq!(channel.in_flight(), 1);
    drop(channel);
    rig.vbdevs.delete(error::PRODUCT_NAME, "EE_M").unwrap();
    assert!(!rig.cores.registry.is_claimed("M"));
}

#[test]
fn what_stands_on_a_bdev_grows_with_it_and_open_channels_reach_the_new_end() {
    let mut rig = Rig::new();
    let options = NullOptions {
        name: Some("N".to_string()),
        num_blocks: 100,
        block_size: 512,
        ..NullOptions::default()
    };
    null::create(&rig.cores.registry, options).unwrap();
    rig.passthru("P", "N");
    rig.create(error::recipe("P", Faults::default(), None));
    let mut channel = rig.channel("EE_P");
    let beyond = rig.io(Op::Write, 150, 0, 0);
    assert_eq!(channel.submit(beyond).unwrap_err().reason, RejectReason::OutOfRange);
    rig.cores.registry.resize("N", 200).unwrap();
    let size = |name| rig.cores.registry.get(name).unwrap().info().num_blocks.get();
    assert_eq!(["N", "P", "EE_P"].map(size), [200; 3]);
    channel.submit(rig.io(Op::Write, 150, 0, 0)).unwrap();
    assert_eq!(rig.finished(&mut channel, 1), [(0, Ok(()), 0)]);
    rig.cores.registry.has_size("N", 50).unwrap();
    let beyond = rig.io(Op::Write, 50, 0, 0);
    assert_eq!(channel.submit(beyond).unwrap_err().reason, RejectReason::OutOfRange);
}
