use alloc::rc::Rc;

use basalt_bdev::RejectReason;
use basalt_models::nvme::Config;

use super::Rig;
use super::faults::reset;
use crate::{ControlError, ControllerOrder, ControllerState, NvmeControllers};

fn controllers(rig: &Rig) -> Rc<NvmeControllers> {
    NvmeControllers::of(&rig.core(0))
}

fn disable(rig: &mut Rig) -> Result<(), ControlError> {
    let controllers = controllers(rig);
    rig.wait_for(async move { controllers.order("Nvme0", ControllerOrder::Disable).await })
}

fn enable(rig: &mut Rig) -> Result<(), ControlError> {
    let controllers = controllers(rig);
    rig.wait_for(async move { controllers.order("Nvme0", ControllerOrder::Enable).await })
}

#[test]
fn a_disabled_controller_takes_nothing_until_it_is_enabled() {
    let mut rig = Rig::attached(2, Config::default());
    assert_eq!(enable(&mut rig), Err(ControlError::Enabled));
    let mut channels = [rig.channel(0), rig.channel(1)];
    for (core, channel) in channels.iter_mut().enumerate() {
        channel.submit(rig.read(core, 1, 7)).unwrap();
    }
    disable(&mut rig).unwrap();
    assert_eq!(rig.info().state, ControllerState::Disabled);
    for _ in 0..2_000 {
        rig.round();
    }
    assert_eq!(rig.info().state, ControllerState::Disabled, "nothing else brings it up");
    let busy = channels[0].submit(rig.read(0, 2, 8)).unwrap_err();
    assert_eq!(busy.reason, RejectReason::QueueFull);
    assert_eq!([disable(&mut rig), reset(&mut rig)], [Err(ControlError::Disabled); 2]);
    assert_eq!(enable(&mut rig), Ok(()));
    assert_eq!((rig.info().state, rig.info().queues.len()), (ControllerState::Enabled, 2));
    for (core, channel) in channels.iter_mut().enumerate() {
        let ended = rig.drain(channel, 1);
        assert_eq!((ended[0].tag, ended[0].status), (7, Ok(())), "it was read again");
        channel.submit(rig.read(core, 3, 9)).unwrap();
        assert_eq!(rig.drain(channel, 1)[0].status, Ok(()));
    }
    rig.assert_no_violations();
}

#[test]
fn a_disabled_controller_can_be_detached() {
    let mut rig = Rig::attached(1, Config::default());
    disable(&mut rig).unwrap();
    let controllers = controllers(&rig);
    assert_eq!(rig.wait_for(async move { controllers.detach("Nvme0").await }), Ok(()));
    assert!(rig.registry.list().is_empty());
    rig.assert_no_violations();
}
