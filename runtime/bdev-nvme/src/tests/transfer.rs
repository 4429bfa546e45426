use alloc::vec::Vec;

use basalt_bdev::suite::{self, Medium};
use basalt_bdev::{Io, IoError, Op, SgList};
use basalt_models::nvme::{Config, MetadataPlace, NamespaceConfig, Shadowing};
use basalt_nvme_spec::identify::Oncs;

use super::Rig;

#[test]
fn an_nvme_bdev_behaves_with_any_block_size_and_transfer_limit() {
    for (block_size, mdts) in [(512, 8), (4096, 8), (512, 1), (4096, 1), (4096, 0)] {
        let namespaces = alloc::vec![NamespaceConfig::new(1, block_size, 1000)];
        let oncs = Config::default().oncs | Oncs::COMPARE;
        let mut rig = Rig::attached(1, Config { mdts, namespaces, oncs, ..Config::default() });
        let disk = rig.open("Nvme0n1");
        suite::run(&mut rig, &disk, Medium::Keeps);
        rig.assert_no_violations();
    }
}

#[test]
fn an_nvme_bdev_behaves_with_every_command_and_any_limit_to_them() {
    let shadows = [Shadowing::WhenTold, Shadowing::Always, Shadowing::No];
    let limits = [(true, 1, 9), (false, 0, 4096), (false, 2, 1)];
    for ((sgls, dataless_max, range_max), shadow) in limits.into_iter().zip(shadows) {
        let oncs = Config::default().oncs | Oncs::COMPARE | Oncs::VERIFY | Oncs::COPY;
        let limits = Config { dataless_max, range_max, ..Config::default() };
        let config = Config { oncs, sgls, shadow, ..limits };
        let mut rig = Rig::attached(1, config);
        let disk = rig.open("Nvme0n1");
        assert!(disk.bdev().supports(Op::Copy) && disk.bdev().supports(Op::Verify));
        suite::run(&mut rig, &disk, Medium::Keeps);
        rig.assert_no_violations();
    }
}

#[test]
fn an_nvme_bdev_behaves_whatever_its_blocks_carry_beside_their_data() {
    let (own, in_line) = (MetadataPlace::Separate, MetadataPlace::InLine);
    for (size, place, protection, mdts) in
        [(8, own, 1, 8), (16, own, 0, 1), (64, in_line, 0, 8), (16, in_line, 2, 1)]
    {
        let namespace = NamespaceConfig::new(1, 512, 1000).with_metadata(size, place);
        let namespaces = alloc::vec![NamespaceConfig { protection, ..namespace }];
        let oncs = Oncs::all();
        let mut rig = Rig::attached(1, Config { mdts, namespaces, oncs, ..Config::default() });
        let disk = rig.open("Nvme0n1");
        suite::run(&mut rig, &disk, Medium::Keeps);
        rig.assert_no_violations();
    }
}

#[test]
fn blocks_made_uncorrectable_cannot_be_read_until_they_are_written() {
    let oncs = Config::default().oncs | Oncs::WRITE_UNCORRECTABLE;
    let mut rig = Rig::attached(1, Config { oncs, dataless_max: 1, ..Config::default() });
    assert!(rig.open("Nvme0n1").allows(Op::WriteUncorrectable));
    let mut channel = rig.channel(0);
    channel.submit(Io::new(Op::WriteUncorrectable, 40, 50, 1)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()), "in pieces");
    let mut read = |rig: &mut Rig, lba| {
        channel.submit(rig.read(0, lba, 2)).unwrap();
        rig.drain(&mut channel, 1)[0].status
    };
    assert_eq!((read(&mut rig, 39), read(&mut rig, 90)), (Ok(()), Ok(())));
    for lba in [40, 89] {
        let status = read(&mut rig, lba);
        assert!(matches!(status, Err(IoError::Nvme { sct: 2, sc: 0x81, .. })), "{status:?}");
    }
    let data = rig.filled(0, &[1; 512]);
    channel.submit(Io::with_data(Op::Write, 40, 1, data, 3)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    channel.submit(rig.read(0, 40, 4)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    rig.assert_no_violations();
}

#[test]
fn transfers_are_kept_within_the_boundary_of_a_namespace() {
    for boundary in [8, 100] {
        let mut rig = Rig::attached(1, Config { boundary, ..Config::default() });
        let disk = rig.open("Nvme0n1");
        suite::run(&mut rig, &disk, Medium::Keeps);
        assert_eq!(rig.model.crossings(), 0, "{boundary}");
        rig.assert_no_violations();
    }
}

#[test]
fn scattered_buffers_are_one_command_by_sgl() {
    for sgls in [true, false] {
        let mut rig = Rig::attached(1, Config { sgls, ..Config::default() });
        let mut channel = rig.channel(0);
        let bufs = (0..32).map(|block| {
            let mut buf = rig.buf(0, 512);
            buf.as_mut_slice().fill(block);
            buf
        });
        let data = SgList::Many(bufs.collect());
        let before = rig.model.io_commands();
        channel.submit(Io::with_data(Op::Write, 0, 32, data, 1)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
        assert_eq!(rig.model.io_commands() - before == 1, sgls);
        let written = rig.model.contents(1, 0, 16_384);
        assert!(written.chunks(512).zip(0..).all(|(block, byte)| block == [byte; 512]));
        rig.assert_no_violations();
    }
}

#[test]
fn a_protected_namespace_behaves_like_any_other() {
    for kind in 1..=3 {
        let namespaces = alloc::vec![NamespaceConfig::new(1, 512, 6000).protected(kind)];
        let oncs = Config::default().oncs | Oncs::COMPARE;
        let mut rig = Rig::attached(1, Config { namespaces, oncs, mdts: 3, ..Config::default() });
        let disk = rig.open("Nvme0n1");
        suite::run(&mut rig, &disk, Medium::Keeps);
        rig.assert_no_violations();
    }
}

#[test]
fn an_nvme_bdev_behaves_without_optional_commands_and_with_a_tiny_queue() {
    let config = Config { oncs: Oncs::empty(), queue_entries_max: 10, ..Config::default() };
    let mut rig = Rig::attached(2, config);
    let disk = rig.open("Nvme0n1");
    suite::run(&mut rig, &disk, Medium::Keeps);
    rig.assert_no_violations();
}

#[test]
fn every_core_reads_and_writes_on_its_own() {
    let mut rig = Rig::attached(4, Config::default());
    let mut channels: Vec<_> = (0..4).map(|core| rig.channel(core)).collect();
    for (core, channel) in channels.iter_mut().enumerate() {
        let data = rig.filled(core, &[core as u8 + 1; 1024]);
        channel.submit(Io::with_data(Op::Write, core as u64 * 2, 2, data, 7)).unwrap();
    }
    for channel in &mut channels {
        assert_eq!(rig.drain(channel, 1)[0].status, Ok(()));
    }
    for core in 0..4 {
        let bytes = rig.model.contents(1, core * 2, 1024);
        assert!(bytes.iter().all(|byte| *byte == core as u8 + 1));
    }
    rig.assert_no_violations();
}

#[test]
fn a_round_costs_one_doorbell_whatever_was_submitted() {
    let mut rig = Rig::attached(1, Config::default());
    let (mut one, mut two) = (rig.channel(0), rig.channel(0));
    rig.rounds(3);
    let before = rig.model.doorbells();
    for tag in 0..20 {
        one.submit(rig.read(0, tag, tag)).unwrap();
        two.submit(rig.read(0, tag, 100 + tag)).unwrap();
    }
    assert_eq!(rig.model.doorbells(), before, "nothing is rung while submitting");
    let tags: Vec<_> = rig.drain(&mut one, 20).iter().map(|io| io.tag).collect();
    assert!(tags.into_iter().eq(0..20));
    let tags: Vec<_> = rig.drain(&mut two, 20).iter().map(|io| io.tag).collect();
    assert!(tags.into_iter().eq(100..120));
    assert_eq!(rig.model.doorbells() - before, 1, "the completions are given back later");
}

#[test]
fn what_a_round_submits_is_at_the_device_at_its_end_by_one_doorbell() {
    let mut rig = Rig::attached(1, Config::default());
    let mut channels = [rig.channel(0), rig.channel(0), rig.channel(0)];
    let reads: Vec<_> = (0..12).map(|tag| rig.read(0, tag, tag)).collect();
    rig.rounds(3);
    let (doorbells, commands) = (rig.model.doorbells(), rig.model.io_commands());
    // A task, and so later in the round than the poller that looks for completions.
    rig.core(0).spawn("submitter", async move {
        for (io, channel) in reads.into_iter().zip([0, 1, 2].into_iter().cycle()) {
            channels[channel].submit(io).unwrap();
        }
        core::future::pending().await
    });
    let now = rig.now;
    let _ = rig.reactors[0].poll(now);
    assert_eq!(rig.model.doorbells() - doorbells, 1);
    rig.model.step();
    assert_eq!(rig.model.io_commands() - commands, 12);
    let doorbells = rig.model.doorbells();
    rig.rounds(4);
    assert_eq!(rig.model.doorbells(), doorbells, "idle rounds ring nothing");
    rig.assert_no_violations();
}

#[test]
fn an_io_larger_than_a_command_goes_in_pieces() {
    let mut rig = Rig::attached(1, Config { mdts: 2, ..Config::default() });
    let mut channel = rig.channel(0);
    let bytes: Vec<u8> = (0..200 * 512_u32).map(|i| (i / 7) as u8).collect();
    let data = rig.filled(0, &bytes);
    let before = rig.model.io_commands();
    channel.submit(Io::with_data(Op::Write, 3, 200, data, 0)).unwrap();
    let mut ended = rig.drain(&mut channel, 1);
    assert_eq!(ended[0].status, Ok(()));
    assert_eq!(rig.model.io_commands() - before, 7, "102,400 bytes by 16,384");
    assert_eq!(rig.model.contents(1, 3, bytes.len()), bytes);

    let mut data = core::mem::take(&mut ended[0].data);
    data.as_mut_slice()[0].as_mut_slice().fill(0);
    channel.submit(Io::with_data(Op::Read, 3, 200, data, 0)).unwrap();
    let ended = rig.drain(&mut channel, 1);
    assert_eq!(ended[0].data.as_slice()[0].as_slice(), bytes);
    rig.assert_no_violations();
}

#[test]
fn zeroing_more_blocks_than_a_command_names_goes_in_pieces() {
    let namespaces = alloc::vec![NamespaceConfig::new(1, 512, 150_000)];
    let mut rig = Rig::attached(1, Config { namespaces, ..Config::default() });
    let mut channel = rig.channel(0);
    let data = rig.filled(0, &[9; 512]);
    channel.submit(Io::with_data(Op::Write, 140_000, 1, data, 0)).unwrap();
    rig.drain(&mut channel, 1);
    let before = rig.model.io_commands();
    channel.submit(Io::new(Op::WriteZeroes, 5, 149_995, 0)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    assert_eq!(rig.model.io_commands() - before, 3);
    assert!(rig.model.contents(1, 140_000, 512).iter().all(|byte| *byte == 0));
    channel.submit(Io::new(Op::Unmap, 0, 150_000, 0)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    rig.assert_no_violations();
}

#[test]
fn large_and_small_ios_share_a_tiny_queue() {
    let config = Config { mdts: 1, queue_entries_max: 4, ..Config::default() };
    let mut rig = Rig::attached(1, config);
    let mut channel = rig.channel(0);
    let mut waiting: Vec<Io> = (0..24)
        .map(|tag| {
            let blocks = if tag % 2 == 0 { 100 } else { 1 };
            let data = SgList::One(rig.buf(0, blocks as usize * 512));
            Io::with_data(Op::Read, tag, blocks, data, tag)
        })
        .collect();
    let mut ended = Vec::new();
    for _ in 0..5_000 {
        while let Some(io) = waiting.pop() {
            if let Err(refused) = channel.submit(io) {
                waiting.push(refused.io);
                break;
            }
        }
        rig.round();
        let _ = channel.poll(|io| ended.push(io));
    }
    assert_eq!(ended.len(), 24);
    assert!(ended.iter().all(|io| io.status == Ok(())));
    rig.assert_no_violations();
}

#[test]
fn a_channel_dropped_with_ios_in_flight_frees_their_memory_only_afterwards() {
    let mut rig = Rig::attached(1, Config::default());
    rig.model.plan(|plan| {
        use basalt_models::nvme::{Fault, any_io};
        plan.on(any_io().every(), Fault::Delay(20));
    });
    let mut channel = rig.channel(0);
    let free = rig.pools[0].stats().bytes_free;
    for tag in 0..5 {
        channel.submit(rig.read(0, tag, tag)).unwrap();
    }
    rig.rounds(2);
    drop(channel);
    rig.rounds(2);
    assert_eq!(rig.pools[0].stats().bytes_free, free - 5 * 512);
    rig.rounds(40);
    assert_eq!(rig.pools[0].stats().bytes_free, free);
    rig.assert_no_violations();
}
