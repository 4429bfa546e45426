//! The NVMe driver and its bdevs on a controller that lies: in its registers, in what Identify and
//! log pages say, and in its completions. Each Io comes back once, and all memory in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use basalt_bdev::{Access, Channel, Io, NvmeOrder, Op, SgList};
use basalt_bdev_nvme::{IoPath, NvmeControllers, Options, attach};
use basalt_models::lies::Lies;
use basalt_models::nvme::{
    Config, ManageConfig, MetadataPlace, Model, NamespaceConfig, Shadowing, ZoneConfig,
};

use crate::input::Input;
use crate::machine::{self, Machine};
use crate::seed::Seed;

/// Things done in a run at most.
const TURNS_MAX: usize = 48;
/// Rounds of a millisecond in which everything ends once the device is honest.
const PATIENCE: u32 = 20_000;
const NAME: &str = "Nvme0";
const ZONES: ZoneConfig = ZoneConfig { blocks: 64, capacity: 60, open_max: 4, active_max: 6 };

struct Rig {
    machine: Machine,
    model: Model,
    channels: Vec<Channel>,
    under_way: BTreeSet<u64>,
    tag: u64,
}

/// Byte 0: what the controller is like. A record of lies it tells while it is brought up. Then
/// turns.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut machine = Machine::new(1);
    machine.round = Duration::from_millis(1);
    let model = Model::new(machine::bus(), config(input.byte()));
    model.lie(Lies::new(input.record()));
    let mut rig = Rig { machine, model, channels: Vec::new(), under_way: BTreeSet::new(), tag: 0 };
    let (local, device) = (rig.machine.local(0), rig.model.device());
    let path = IoPath::new();
    let attached = rig.wait_for(async move { attach(&local, device, path, options()).await });
    if let Ok(names) = attached {
        let opened = names.iter().filter_map(|name| {
            let disk = rig.machine.registry.open(name, Access::ReadWrite).ok()?;
            disk.channel(&rig.machine.local(0)).ok()
        });
        rig.channels = opened.collect();
    }
    for _ in 0..TURNS_MAX {
        if input.is_empty() {
            break;
        }
        rig.turn(&mut input);
    }
    rig.end();
}

fn options() -> Options {
    Options {
        queue_entries: 16,
        io_timeout: Duration::from_millis(50),
        admin_timeout: Duration::from_millis(30),
        reset_timeout: Duration::from_millis(500),
        ..Options::named(NAME)
    }
}

fn config(kind: u8) -> Config {
    let mut namespaces = vec![NamespaceConfig::new(1, 512, 1024)];
    match kind & 3 {
        1 => namespaces.push(NamespaceConfig::new(2, 4096, 64)),
        2 => namespaces[0] = namespaces[0].with_metadata(8, MetadataPlace::InLine).protected(1),
        3 => namespaces[0] = namespaces[0].zoned(ZONES),
        _ => {}
    }
    let shadow = [Shadowing::No, Shadowing::WhenTold, Shadowing::Always, Shadowing::No];
    Config {
        namespaces,
        shadow: shadow[usize::from(kind >> 2 & 3)],
        sgls: kind & 16 != 0,
        fused_max: if kind & 32 != 0 { 8 } else { 0 },
        manage: ManageConfig::default(),
        queues: 1,
        ..Config::default()
    }
}

impl Rig {
    fn step(&mut self) {
        self.machine.step();
        self.model.step();
        let Self { channels, under_way, .. } = self;
        for channel in channels {
            let _ = channel.poll(|io| assert!(under_way.remove(&io.tag), "an Io comes back once"));
        }
    }

    /// Runs a task while nothing else is polled but the device.
    fn wait_for<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let model = self.model.clone();
        self.machine.wait_for(task, move || model.step())
    }

    fn turn(&mut self, input: &mut Input<'_>) {
        match input.below(8) {
            0..3 => self.submit(input),
            3 | 4 => (0..input.byte()).for_each(|_| self.step()),
            5 => self.model.lie(Lies::new(input.record())),
            6 => {
                let local = self.machine.local(0);
                self.machine.local(0).spawn("fuzz", async move {
                    let _ = NvmeControllers::of(&local).reset(NAME).await;
                });
            }
            _ => self.manage(input),
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let (which, op) = (input.below(4), input.below(5));
        let (lba, blocks) = (u64::from(input.byte()), 1 + u32::from(input.byte() & 31));
        let Some(channel) = self.channels.get_mut(which) else { return };
        self.tag += 1;
        let info = channel.descriptor().info();
        let op = [Op::Read, Op::Write, Op::Flush, Op::WriteZeroes, Op::Unmap][op];
        let io = match op {
            Op::Read | Op::Write => {
                let len = blocks as usize * info.block_size as usize;
                let Ok(buf) = self.machine.pools[0].alloc(len) else { return };
                Io::with_data(op, lba, blocks, SgList::One(buf), self.tag)
            }
            _ => Io::new(op, lba, blocks, self.tag),
        };
        if channel.submit(io).is_ok() {
            self.under_way.insert(self.tag);
        }
    }

    fn manage(&mut self, input: &mut Input<'_>) {
        let order = match input.below(3) {
            0 => NvmeOrder::DetachNamespace(1),
            1 => NvmeOrder::AttachNamespace(1),
            _ => NvmeOrder::DeleteNamespace(2),
        };
        let local = self.machine.local(0);
        self.machine.local(0).spawn("fuzz", async move {
            let _ = NvmeControllers::of(&local).manage(NAME, order).await;
        });
    }

    fn end(mut self) {
        self.model.lie(Lies::default());
        for _ in 0..PATIENCE {
            if self.under_way.is_empty() {
                break;
            }
            self.step();
        }
        assert!(self.under_way.is_empty(), "these never come back: {:?}", self.under_way);
        self.channels.clear();
        let local = self.machine.local(0);
        let _ = self.wait_for(async move { NvmeControllers::of(&local).detach(NAME).await });
        for _ in 0..50 {
            self.step();
        }
    }
}

/// All kinds of controllers, honest ones.
pub fn seeds() -> Vec<Seed> {
    let turns = |seed: Seed| {
        seed.part(&[1, 0, 1, 3, 7])
            .part(&[0, 0, 0, 3, 7])
            .part(&[3, 20])
            .part(&[0, 1, 0, 0, 1])
            .part(&[2, 0, 2, 0, 0])
            .part(&[2, 0, 4, 9, 9])
            .part(&[3, 60])
    };
    let lies = |len: usize| [&(len as u16).to_le_bytes()[..], &vec![0; len]].concat();
    (0..64)
        .step_by(5)
        .map(|kind: u8| {
            let seed = Seed::starting(&[kind]).part(&lies(200));
            let seed = turns(seed).part(&[&[5][..], &lies(40)].concat());
            turns(seed).part(&[6]).part(&[7, 2]).part(&[3, 200])
        })
        .collect()
}
