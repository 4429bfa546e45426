use basalt_models::nvme::{CmbConfig, Config};

use super::{Rig, quick};
use crate::{NvmeControllers, Options};

#[test]
fn queues_in_the_controllers_memory_outlive_resets_in_the_midst_of_work() {
    // One queue of 64 entries fits, the other does not.
    let config = Config { cmb: Some(CmbConfig::pages(1, 0)), ..Config::default() };
    let mut rig = Rig::new(2, config);
    let options = Options { queue_entries: 64, controller_memory_buffer: true, ..quick() };
    rig.attach_with(options).unwrap();
    let mut channels = [0, 1].map(|core| rig.channel(core));
    let mut fetched = 0;
    for _ in 0..5 {
        for (core, channel) in channels.iter_mut().enumerate() {
            for tag in 0..40 {
                channel.submit(rig.read(core, tag, tag)).unwrap();
            }
        }
        let controllers = NvmeControllers::of(&rig.core(0));
        rig.wait_for(async move { controllers.reset("Nvme0").await }).unwrap();
        for channel in &mut channels {
            assert!(rig.drain(channel, 40).iter().all(|io| io.status.is_ok()));
        }
        let now = rig.model.fetched_from_cmb(1);
        assert!(now >= fetched + 40, "it is used again after each reset");
        fetched = now;
    }
    assert_eq!(rig.model.fetched_from_cmb(2), 0);
    rig.assert_no_violations();
}
