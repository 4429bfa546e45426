use basalt_bdev::{IoError, Op, OpenError};
use basalt_models::virtio::Fault;
use basalt_virtio::TransportError;

use super::Rig;
use crate::{AttachError, VirtioControllers};

#[test]
fn a_detached_device_can_be_attached_again() {
    let mut rig = Rig::blk(2, 64, 512);
    let before = rig.memory();
    for _ in 0..3 {
        assert_eq!(rig.attach().unwrap(), ["V"]);
        assert_eq!(rig.attach(), Err(AttachError::NameTaken));
        assert_eq!(rig.run("V", Op::Write, 3, 4).0, Ok(()));
        rig.detach();
        assert!(rig.info().is_none() && rig.registry.get("V").is_none());
        assert_eq!(rig.memory(), before);
    }
    let controllers = VirtioControllers::of(&rig.core(0));
    let nothing = rig.wait_for(async move { controllers.detach("V").await });
    assert!(nothing.is_err());
}

#[test]
fn what_a_stuck_device_has_comes_back_when_it_is_detached() {
    let mut rig = Rig::blk(1, 4096, 512);
    let before = rig.memory();
    rig.attach().unwrap();
    let mut channel = rig.channel("V", 0);
    rig.model.get_stuck();
    channel.submit(rig.io(Op::Write, 1, 1, 0)).unwrap();
    let data = basalt_bdev::SgList::Many((0..4).map(|_| rig.buf(0, 1 << 20, 1)).collect());
    let large = basalt_bdev::Io::with_data(Op::Write, 2, 4094, data, 2);
    assert!(channel.submit(large).is_err(), "of the wrong length");
    let data = basalt_bdev::SgList::Many((0..300).map(|_| rig.buf(0, 512, 1)).collect());
    channel.submit(basalt_bdev::Io::with_data(Op::Write, 2, 300, data, 2)).unwrap();
    rig.rounds(10);
    rig.detach();
    let ended = rig.drain(&mut channel, 2);
    assert!(ended.iter().all(|(status, _)| *status == Err(IoError::Removed)), "{ended:?}");
    drop((channel, ended));
    assert_eq!(rig.memory(), before);
}

#[test]
fn a_device_that_lies_is_given_up() {
    for fault in [Fault::BadUsedId, Fault::OverlongUsed, Fault::UsedIndexJumps] {
        let mut rig = Rig::blk(2, 64, 512);
        let before = rig.memory();
        rig.attach().unwrap();
        let mut channel = rig.channel("V", 1);
        rig.model.set_fault(Some(fault));
        channel.submit(rig.io(Op::Read, 1, 1, 1)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1)[0].0, Err(IoError::Removed), "{fault:?}");
        rig.rounds(10);
        assert!(rig.info().is_none());
        assert_eq!(
            rig.registry.open("V", basalt_bdev::Access::ReadOnly).err(),
            Some(OpenError::NoSuchBdev)
        );
        drop(channel);
        assert_eq!(rig.memory(), before, "{fault:?}");
    }
}

#[test]
fn a_device_that_asks_for_a_reset_is_given_up() {
    let mut rig = Rig::scsi(1, &[(0, 64)]).attached();
    rig.model.transport(|transport| transport.ask_for_reset());
    rig.rounds(600);
    assert!(rig.info().is_none() && rig.registry.get("Vt0").is_none());
}

#[test]
fn a_device_that_does_not_come_up_is_left_alone() {
    let mut rig = Rig::blk(1, 64, 512);
    rig.model.set_fault(Some(Fault::ResetHangs));
    assert_eq!(rig.attach(), Err(AttachError::Transport(TransportError::ResetTimeout)));
    rig.model.set_fault(Some(Fault::RefusesFeatures));
    assert_eq!(rig.attach(), Err(AttachError::Transport(TransportError::FeaturesRefused)));
    let before = rig.memory();
    rig.model.set_fault(Some(Fault::NotifyOutside));
    assert_eq!(rig.attach(), Err(AttachError::Transport(TransportError::NotifyOffset(0))));
    assert!(rig.info().is_none());
    assert_eq!(rig.memory(), before);
    rig.model.set_fault(None);
    assert_eq!(rig.attach().unwrap(), ["V"]);
}
