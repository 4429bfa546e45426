//! The drivers of virtio block devices and SCSI hosts, and their bdevs, on a device that lies: in
//! its registers, its used rings and its answers.

use std::collections::BTreeSet;
use std::time::Duration;

use basalt_bdev::{Access, Channel, Io, Op, SgList};
use basalt_bdev_virtio::{IoPath, Kind, VirtioControllers, attach};
use basalt_models::lies::Lies;
use basalt_models::virtio_disk::{Medium, VirtioDiskModel};

use crate::input::Input;
use crate::machine::{self, Machine};
use crate::seed::Seed;

/// Things done in a run at most.
const TURNS_MAX: usize = 48;
/// Rounds of a millisecond in which everything ends once the device is honest.
const PATIENCE: u32 = 120_000;
const NAME: &str = "V";

/// Byte 0: block device or SCSI host. A record of lies it tells while it is brought up. Then turns.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut machine = Machine::new(1);
    machine.round = Duration::from_millis(1);
    let bus = machine::bus();
    let (kind, model) = match input.byte() & 1 {
        0 => (Kind::Blk, VirtioDiskModel::blk(bus, Medium::new(256, 512))),
        _ => {
            let media = [(0, Medium::new(256, 512)), (3, Medium::new(64, 4096))];
            (Kind::Scsi, VirtioDiskModel::scsi(bus, media))
        }
    };
    model.lie(Lies::new(input.record()));
    let (local, device) = (machine.local(0), model.device());
    let attached = machine.wait_for(
        async move { attach(&local, device, IoPath::new(), kind, NAME.into()).await },
        || {},
    );
    let mut channels: Vec<Channel> = attached
        .iter()
        .flatten()
        .filter_map(|name| machine.registry.open(name, Access::ReadWrite).ok())
        .filter_map(|disk| disk.channel(&machine.local(0)).ok())
        .collect();
    let mut under_way = BTreeSet::new();
    for tag in 0..TURNS_MAX as u64 {
        if input.is_empty() {
            break;
        }
        match input.below(6) {
            0..3 => submit(&mut input, &machine, &mut channels, &mut under_way, tag),
            3 => model.lie(Lies::new(input.record())),
            4 => model.resize(0, 1 + usize::from(input.byte())),
            _ => step(&mut machine, &mut channels, &mut under_way, input.byte().into()),
        }
    }
    model.lie(Lies::default());
    for _ in 0..PATIENCE {
        if under_way.is_empty() {
            break;
        }
        step(&mut machine, &mut channels, &mut under_way, 1);
    }
    assert!(under_way.is_empty(), "these never come back: {under_way:?}");
    drop(channels);
    let local = machine.local(0);
    let _ =
        machine.wait_for(async move { VirtioControllers::of(&local).detach(NAME).await }, || {});
    machine.rounds(50);
}

fn step(
    machine: &mut Machine,
    channels: &mut [Channel],
    under_way: &mut BTreeSet<u64>,
    rounds: u32,
) {
    for _ in 0..rounds {
        machine.step();
        for channel in channels.iter_mut() {
            let _ = channel.poll(|io| assert!(under_way.remove(&io.tag), "an Io comes back once"));
        }
    }
}

fn submit(
    input: &mut Input<'_>,
    machine: &Machine,
    channels: &mut [Channel],
    under_way: &mut BTreeSet<u64>,
    tag: u64,
) {
    let (which, op) = (input.below(3), input.below(5));
    let (lba, blocks) = (u64::from(input.byte()), 1 + u32::from(input.byte() & 31));
    let Some(channel) = channels.get_mut(which) else { return };
    let op = [Op::Read, Op::Write, Op::Flush, Op::WriteZeroes, Op::Unmap][op];
    let io = match op {
        Op::Read | Op::Write => {
            let len = blocks as usize * channel.descriptor().info().block_size as usize;
            let Ok(buf) = machine.pools[0].alloc(len) else { return };
            Io::with_data(op, lba, blocks, SgList::One(buf), tag)
        }
        _ => Io::new(op, lba, blocks, tag),
    };
    if channel.submit(io).is_ok() {
        under_way.insert(tag);
    }
}

/// Both kinds, honest ones.
pub fn seeds() -> Vec<Seed> {
    let turns = |seed: Seed| {
        seed.part(&[1, 0, 1, 3, 7])
            .part(&[0, 0, 0, 3, 7])
            .part(&[5, 20])
            .part(&[0, 1, 0, 0, 1])
            .part(&[2, 0, 2, 0, 0])
            .part(&[2, 0, 4, 9, 9])
            .part(&[4, 99])
            .part(&[5, 60])
    };
    let lies = |len: usize| [&(len as u16).to_le_bytes()[..], &vec![0; len]].concat();
    [0, 1]
        .map(|kind| {
            let seed = Seed::starting(&[kind]).part(&lies(160));
            let seed = turns(seed).part(&[&[3][..], &lies(40)].concat());
            turns(seed)
        })
        .into()
}
