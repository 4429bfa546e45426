use basalt_bdev::{IoError, Op};
use basalt_models::virtio_disk::{Limits, Medium, VirtioDiskModel};

use super::Rig;
use crate::{AttachError, BLK_PRODUCT_NAME, Kind};

#[test]
fn a_block_device_behaves_like_any_bdev_with_any_blocks_and_limits() {
    let all = Limits::default();
    let few = Limits { segments_max: 2, ..all };
    let one = Limits { segments_max: 1, segment_len_max: 8192, sectors_max: 8 };
    for (block_size, limits) in [(512, all), (4096, all), (512, few), (512, one), (4096, one)] {
        let mut rig = Rig::blk(1, 4096, block_size);
        rig.model.set_limits(limits);
        let before = rig.memory();
        assert_eq!(rig.attach().unwrap(), ["V"]);
        rig.run_suite("V");
        rig.leaves_nothing(&before);
    }
}

#[test]
fn a_short_queue_is_no_hindrance() {
    let mut rig = Rig::blk(1, 4096, 512);
    rig.model.transport(|transport| transport.set_queue_size_max(4));
    rig.attach().unwrap();
    rig.run_suite("V");
    let mut tiny = Rig::blk(1, 64, 512);
    tiny.model.transport(|transport| transport.set_queue_size_max(2));
    assert_eq!(tiny.attach(), Err(AttachError::QueueTooSmall(2)));
    assert!(tiny.info().is_none());
}

#[test]
fn each_core_has_a_queue_and_those_beyond_borrow_one() {
    let mut rig = Rig::blk(3, 64, 512).attached();
    assert_eq!(rig.info().unwrap().queues.len(), 2, "the device has no more");
    for core in 0..3 {
        let mut channel = rig.channel("V", core);
        let lba = core as u64;
        channel.submit(rig.io(Op::Write, lba, 7 + core as u8, core)).unwrap();
        rig.drain(&mut channel, 1);
        channel.submit(rig.io(Op::Read, lba, 0, core)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1), [(Ok(()), 7 + core as u8)]);
        assert_eq!(rig.model.block(0, core)[0], 7 + core as u8);
    }
}

#[test]
fn a_bad_block_is_reported_as_an_nvme_drive_would() {
    let mut rig = Rig::blk(1, 64, 512).attached();
    rig.model.change(|media| media.get_mut(&0).unwrap().bad = Some(9));
    let media = |sc| Err(IoError::Nvme { sct: 2, sc, dnr: false });
    assert_eq!(rig.run("V", Op::Read, 9, 0).0, media(0x81));
    assert_eq!(rig.run("V", Op::Write, 9, 0).0, media(0x80));
    assert_eq!(rig.run("V", Op::Read, 8, 0).0, Ok(()));
}

#[test]
fn a_disk_that_cannot_be_written_is_not() {
    let mut rig = Rig::blk(1, 64, 512);
    rig.model.transport(|transport| transport.offered |= 1 << 5);
    rig.attach().unwrap();
    let bdev = rig.registry.get("V").unwrap();
    assert!(bdev.supports(Op::Read) && bdev.supports(Op::Flush));
    assert!(![Op::Write, Op::Unmap, Op::WriteZeroes].iter().any(|op| bdev.supports(*op)));
    assert_eq!(rig.run("V", Op::Read, 3, 1), (Ok(()), 0));
}

#[test]
fn a_disk_of_few_words_is_used_as_it_is() {
    let mut rig = Rig::blk(1, 64, 512);
    // VERSION_1 alone.
    rig.model.transport(|transport| transport.offered = 1 << 32);
    rig.model.set_limits(Limits { segments_max: 1, ..Limits::default() });
    rig.attach().unwrap();
    let bdev = rig.registry.get("V").unwrap();
    assert!(![Op::Flush, Op::Unmap, Op::WriteZeroes].iter().any(|op| bdev.supports(*op)));
    assert_eq!(rig.info().unwrap().queues.len(), 1);
    rig.run_suite("V");
}

#[test]
fn a_disk_that_grows_is_a_bdev_that_grows() {
    let mut rig = Rig::blk(1, 64, 512).attached();
    rig.model.resize(0, 100);
    rig.rounds(600);
    assert_eq!(rig.registry.get("V").unwrap().info().num_blocks.get(), 100);
    assert_eq!(rig.run("V", Op::Write, 99, 5).0, Ok(()));
    assert_eq!(rig.model.block(0, 99)[0], 5);
}

#[test]
fn a_serial_number_makes_the_identifier_and_is_shown() {
    let uuid = |serial: &str| {
        let mut medium = Medium::new(64, 512);
        medium.serial = serial.into();
        let rig = Rig::new(1, Kind::Blk, |bus| VirtioDiskModel::blk(bus, medium)).attached();
        let bdev = rig.registry.get("V").unwrap();
        assert_eq!(bdev.info().product_name, BLK_PRODUCT_NAME);
        let shown = bdev.driver_specific();
        assert!(shown.contains(&alloc::format!("\"serial_number\":\"{serial}\"")), "{shown}");
        bdev.info().uuid
    };
    assert_eq!(uuid("disk-1"), uuid("disk-1"));
    assert_ne!(uuid("disk-1"), uuid("disk-2"));
    assert_ne!(uuid(""), uuid("disk-1"));
}

#[test]
fn strange_block_sizes_are_refused() {
    let mut rig = Rig::blk(1, 64, 768);
    let error = rig.attach().unwrap_err();
    assert!(alloc::format!("{error}").contains("768"), "{error}");
    let mut rig = Rig::blk(1, 64, 4096);
    rig.model.set_limits(Limits { segment_len_max: 512, ..Limits::default() });
    assert_eq!(rig.attach().unwrap(), [""; 0], "less than a block at a time");
}
