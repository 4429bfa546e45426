use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use basalt_metrics::Operation;

use crate::suite::{self, Medium};
use crate::vbdev::raid::redundant::ProcessOptions;
use crate::vbdev::raid::redundant::tests::{BLOCKS, World};
use crate::vbdev::raid::{ChangeError, Level, RaidOptions, check, recipe};
use crate::{Access, Channel, Io, IoError, IoStatus, Op, RejectReason, SgList};

const ALL: [&str; 4] = ["EE_A", "EE_B", "EE_C", "EE_D"];
/// Blocks of a stripe of three bases with strips of a KiB.
const STRIPE: u64 = 4;

fn options(bases: &[&str], strip_size_kib: u32) -> RaidOptions {
    let bases = bases.iter().map(ToString::to_string).collect();
    RaidOptions { name: "R".into(), level: Level::Raid5f, strip_size_kib, bases, uuid: None }
}

/// Of three bases, with a fourth disk left over.
fn world() -> World {
    World::of(options(&ALL[..3], 1))
}

impl World {
    fn stripes(&self, op: Op, lba: u64, byte: u8, count: u64) -> Io {
        let blocks = (count * STRIPE) as u32;
        let mut buf = self.rig.cores.pool.alloc(blocks as usize * 512).unwrap();
        for (block, bytes) in buf.as_mut_slice().chunks_mut(512).enumerate() {
            bytes.fill(byte.wrapping_add(block as u8));
        }
        Io::with_data(op, lba, blocks, SgList::One(buf), lba)
    }

    fn write(&mut self, lba: u64, byte: u8) -> IoStatus {
        let mut channel = self.rig.channel("R");
        channel.submit(self.stripes(Op::Write, lba, byte, 1)).unwrap();
        self.rig.finished(&mut channel, 3)[0].1
    }

    /// Block `n` has `n`, where anything has been written.
    fn fill(&mut self) {
        let mut channel = self.rig.channel("R");
        for first in (0..2 * BLOCKS).step_by(32) {
            channel.submit(self.stripes(Op::Write, first, first as u8, 8)).unwrap();
        }
        let ended = self.rig.finished(&mut channel, 3);
        assert!(ended.len() == BLOCKS as usize / 16 && ended.iter().all(|io| io.1.is_ok()));
    }

    fn expect(&mut self, lba: u64, byte: u8) {
        assert_eq!(self.run(Op::Read, lba, 0), (Ok(()), byte), "block {lba}");
    }

    fn parity_holds(&mut self, disks: [&str; 3]) {
        for lba in 0..BLOCKS {
            let all = disks.map(|disk| self.on_disk(disk, lba));
            assert_eq!(all.into_iter().fold(0, |parity, byte| parity ^ byte), 0, "row {lba}");
        }
    }

    fn run_suite(&mut self) {
        let disk = self.rig.cores.registry.open("Top", Access::ReadWrite).unwrap();
        let before = self.rig.cores.pool.stats();
        suite::run(&mut self.rig.cores, &disk, Medium::Keeps);
        assert_eq!(self.rig.cores.pool.stats(), before, "all memory is back");
    }
}

#[test]
fn it_behaves_like_any_bdev_whole_and_without_a_base_and_its_parity_holds() {
    for (bases, strip, lost) in [(3, 1, "EE_B"), (4, 4, "EE_D"), (3, 2, "EE_A")] {
        let mut world = World::of(options(&ALL[..bases], strip));
        world.rig.passthru("Top", "R");
        let size = world.rig.cores.registry.get("R").unwrap().info().num_blocks.get();
        assert_eq!(size, (bases as u64 - 1) * BLOCKS);
        world.run_suite();
        if bases == 3 {
            world.parity_holds(["A", "B", "C"]);
        }
        world.raid().remove_base(lost).unwrap();
        world.run_suite();
    }
}

#[test]
fn blocks_lie_where_spdk_has_them() {
    let mut world = world();
    world.fill();
    let on_disk = |world: &mut World, disk| [0, 1, 2, 3, 4, 5].map(|lba| world.on_disk(disk, lba));
    assert_eq!(on_disk(&mut world, "A"), [0, 1, 4, 5, 8 ^ 10, 9 ^ 11]);
    assert_eq!(on_disk(&mut world, "B"), [2, 3, 4 ^ 6, 5 ^ 7, 8, 9]);
    assert_eq!(on_disk(&mut world, "C"), [2, 1 ^ 3, 6, 7, 10, 11]);
}

#[test]
fn parity_is_counted_by_stripe_and_what_is_made_of_it_by_piece() {
    let mut world = world();
    let mesh = world.rig.cores.core(0).mesh().clone();
    let counted = || {
        let xor = mesh.operation(Operation::Xor);
        (xor.executed, xor.failed, xor.bytes)
    };
    world.fill();
    let stripes = 2 * BLOCKS / STRIPE;
    assert_eq!(counted(), (stripes, 0, stripes * 1024), "a strip of 1 KiB has the parity");
    world.expect(0, 0);
    assert_eq!(counted().0, stripes, "what is there is only read");
    world.raid().remove_base("EE_A").unwrap();
    world.expect(0, 0);
    assert_eq!(counted(), (stripes + 1, 0, stripes * 1024 + 512));
}

#[test]
fn what_is_no_full_stripe_is_refused_and_changes_nothing() {
    let mut world = world();
    world.fill();
    let mut channel = world.rig.channel("R");
    for (lba, blocks) in [(0, 3), (1, 4), (2, 4), (4, 5)] {
        let buf = world.rig.cores.pool.alloc(blocks as usize * 512).unwrap();
        let write = Io::with_data(Op::Write, lba, blocks, SgList::One(buf), 0);
        assert_eq!(channel.submit(write).unwrap_err().reason, RejectReason::Unaligned);
        let zeroes = channel.submit(Io::new(Op::WriteZeroes, lba, blocks, 0));
        assert_eq!(zeroes.unwrap_err().reason, RejectReason::Unaligned);
    }
    let unmap = channel.submit(Io::new(Op::Unmap, 0, 4, 0));
    assert_eq!(unmap.unwrap_err().reason, RejectReason::Unsupported);
    (0..8).for_each(|lba| world.expect(lba, lba as u8));
}

#[test]
fn a_read_that_fails_is_made_of_the_other_bases() {
    let mut world = world();
    world.fill();
    for disk in 0..3 {
        world.fail(disk, Op::Read, u32::MAX);
        (0..40).for_each(|lba| world.expect(lba, lba as u8));
        // Also of several pieces.
        let mut channel = world.rig.channel("R");
        channel.submit(world.stripes(Op::Read, 2, 0, 9)).unwrap();
        let mut bytes = Vec::new();
        for _ in 0..3 {
            let _ = channel.poll(|io| {
                assert_eq!(io.status, Ok(()));
                bytes.extend(io.data.as_slice()[0].as_slice().iter().step_by(512).copied());
            });
        }
        assert!(bytes.iter().copied().eq(2..2 + 36), "{bytes:?}");
        world.faults[disk].clear();
    }
    world.fail(0, Op::Read, u32::MAX);
    world.fail(2, Op::Read, u32::MAX);
    let status = world.run(Op::Read, 0, 0).0;
    assert!(matches!(status, Err(IoError::Nvme { sct: 2, sc: 0x81, .. })), "{status:?}");
    assert!(world.shows("\"num_base_bdevs_discovered\":3"), "nothing is lost by reading");
}

#[test]
fn a_base_that_fails_a_write_is_left_out_and_two_are_not() {
    let mut world = world();
    world.fill();
    world.fail(0, Op::Write, 1);
    world.fail(1, Op::Write, 1);
    assert!(world.write(8, 99).is_err());
    assert_eq!(world.raid().bases(), ALL[..3]);
    world.fail(1, Op::Write, 1);
    assert_eq!(world.write(12, 100), Ok(()));
    assert_eq!(world.raid().bases(), ["EE_A", "EE_C"]);
    (12..16).for_each(|lba| world.expect(lba, 100 + lba as u8 - 12));
    (16..40).for_each(|lba| world.expect(lba, lba as u8));
    // It is still written, and a further base is not given up.
    assert_eq!(world.write(20, 200), Ok(()));
    (20..24).for_each(|lba| world.expect(lba, 200 + lba as u8 - 20));
    world.fail(0, Op::Write, 1);
    assert!(world.write(24, 7).is_err());
    assert_eq!(world.raid().bases(), ["EE_A", "EE_C"]);
    assert_eq!(world.raid().remove_base("EE_A"), Err(ChangeError::LastBase));
    let mut channel = world.rig.channel("R");
    channel.submit(Io::new(Op::Flush, 0, 0, 0)).unwrap();
    assert_eq!(world.rig.finished(&mut channel, 2)[0].1, Ok(()));
}

#[test]
fn a_new_base_gets_all_strips_while_they_are_read_and_written() {
    let mut world = world();
    world.fill();
    world.raid().remove_base("EE_B").unwrap();
    ProcessOptions::of(&world.rig.cores.core(0)).window_size_kib.set(4);
    assert_eq!(world.add("EE_D"), Ok(()));
    assert!(world.shows("\"target\":\"EE_D\""), "it is shown");
    let mut expected: Vec<u8> = (0..2 * BLOCKS).map(|lba| lba as u8).collect();
    let disk = world.rig.cores.registry.open("R", Access::ReadWrite).unwrap();
    let mut channels = [0, 1].map(|core| disk.channel(&world.rig.cores.core(core)).unwrap());
    let (mut random, mut held) = (1_u32, 0);
    for turn in 0..20_000_u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (lba, byte) = (u64::from(random >> 8) % BLOCKS / 2 * STRIPE, (random >> 24) as u8);
        let channel = &mut channels[turn as usize % 2];
        let op = if turn % 3 == 0 { Op::Read } else { Op::Write };
        match channel.submit(world.stripes(op, lba, byte, 1)) {
            Ok(()) if op == Op::Write => {
                let now = (0..STRIPE as u8).map(|block| byte.wrapping_add(block));
                expected.splice(lba as usize..(lba + STRIPE) as usize, now);
            }
            Ok(()) => {}
            Err(refused) => {
                assert_eq!(refused.reason, RejectReason::QueueFull);
                held += 1;
            }
        }
        check_reads(channel, &expected);
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
    assert_eq!(world.raid().bases(), ["EE_A", "EE_D", "EE_C"]);
    world.parity_holds(["A", "D", "C"]);
    // Then any other may go.
    world.raid().remove_base("EE_A").unwrap();
    (0..2 * BLOCKS).for_each(|lba| world.expect(lba, expected[lba as usize]));
}

fn check_reads(channel: &mut Channel, expected: &[u8]) {
    let _ = channel.poll(|io| {
        assert_eq!(io.status, Ok(()));
        if io.op == Op::Read {
            let bytes = io.data.as_slice()[0].as_slice().iter().step_by(512);
            assert!(bytes.eq(&expected[io.lba as usize..][..STRIPE as usize]));
        }
    });
}

#[test]
fn a_rebuild_needs_all_others() {
    let mut world = world();
    world.fill();
    world.raid().remove_base("EE_B").unwrap();
    world.fail(0, Op::Read, u32::MAX);
    assert_eq!(world.add("EE_D"), Ok(()));
    world.finish_rebuild();
    assert_eq!(world.raid().bases(), ["EE_A", "EE_C"]);
    world.faults[0].clear();
    (0..40).for_each(|lba| world.expect(lba, lba as u8));
}

#[test]
fn a_channel_dropped_with_children_under_way_returns_their_memory() {
    let mut world = world();
    let before = world.rig.cores.pool.stats();
    for _ in 0..3 {
        let mut channel = world.rig.channel("R");
        for lba in [0, 8, 16] {
            channel.submit(world.stripes(Op::Write, lba, 1, 2)).unwrap();
            channel.submit(world.stripes(Op::Read, lba, 1, 2)).unwrap();
        }
        drop(channel);
        world.rounds(1);
        assert_eq!(world.rig.cores.pool.stats(), before);
    }
    // No write is counted as under way any more, so that a rebuild does not wait for one.
    world.raid().remove_base("EE_B").unwrap();
    assert_eq!(world.add("EE_D"), Ok(()));
    world.finish_rebuild();
    assert_eq!(world.raid().bases().len(), 3);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let reason = |bases: &[&str], strip| check(&options(bases, strip)).unwrap_err();
    assert_eq!(reason(&ALL[..2], 1), "a raid5f needs at least three base bdevs");
    assert_eq!(reason(&ALL, 0), "its strip size must be a power of two of KiB");
    assert_eq!(reason(&ALL, 8192), "a raid5f has strips of 4096 KiB at most");
    let world = world();
    let names = vec!["X".to_string(), "Y".to_string(), "Z".to_string()];
    names.iter().for_each(|name| world.rig.add_disk(name, 7));
    let options = RaidOptions { name: "S".into(), bases: names, ..options(&[], 4) };
    let small = world.rig.vbdevs.create(recipe(options)).unwrap_err();
    assert!(small.to_string().contains("smaller than a strip"), "{small}");
}
