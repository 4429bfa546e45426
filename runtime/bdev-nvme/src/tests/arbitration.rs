use alloc::vec::Vec;

use basalt_env::{CoreId, Device};
use basalt_models::nvme::Config;
use basalt_nvme::ArbitrationOptions;
use basalt_nvme_spec::{Arbitration, FeatureId, QueuePriority};

use super::{Rig, quick};
use crate::{NvmeControllers, Options};

fn attached(config: Config, options: Options) -> Rig {
    let mut rig = Rig::new(3, config);
    rig.attach_with(options).unwrap();
    rig
}

/// Has four reads of each core wait for the controller, and gives the queues in the order in which
/// it takes them.
fn order(rig: &mut Rig) -> Vec<u16> {
    let mut channels = [0, 1, 2].map(|core| rig.channel(core));
    let before = rig.model.order().len();
    rig.model.device().disable();
    for (core, channel) in channels.iter_mut().enumerate() {
        for tag in 0..4 {
            channel.submit(rig.read(core, tag, tag)).unwrap();
        }
    }
    rig.rounds(3);
    assert_eq!(rig.model.order().len(), before, "nothing is fetched without bus mastering");
    rig.model.device().enable();
    for channel in &mut channels {
        let ended = rig.drain(channel, 4);
        assert!(ended.iter().all(|io| io.status.is_ok()));
    }
    rig.assert_no_violations();
    rig.model.order().split_off(before)
}

#[test]
fn the_queues_of_chosen_cores_go_first_also_after_a_reset() {
    let priorities = [(CoreId(2), QueuePriority::Urgent), (CoreId(0), QueuePriority::Low)];
    let options = Options { priorities: priorities.into(), ..quick() }
        .with_arbitration(Arbitration { burst: 0, low: 0, medium: 1, high: 0 });
    let mut rig = attached(Config { weighted_round_robin: true, ..Config::default() }, options);
    let expected = [3, 3, 3, 3, 2, 2, 1, 2, 2, 1, 1, 1];
    assert_eq!(order(&mut rig), expected, "of core 2, then two of core 1 for one of core 0");
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.reset("Nvme0").await }).unwrap();
    assert_eq!(order(&mut rig), expected);
}

#[test]
fn a_controller_without_priorities_takes_all_cores_for_equals() {
    let priorities = [(CoreId(2), QueuePriority::Urgent)].into();
    let options = Options { priorities, ..quick() }.with_arbitration(Arbitration {
        burst: 1,
        low: 9,
        medium: 9,
        high: 9,
    });
    let mut rig = attached(Config::default(), options);
    assert_eq!(order(&mut rig), [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]);
    assert_eq!(rig.model.feature(FeatureId::ARBITRATION), Some(1), "the burst, no weights");
}

#[test]
fn weights_are_taken_as_spdk_has_them() {
    let taken = |burst, low, medium, high| {
        let value = Arbitration { burst, low, medium, high };
        Options::named("Nvme0").with_arbitration(value).arbitration
    };
    let expected = |burst, low_weight, medium_weight, high_weight| {
        Some(ArbitrationOptions { burst, low_weight, medium_weight, high_weight })
    };
    assert_eq!(taken(0, 0, 0, 0), None);
    assert_eq!(taken(3, 0, 0, 0), expected(Some(3), 0, 0, 0));
    assert_eq!(taken(0, 1, 2, 3), expected(None, 1, 2, 3));
}
