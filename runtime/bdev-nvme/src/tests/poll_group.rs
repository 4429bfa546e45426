use basalt_bdev::{Io, Op};
use basalt_env::{CoreId, Device};
use basalt_models::nvme::{Config, Model, Shadowing};

use super::Rig;
use super::faults::reset;
use crate::{NvmeControllers, PollGroupStats};

/// The type of the model's registers, by way of its device.
fn stats(rig: &Rig, core: usize) -> Option<PollGroupStats> {
    fn of<D: Device>(rig: &Rig, core: usize, _: impl Fn(&Model) -> D) -> Option<PollGroupStats> {
        PollGroupStats::of::<D::Registers>(&rig.core(core))
    }
    of(rig, core, Model::device)
}

fn read(rig: &mut Rig, core: usize, count: u64) {
    let mut channel = rig.channel(core);
    for tag in 0..count {
        channel.submit(rig.read(core, tag, tag)).unwrap();
        assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    }
}

#[test]
fn a_core_counts_what_its_queues_have_done_until_after_they_are_gone() {
    let mut rig = Rig::new(2, Config { shadow: Shadowing::No, ..Config::default() });
    assert_eq!(stats(&rig, 0), None, "it has had no queue yet");
    rig.attach().unwrap();
    read(&mut rig, 1, 5);
    let [idle, busy] = [0, 1].map(|core| stats(&rig, core).unwrap().queues);
    assert_eq!((idle.submitted, idle.completed, idle.busy_polls), (0, 0, 0));
    assert!(idle.polls > 0);
    assert_eq!((busy.submitted, busy.completed, busy.busy_polls), (5, 5, 5));
    assert!(busy.polls > busy.busy_polls, "it looks in every round");
    assert_eq!((busy.doorbells.sq_mmio, busy.doorbells.sq_shadow), (5, 0));
    reset(&mut rig).unwrap();
    read(&mut rig, 1, 2);
    assert_eq!(stats(&rig, 1).unwrap().queues.completed, 7, "those of the earlier run count");
    let controllers = NvmeControllers::of(&rig.core(CoreId::BOOT.index()));
    rig.wait_for(async move { controllers.detach("Nvme0").await }).unwrap();
    let after = stats(&rig, 1).unwrap();
    assert_eq!((after.queues.completed, after.queues.doorbells.sq_mmio, after.queued), (7, 7, 0));
}

#[test]
fn doorbells_in_memory_and_later_pieces_are_told_apart() {
    let config = Config { shadow: Shadowing::Always, mdts: 1, ..Config::default() };
    let mut rig = Rig::attached(1, config);
    // More blocks than one command covers, which moves two pages at most.
    let mut channel = rig.channel(0);
    let blocks = 64;
    let data = rig.filled(0, &alloc::vec![0; blocks * 512]);
    let io = Io::with_data(Op::Read, 0, blocks as u32, data, 1);
    channel.submit(io).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    let stats = stats(&rig, 0).unwrap();
    assert!(stats.queues.submitted > 1);
    assert_eq!(stats.queued, stats.queues.submitted - 1, "all but the first piece come later");
    let rung = stats.queues.doorbells;
    assert!(rung.sq_shadow > 0 && rung.sq_mmio <= rung.sq_shadow, "{rung:?}");
}
