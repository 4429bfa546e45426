use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::ProcessOptions;
use crate::suite::{self, Medium};
use crate::vbdev::delay::{self, Latencies};
use crate::vbdev::error::{self, Fault, Faults, Injection};
use crate::vbdev::raid::{ChangeError, Level, Raid, RaidOptions, recipe};
use crate::vbdev::tests::Rig;
use crate::{Access, CreateError, IoError, IoStatus, Op};

pub(super) const BLOCKS: u64 = 256;

fn options(bases: &[&str]) -> RaidOptions {
    let bases = bases.iter().map(ToString::to_string).collect();
    RaidOptions { name: "R".into(), level: Level::Raid1, strip_size_kib: 0, bases, uuid: None }
}

/// Disks of `BLOCKS` blocks each, each under an error bdev, and a raid bdev of those in `bases`.
pub(super) struct World {
    pub(super) rig: Rig,
    pub(super) faults: Vec<Faults>,
}

const DISKS: [&str; 4] = ["A", "B", "C", "D"];

impl World {
    fn new(bases: &[&str]) -> Self {
        Self::of(options(bases))
    }

    pub(super) fn of(options: RaidOptions) -> Self {
        let rig = Rig::new();
        let faulty = |name: &&str| {
            rig.add_disk(name, BLOCKS);
            let faults = Faults::default();
            rig.create(error::recipe(name, faults.clone(), None));
            faults
        };
        let faults = DISKS.iter().map(faulty).collect();
        rig.create(recipe(options));
        Self { rig, faults }
    }

    pub(super) fn fail(&self, disk: usize, op: Op, count: u32) {
        let fault = Fault::NvmeFailure { sct: 2, sc: 0x81 };
        self.faults[disk].inject(op, Injection { fault, count, queue_depth: 0 });
    }

    pub(super) fn raid(&self) -> Raid {
        self.rig.vbdevs.handle("R").unwrap()
    }

    pub(super) fn add(&self, name: &str) -> Result<(), ChangeError> {
        self.raid().add_base(&self.rig.cores.core(0), &self.rig.cores.registry, name)
    }

    pub(super) fn shows(&self, text: &str) -> bool {
        self.raid().describe(&self.rig.cores.registry).contains(text)
    }

    /// One operation on the mirror, to its end.
    pub(super) fn run(&mut self, op: Op, lba: u64, byte: u8) -> (IoStatus, u8) {
        let mut channel = self.rig.channel("R");
        channel.submit(self.rig.io(op, lba, byte, 0)).unwrap();
        let ended = self.rig.finished(&mut channel, 3);
        let [(_, status, byte)] = ended[..] else { panic!("{ended:?}") };
        (status, byte)
    }

    /// The first byte of a block of a disk itself.
    pub(super) fn on_disk(&mut self, disk: &str, lba: u64) -> u8 {
        let disk = self.rig.cores.registry.open(disk, Access::ReadOnly).unwrap();
        let mut channel = disk.channel(&self.rig.cores.core(0)).unwrap();
        channel.submit(self.rig.io(Op::Read, lba, 0xee, 0)).unwrap();
        self.rig.finished(&mut channel, 1)[0].2
    }

    pub(super) fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| self.rig.cores.round());
    }

    pub(super) fn finish_rebuild(&mut self) {
        for _ in 0..100_000 {
            if !self.shows("process") {
                return;
            }
            self.rig.cores.round();
        }
        panic!("the rebuild hangs: {}", self.raid().describe(&self.rig.cores.registry));
    }
}

#[test]
fn a_mirror_behaves_like_any_bdev_and_puts_all_on_every_base() {
    let mut world = World::new(&["EE_A", "EE_B", "EE_C"]);
    world.rig.passthru("Top", "R");
    let disk = world.rig.cores.registry.open("Top", Access::ReadWrite).unwrap();
    let before = world.rig.cores.pool.stats();
    suite::run(&mut world.rig.cores, &disk, Medium::Keeps);
    assert_eq!(world.rig.cores.pool.stats(), before, "all memory is back");
    for lba in 0..BLOCKS {
        let [first, second, third] = ["A", "B", "C"].map(|disk| world.on_disk(disk, lba));
        assert!(first == second && second == third, "block {lba}");
    }
}

#[test]
fn reads_go_to_the_base_with_the_least_to_do() {
    let world = World::new(&["EE_A", "EE_B"]);
    let mut channel = world.rig.channel("R");
    for tag in 0..10 {
        channel.submit(world.rig.io(Op::Read, tag, 0, tag)).unwrap();
    }
    let reads = |name| {
        let _ = channel.poll(drop);
        world.rig.cores.registry.iostat(name).unwrap().op(Op::Read).ops
    };
    assert_eq!(["EE_A", "EE_B"].map(reads), [5, 5]);
}

#[test]
fn a_read_that_fails_on_one_base_is_made_on_another() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.run(Op::Write, 7, 9).0.unwrap();
    for disk in [0, 1] {
        world.fail(disk, Op::Read, 2);
        for _ in 0..4 {
            assert_eq!(world.run(Op::Read, 7, 0), (Ok(()), 9));
        }
        world.faults[disk].clear();
    }
    world.fail(0, Op::Read, 9);
    world.fail(1, Op::Read, 9);
    assert!(matches!(world.run(Op::Read, 7, 0).0, Err(IoError::Nvme { sc: 0x81, .. })));
    assert!(world.shows("\"num_base_bdevs_discovered\":2"), "nothing is lost by reading");
}

#[test]
fn a_base_that_fails_a_write_is_left_out_and_the_last_one_is_not() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.run(Op::Write, 7, 1).0.unwrap();
    world.fail(0, Op::Write, 1);
    assert_eq!(world.run(Op::Write, 7, 2).0, Ok(()));
    assert!(world.shows("\"name\":null"), "{}", world.raid().describe(&world.rig.cores.registry));
    assert_eq!(world.raid().bases(), ["EE_B"]);
    assert!(!world.rig.cores.registry.is_claimed("EE_A"), "it may be used otherwise");
    for _ in 0..4 {
        assert_eq!(world.run(Op::Read, 7, 0), (Ok(()), 2), "what is old is not read");
    }
    assert_eq!(["A", "B"].map(|disk| world.on_disk(disk, 7)), [1, 2]);
    world.fail(1, Op::Write, 1);
    assert!(world.run(Op::Write, 7, 3).0.is_err());
    assert_eq!(world.run(Op::Write, 7, 4).0, Ok(()), "it is still there");
    let nothing = world.raid().remove_base("EE_B");
    assert_eq!(nothing, Err(ChangeError::LastBase));
}

#[test]
fn a_write_that_all_bases_fail_has_failed_and_leaves_out_none() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.fail(0, Op::Write, 1);
    world.fail(1, Op::Write, 1);
    assert!(world.run(Op::Write, 7, 2).0.is_err());
    assert_eq!(world.raid().bases(), ["EE_A", "EE_B"]);
}

#[test]
fn writes_that_fail_on_different_bases_are_not_both_well() {
    let world = World::new(&["EE_A", "EE_B"]);
    let mut channel = world.rig.channel("R");
    world.fail(0, Op::Write, 1);
    channel.submit(world.rig.io(Op::Write, 1, 1, 1)).unwrap();
    world.faults[0].clear();
    world.fail(1, Op::Write, 1);
    channel.submit(world.rig.io(Op::Write, 2, 2, 2)).unwrap();
    let mut ended = Vec::new();
    let _ = channel.poll(|io| ended.push((io.tag, io.status.is_ok())));
    let well = ended.iter().filter(|(_, well)| *well).count();
    assert_eq!((ended.len(), well), (2, 1), "only what the base that is left has: {ended:?}");
}

#[test]
fn a_mirror_outlives_all_bases_but_the_last() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.run(Op::Write, 3, 5).0.unwrap();
    let mut channel = world.rig.channel("R");
    world.rig.cores.registry.remove("A").unwrap();
    assert_eq!(world.raid().bases(), ["EE_B"]);
    channel.submit(world.rig.io(Op::Read, 3, 0, 1)).unwrap();
    assert_eq!(world.rig.finished(&mut channel, 2), [(1, Ok(()), 5)]);
    world.rig.cores.registry.remove("B").unwrap();
    assert!(world.rig.cores.registry.get("R").is_none());
    // The first to come back has not what was written meanwhile.
    world.rig.add_disk("A", BLOCKS);
    assert!(world.rig.cores.registry.get("R").is_none());
    world.rig.add_disk("B", BLOCKS);
    assert_eq!(world.raid().bases(), ["EE_B"], "and is not taken for a base that has");
    assert!(world.rig.cores.registry.get("R").is_some());
}

#[test]
fn a_new_base_gets_all_blocks_while_they_are_read_and_written() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    for lba in 0..BLOCKS {
        assert_eq!(world.run(Op::Write, lba, lba as u8).0, Ok(()));
    }
    assert_eq!(world.raid().remove_base("EE_A"), Ok(()));
    let options = ProcessOptions::of(&world.rig.cores.core(0));
    options.window_size_kib.set(4);
    assert_eq!(world.add("EE_C"), Ok(()));
    assert!(world.shows("\"target\":\"EE_C\""), "it is shown");
    let mut expected: Vec<u8> = (0..BLOCKS).map(|lba| lba as u8).collect();
    // From both cores, all over the bdev, until it is done.
    let disk = world.rig.cores.registry.open("R", Access::ReadWrite).unwrap();
    let mut channels = [0, 1].map(|core| disk.channel(&world.rig.cores.core(core)).unwrap());
    let (mut random, mut held) = (1_u32, 0);
    for turn in 0..20_000_u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (lba, byte) = (u64::from(random >> 8) % BLOCKS, (random >> 24) as u8);
        let channel = &mut channels[turn as usize % 2];
        let op = if turn % 3 == 0 { Op::Read } else { Op::Write };
        match channel.submit(world.rig.io(op, lba, byte, lba)) {
            Ok(()) if op == Op::Write => expected[lba as usize] = byte,
            Ok(()) => {}
            Err(refused) => {
                assert_eq!(refused.reason, crate::RejectReason::QueueFull);
                held += 1;
            }
        }
        let _ = channel.poll(|io| {
            assert_eq!(io.status, Ok(()));
            if io.op == Op::Read {
                assert_eq!(io.data.as_slice()[0].as_slice()[0], expected[io.tag as usize]);
            }
        });
        if turn % 7 == 0 {
            world.rig.cores.round();
        }
        if !world.shows("process") {
            break;
        }
    }
    drop((channels, disk));
    world.finish_rebuild();
    assert!(held > 0, "some writes had to wait for the window to pass");
    assert_eq!(world.raid().bases(), ["EE_C", "EE_B"]);
    for lba in 0..BLOCKS {
        let expected = expected[lba as usize];
        assert_eq!(["B", "C"].map(|disk| world.on_disk(disk, lba)), [expected; 2], "block {lba}");
    }
    // It is read from the new base alone now.
    assert_eq!(world.raid().remove_base("EE_B"), Ok(()));
    assert_eq!(world.run(Op::Read, 200, 0), (Ok(()), expected[200]));
}

#[test]
fn a_write_from_before_is_waited_for_before_its_blocks_are_copied() {
    let mut world = World::new(&["EE_B"]);
    world.rig.create(delay::recipe("Slow", "EE_A", Latencies::new([0, 0, 500, 500]), None));
    world.rig.vbdevs.delete(super::PRODUCT_NAME, "R").unwrap();
    world.rig.create(recipe(options(&["Slow", "EE_C"])));
    world.raid().remove_base("EE_C").unwrap();
    let disk = world.rig.cores.registry.open("R", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&world.rig.cores.core(1)).unwrap();
    channel.submit(world.rig.io(Op::Write, 9, 77, 0)).unwrap();
    assert_eq!(world.add("EE_C"), Ok(()));
    world.rounds(100);
    assert!(world.shows("\"blocks\":0"), "nothing is copied yet");
    for _ in 0..2000 {
        let _ = channel.poll(drop);
        world.rig.cores.round();
    }
    assert!(!world.shows("process"));
    assert_eq!(world.on_disk("C", 9), 77);
}

#[test]
fn a_new_base_that_fails_is_left_out_and_what_is_old_is_not_read_from_it() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.run(Op::Write, 5, 1).0.unwrap();
    world.raid().remove_base("EE_B").unwrap();
    world.fail(1, Op::Write, 1);
    assert_eq!(world.add("EE_B"), Ok(()));
    assert_eq!(world.run(Op::Write, 5, 2).0, Ok(()));
    world.finish_rebuild();
    assert_eq!(world.raid().bases(), ["EE_A"]);
    assert_eq!(world.run(Op::Read, 5, 0), (Ok(()), 2));
    // Nor does it help if no other base can be read.
    world.fail(0, Op::Read, 9);
    assert_eq!(world.add("EE_B"), Ok(()));
    world.finish_rebuild();
    assert_eq!(world.raid().bases(), ["EE_A"]);
    world.faults[0].clear();
    assert_eq!(world.add("EE_B"), Ok(()));
    world.finish_rebuild();
    assert_eq!(world.raid().bases(), ["EE_A", "EE_B"]);
}

#[test]
fn a_rebuild_ends_with_its_mirror() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.raid().remove_base("EE_B").unwrap();
    let process = ProcessOptions::of(&world.rig.cores.core(0));
    process.window_size_kib.set(4);
    process.max_bandwidth_mib.set(1);
    assert_eq!(world.add("EE_B"), Ok(()));
    world.rounds(5_000);
    world.rig.vbdevs.delete(super::PRODUCT_NAME, "R").unwrap();
    // A window takes 4 ms.
    world.rounds(10_000);
    for base in ["EE_A", "EE_B"] {
        assert!(!world.rig.cores.registry.is_claimed(base), "{base} is still in use");
    }
}

#[test]
fn bandwidth_of_a_rebuild_is_limited() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    world.raid().remove_base("EE_B").unwrap();
    let process = ProcessOptions::of(&world.rig.cores.core(0));
    process.window_size_kib.set(16);
    process.max_bandwidth_mib.set(16);
    let began = world.rig.cores.core(0).now();
    assert_eq!(world.add("EE_B"), Ok(()));
    world.finish_rebuild();
    // 128 KiB at 16 MiB/s.
    let took = world.rig.cores.core(0).now().since(began);
    assert!(took > Duration::from_micros(7500) && took < Duration::from_millis(12), "{took:?}");
}

#[test]
fn bases_that_do_not_suit_are_refused() {
    let mut world = World::new(&["EE_A", "EE_B"]);
    let full = world.add("EE_C").unwrap_err();
    assert!(format!("{full}").contains("remove one of them first"), "{full}");
    assert_eq!(world.raid().remove_base("EE_C"), Err(ChangeError::NoSuchBase));
    world.raid().remove_base("EE_A").unwrap();
    world.rig.add_disk("Small", BLOCKS - 1);
    let small = world.add("Small").unwrap_err();
    assert_eq!(
        small,
        ChangeError::Create(CreateError::Unsuitable("it is smaller than the raid bdev"))
    );
    assert!(world.add("Nobody").is_err() && world.add("EE_B").is_err());
    assert!(!world.rig.cores.registry.is_claimed("Small"));
    world.rounds(3);
    let strips = RaidOptions { strip_size_kib: 4, name: String::from("S"), ..options(&["EE_C"]) };
    assert!(matches!(world.rig.vbdevs.create(recipe(strips)), Err(CreateError::Unsuitable(_))));
}
