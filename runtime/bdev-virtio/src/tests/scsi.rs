use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::{Io, IoError, Op};
use basalt_env::Instant;
use basalt_models::virtio_disk::{Limits, Medium};

use super::Rig;
use crate::SCSI_PRODUCT_NAME;

#[test]
fn disks_of_a_host_behave_like_any_bdev_with_any_limits() {
    let all = Limits::default();
    let few = Limits { segments_max: 2, sectors_max: 64, ..all };
    for limits in [all, few] {
        let mut rig = Rig::scsi(1, &[(0, 4096), (5, 300)]);
        rig.model.set_limits(limits);
        let before = rig.memory();
        assert_eq!(rig.attach().unwrap(), ["Vt0", "Vt5"]);
        rig.run_suite("Vt0");
        rig.run_suite("Vt5");
        let bdev = rig.registry.get("Vt5").unwrap();
        assert_eq!(bdev.info().product_name, SCSI_PRODUCT_NAME);
        assert!(bdev.driver_specific().contains("\"target\":5"));
        rig.leaves_nothing(&before);
    }
}

#[test]
fn disks_are_told_apart() {
    let mut rig = Rig::scsi(2, &[(1, 64), (2, 64)]).attached();
    rig.run("Vt1", Op::Write, 7, 11).0.unwrap();
    rig.run("Vt2", Op::Write, 7, 22).0.unwrap();
    assert_eq!([1, 2].map(|target| rig.model.block(target, 7)[0]), [11, 22]);
    assert_eq!(rig.run("Vt1", Op::Read, 7, 0), (Ok(()), 11));
    let uuid = |name| rig.registry.get(name).unwrap().info().uuid;
    assert_ne!(uuid("Vt1"), uuid("Vt2"));
}

#[test]
fn disks_come_go_and_grow_as_the_host_tells() {
    let mut rig = Rig::scsi(1, &[(0, 64)]).attached();
    rig.model.change(|media| media.insert(3, Medium::new(128, 4096)));
    rig.rounds(600);
    assert_eq!(rig.info().unwrap().bdevs, ["Vt0", "Vt3"]);
    assert_eq!(rig.registry.get("Vt3").unwrap().info().block_size, 4096);
    rig.model.resize(0, 99);
    rig.rounds(600);
    assert_eq!(rig.registry.get("Vt0").unwrap().info().num_blocks.get(), 99);
    let mut channel = rig.channel("Vt0", 0);
    rig.model.change(|media| media.remove(&0));
    channel.submit(rig.io(Op::Read, 1, 0, 0)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].0, Err(IoError::Removed));
    rig.rounds(600);
    assert_eq!(rig.info().unwrap().bdevs, ["Vt3"]);
    assert!(rig.registry.get("Vt0").is_none());
    // More events than there are buffers for.
    for round in 0..40 {
        rig.model.change(|media| media.insert(4, Medium::new(64 + round, 512)));
    }
    rig.rounds(2000);
    assert_eq!(rig.registry.get("Vt4").unwrap().info().num_blocks.get(), 103);
}

#[test]
fn a_busy_disk_is_asked_again_but_not_for_ever() {
    let mut rig = Rig::scsi(1, &[(0, 64)]);
    rig.model.change(|media| media.get_mut(&0).unwrap().busy = 3);
    rig.attach().unwrap();
    rig.model.change(|media| media.get_mut(&0).unwrap().busy = 50);
    rig.run("Vt0", Op::Write, 1, 9).0.unwrap();
    assert_eq!(rig.model.block(0, 1)[0], 9);
    rig.model.change(|media| media.get_mut(&0).unwrap().busy = u32::MAX);
    assert_eq!(rig.run("Vt0", Op::Read, 1, 0).0, Err(IoError::Timeout));
}

#[test]
fn a_host_that_does_not_answer_is_not_asked_for_each_of_its_targets() {
    let mut rig = Rig::scsi(1, &[(0, 64)]);
    rig.model.get_stuck();
    assert_eq!(rig.attach().unwrap(), Vec::<String>::new());
    assert!(rig.now < Instant::ZERO + Duration::from_secs(15), "{:?}", rig.now);
}

#[test]
fn what_a_disk_refuses_is_reported_as_an_nvme_drive_would() {
    let mut rig = Rig::scsi(1, &[(0, 64)]).attached();
    rig.model.change(|media| media.get_mut(&0).unwrap().bad = Some(9));
    let media = Err(IoError::Nvme { sct: 2, sc: 0x81, dnr: false });
    assert_eq!(rig.run("Vt0", Op::Read, 9, 0).0, media);
    // It has become smaller, and nobody has been told yet.
    rig.model.resize(0, 32);
    let outside = Err(IoError::Nvme { sct: 0, sc: 0x80, dnr: true });
    assert_eq!(rig.run("Vt0", Op::Read, 40, 0).0, outside);
}

#[test]
fn an_unmap_in_pieces_waits_for_memory() {
    let mut rig = Rig::scsi(1, &[(0, 4096)]);
    rig.model.set_limits(Limits { sectors_max: 64, ..Limits::default() });
    rig.attach().unwrap();
    let mut channel = rig.channel("Vt0", 0);
    let all: Vec<_> = core::iter::from_fn(|| rig.pools[0].alloc(512).ok()).collect();
    channel.submit(Io::new(Op::Unmap, 0, 1024, 0)).unwrap();
    rig.rounds(10);
    assert!(!channel.poll(|io| panic!("{:?}", io.status)).is_busy());
    drop(all);
    assert_eq!(rig.drain(&mut channel, 1)[0].0, Ok(()));
}
