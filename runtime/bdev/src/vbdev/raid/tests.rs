use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;
use crate::suite::{self, Medium};
use crate::vbdev::Made;
use crate::vbdev::delay::{self, Latencies};
use crate::vbdev::error::{self, Fault, Faults, Injection};
use crate::vbdev::tests::Rig;
use crate::{Access, Io, IoError, IoStatus, Op, OpenError, SgList};

fn options(name: &str, level: Level, bases: &[&str]) -> RaidOptions {
    let bases = bases.iter().map(ToString::to_string).collect();
    RaidOptions { name: name.into(), level, strip_size_kib: 2, bases, uuid: None }
}

/// A machine with disks `A`, `B`, … of so many blocks of 512 bytes.
fn rig(sizes: &[u64]) -> Rig {
    let rig = Rig::new();
    for (name, blocks) in ["A", "B", "C", "D"].iter().zip(sizes) {
        rig.add_disk(name, *blocks);
    }
    rig
}

fn size(rig: &Rig, name: &str) -> u64 {
    rig.cores.registry.get(name).unwrap().info().num_blocks.get()
}

fn run_suite(rig: &mut Rig, name: &str) {
    let disk = rig.cores.registry.open(name, Access::ReadWrite).unwrap();
    let before = rig.cores.pool.stats();
    suite::run(&mut rig.cores, &disk, Medium::Keeps);
    assert_eq!(rig.cores.pool.stats(), before, "all memory is back");
}

#[test]
fn striped_bdevs_behave_like_any_bdev() {
    for level in [Level::Raid0, Level::Concat] {
        let mut rig = rig(&[203, 1000, 66]);
        rig.create(recipe(options("R", level, &["A", "B", "C"])));
        let blocks = if level == Level::Raid0 { 3 * 64 } else { 200 + 1000 + 64 };
        assert_eq!(size(&rig, "R"), blocks);
        run_suite(&mut rig, "R");
    }
}

#[test]
fn they_stack_also_on_each_other_and_on_slow_and_failing_bases() {
    let mut rig = rig(&[100, 100, 100, 100]);
    rig.create(delay::recipe("Slow", "A", Latencies::new([3, 9, 2, 4]), None));
    rig.create(error::recipe("B", Faults::default(), None));
    rig.create(recipe(options("Left", Level::Raid0, &["Slow", "EE_B"])));
    rig.create(recipe(options("Right", Level::Concat, &["C", "D"])));
    rig.create(recipe(RaidOptions {
        strip_size_kib: 4,
        ..options("Both", Level::Raid0, &["Left", "Right"])
    }));
    rig.passthru("Top", "Both");
    run_suite(&mut rig, "Top");
}

#[test]
fn strips_go_to_each_base_in_turn() {
    let mut rig = rig(&[16, 16]);
    rig.create(recipe(options("R", Level::Raid0, &["A", "B"])));
    let mut raid = rig.channel("R");
    for lba in 0..32 {
        raid.submit(rig.io(Op::Write, lba, lba as u8, 0)).unwrap();
    }
    assert_eq!(rig.finished(&mut raid, 1).len(), 32);
    for (name, first) in [("A", 0), ("B", 4)] {
        let disk = rig.cores.registry.open(name, Access::ReadOnly).unwrap();
        let mut base = disk.channel(&rig.cores.core(0)).unwrap();
        for lba in 0..16 {
            base.submit(rig.io(Op::Read, lba, 0, lba)).unwrap();
        }
        let bytes = rig.finished(&mut base, 1).into_iter().map(|(_, _, byte)| u64::from(byte));
        assert!(bytes.eq((0..16).map(|lba| first + lba / 4 * 8 + lba % 4)), "{name}");
    }
}

#[test]
fn what_no_base_can_cut_comes_back_in_the_buffers_it_came_in() {
    let mut rig = rig(&[64, 64, 64]);
    rig.create(recipe(options("R", Level::Raid0, &["A", "B", "C"])));
    let mut raid = rig.channel("R");
    let pool = rig.cores.pool.clone();
    let before = pool.stats();
    let lens = [700, 0, 1, 3000, 512, 11 * 512 - 4213];
    let bufs = |byte: u8| {
        let fill = |len: &usize| {
            let mut buf = pool.alloc(*len).unwrap();
            buf.set_len(*len);
            buf.as_mut_slice().iter_mut().enumerate().for_each(|(at, b)| *b = at as u8 ^ byte);
            buf
        };
        SgList::Many(lens.iter().map(fill).collect())
    };
    raid.submit(Io::with_data(Op::Write, 3, 11, bufs(7), 1)).unwrap();
    raid.submit(Io::with_data(Op::Read, 3, 11, bufs(0), 2)).unwrap();
    let mut ended = Vec::new();
    for _ in 0..3 {
        let _ = raid.poll(|io| ended.push(io));
        rig.cores.round();
    }
    assert!(ended.iter().all(|io| io.status == Ok(())) && ended.len() == 2);
    for io in &ended {
        assert!(io.data.as_slice().iter().map(|buf| buf.len()).eq(lens));
        let is_right = |buf: &basalt_env::DmaBuf| {
            buf.as_slice().iter().enumerate().all(|(at, byte)| *byte == at as u8 ^ 7)
        };
        assert!(io.data.as_slice().iter().all(is_right), "{:?}", io.op);
    }
    drop(ended);
    assert_eq!(pool.stats(), before);
}

#[test]
fn a_failure_of_one_base_is_one_of_the_whole_transfer_which_keeps_its_buffers() {
    let rig = rig(&[64, 64]);
    let faults = Faults::default();
    rig.create(error::recipe("B", faults.clone(), None));
    rig.create(recipe(options("R", Level::Raid0, &["A", "EE_B"])));
    let injection = |fault| Injection { fault, count: 1, queue_depth: 0 };
    faults.inject(Op::Read, injection(Fault::NvmeFailure { sct: 2, sc: 0x81 }));
    let mut raid = rig.channel("R");
    for _ in 0..2 {
        let buf = rig.cores.pool.alloc(8192).unwrap();
        raid.submit(Io::with_data(Op::Read, 0, 16, SgList::One(buf), 5)).unwrap();
    }
    let mut ended = Vec::new();
    let _ = raid.poll(|io| ended.push((io.tag, io.status, io.data.len())));
    assert!(ended.iter().all(|(tag, _, len)| (*tag, *len) == (5, 8192)), "{ended:?}");
    let ok = ended.iter().filter(|(_, status, _)| status.is_ok()).count();
    let is_media =
        |status: &IoStatus| matches!(status, Err(IoError::Nvme { sct: 2, sc: 0x81, .. }));
    let failed = ended.iter().filter(|(_, status, _)| is_media(status)).count();
    assert_eq!((ok, failed), (1, 1), "{ended:?}");
}

#[test]
fn a_channel_dropped_with_children_under_way_returns_their_memory() {
    let mut rig = rig(&[64, 64]);
    rig.create(delay::recipe("Slow", "A", Latencies::new([50; 4]), None));
    rig.create(recipe(options("R", Level::Raid0, &["Slow", "B"])));
    let before = rig.cores.pool.stats();
    for rounds in [0, 1, 30] {
        let mut raid = rig.channel("R");
        for tag in 0..8 {
            let buf = rig.cores.pool.alloc(8192).unwrap();
            raid.submit(Io::with_data(Op::Write, tag, 16, SgList::One(buf), tag)).unwrap();
        }
        assert!(rig.finished(&mut raid, rounds).is_empty());
        drop(raid);
        rig.cores.round();
        assert_eq!(rig.cores.pool.stats(), before);
    }
}

#[test]
fn a_raid_is_there_when_all_its_bases_are() {
    let rig = rig(&[64]);
    let made = rig.create(recipe(options("R", Level::Raid0, &["A", "B"])));
    assert_eq!(made, Made::Later);
    let raid: Raid = rig.vbdevs.handle("R").unwrap();
    let shown = raid.describe(&rig.cores.registry);
    for part in ["\"state\":\"configuring\"", "\"num_base_bdevs_discovered\":1"] {
        assert!(shown.contains(part), "{shown}");
    }
    rig.add_disk("B", 64);
    assert_eq!(size(&rig, "R"), 128);
    let shown = raid.describe(&rig.cores.registry);
    assert!(shown.contains("\"state\":\"online\",\"raid_level\":\"raid0\""), "{shown}");
    assert!(rig.cores.registry.is_claimed("A") && rig.cores.registry.is_claimed("B"));
    rig.cores.registry.remove("A").unwrap();
    assert_eq!(rig.names(), ["B"]);
    assert!(!rig.cores.registry.is_claimed("B"));
}

#[test]
fn unsuitable_bases_are_refused_with_the_reason() {
    let rig = rig(&[64, 3, 64]);
    let refused = |options: RaidOptions| rig.vbdevs.create(recipe(options)).unwrap_err();
    let small = refused(options("R", Level::Raid0, &["A", "B"]));
    assert_eq!(small, CreateError::Unsuitable("a base is smaller than a strip"));
    for strip_size_kib in [0, 3] {
        let odd = refused(RaidOptions { strip_size_kib, ..options("R", Level::Raid0, &["A"]) });
        assert!(format!("{odd}").contains("power of two"), "{odd}");
    }
    let twice = refused(options("R", Level::Concat, &["A", "A"]));
    assert_eq!(twice, CreateError::Unsuitable("a base bdev is named twice"));
    assert!(matches!(refused(options("R", Level::Raid0, &[])), CreateError::Unsuitable(_)));
    rig.passthru("P", "C");
    let claimed = refused(options("R", Level::Concat, &["A", "C"]));
    assert_eq!(claimed, CreateError::Base(OpenError::Claimed));
    assert!(!rig.cores.registry.is_claimed("A"), "nothing of it is left");
}
