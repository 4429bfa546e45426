//! Tests of the adapter on several simulated cores, against models of the devices.

mod blk;
mod life;
mod scsi;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::{Access, Channel, Descriptor, Io, IoStatus, Op, Registry, SgList, suite};
use basalt_env::{DmaBuf, DmaPool, Instant};
use basalt_hosted::{Bus, Machine};
use basalt_models::virtio_disk::{Medium, VirtioDiskModel};
use basalt_reactor::{Local, Reactor, mesh};

use crate::{AttachError, ControllerInfo, IoPath, Kind, VirtioControllers, attach};

/// Rounds of 1 ms after which something is taken to hang.
const ROUNDS_MAX: u32 = 300_000;

/// A machine with a few cores that one thread runs in turn, and one device.
struct Rig {
    reactors: Vec<Reactor>,
    pools: Vec<DmaPool>,
    registry: Rc<Registry>,
    model: VirtioDiskModel,
    kind: Kind,
    now: Instant,
}

impl Rig {
    fn new(cores: usize, kind: Kind, model: impl FnOnce(Bus) -> VirtioDiskModel) -> Self {
        let machine = Machine::new();
        let seeds = mesh(cores, basalt_reactor::Options::default());
        let reactors: Vec<_> = seeds.into_iter().map(|seed| seed.build()).collect();
        let pools: Vec<_> = (0..cores).map(|_| machine.pool(16 << 20)).collect();
        for (reactor, pool) in reactors.iter().zip(&pools) {
            reactor.local().provide(Rc::new(pool.clone()));
        }
        let registry = Rc::new(Registry::new(cores, 1));
        reactors[0].local().provide(Rc::clone(&registry));
        let model = model(machine.bus());
        Self { reactors, pools, registry, model, kind, now: Instant::ZERO }
    }

    /// With a block device of so many blocks.
    fn blk(cores: usize, blocks: usize, block_size: usize) -> Self {
        let medium = Medium::new(blocks, block_size);
        Self::new(cores, Kind::Blk, |bus| VirtioDiskModel::blk(bus, medium))
    }

    /// With a SCSI host with disks of 512 bytes and so many blocks at those targets.
    fn scsi(cores: usize, targets: &[(u8, usize)]) -> Self {
        let media = targets.iter().map(|(target, blocks)| (*target, Medium::new(*blocks, 512)));
        Self::new(cores, Kind::Scsi, |bus| VirtioDiskModel::scsi(bus, media))
    }

    fn attached(mut self) -> Self {
        self.attach().unwrap();
        self
    }

    fn attach(&mut self) -> Result<Vec<String>, AttachError> {
        let (local, device, kind) = (self.core(0), self.model.device(), self.kind);
        self.wait_for(async move { attach(&local, device, IoPath::new(), kind, "V".into()).await })
    }

    fn core(&self, core: usize) -> Local {
        self.reactors[core].local()
    }

    /// A round of 1 ms on every core.
    fn round(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        for reactor in &mut self.reactors {
            let _ = reactor.poll(self.now);
        }
    }

    fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.round());
    }

    /// Runs `task` on core 0 to its end.
    fn wait_for<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        self.core(0).spawn("test", async move {
            let value = task.await;
            *place.borrow_mut() = Some(value);
        });
        for _ in 0..ROUNDS_MAX {
            self.round();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
        }
        panic!("the task hangs");
    }

    fn detach(&mut self) {
        let controllers = VirtioControllers::of(&self.core(0));
        self.wait_for(async move { controllers.detach("V").await }).unwrap();
    }

    fn open(&self, name: &str) -> Descriptor {
        self.registry.open(name, Access::ReadWrite).unwrap()
    }

    fn channel(&self, name: &str, core: usize) -> Channel {
        self.open(name).channel(&self.core(core)).unwrap()
    }

    fn buf(&self, core: usize, len: usize, byte: u8) -> DmaBuf {
        let mut buf = self.pools[core].alloc(len).unwrap();
        buf.as_mut_slice().fill(byte);
        buf
    }

    /// A transfer of one block of 512 bytes.
    fn io(&self, op: Op, lba: u64, byte: u8, core: usize) -> Io {
        Io::with_data(op, lba, 1, SgList::One(self.buf(core, 512, byte)), lba)
    }

    /// Runs the machine until the channel has handed back `count` Ios, in order of tag: status and
    /// first byte.
    fn drain(&mut self, channel: &mut Channel, count: usize) -> Vec<(IoStatus, u8)> {
        let mut ended = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let _ = channel.poll(|io| ended.push(io));
            if ended.len() >= count {
                ended.sort_by_key(|io| io.tag);
                let first = |io: &Io| io.data.as_slice().first().map_or(0, |b| b.as_slice()[0]);
                return ended.iter().map(|io| (io.status, first(io))).collect();
            }
            self.round();
        }
        panic!("{} of {count} Ios came back", ended.len());
    }

    /// One operation to its end.
    fn run(&mut self, name: &str, op: Op, lba: u64, byte: u8) -> (IoStatus, u8) {
        let mut channel = self.channel(name, 0);
        channel.submit(self.io(op, lba, byte, 0)).unwrap();
        self.drain(&mut channel, 1)[0]
    }

    fn info(&self) -> Option<ControllerInfo> {
        VirtioControllers::of(&self.core(0)).get("V")
    }

    fn run_suite(&mut self, name: &str) {
        let disk = self.open(name);
        suite::run(self, &disk, suite::Medium::Keeps);
        assert_eq!(self.model.violations(), Vec::<String>::new());
    }

    /// All memory is back once the device is detached.
    fn leaves_nothing(mut self, before: &[basalt_env::DmaStats]) {
        self.detach();
        let after: Vec<_> = self.pools.iter().map(DmaPool::stats).collect();
        assert_eq!(after, before);
    }

    fn memory(&self) -> Vec<basalt_env::DmaStats> {
        self.pools.iter().map(DmaPool::stats).collect()
    }
}

impl suite::Rig for Rig {
    fn step(&mut self) {
        self.round();
    }

    fn local(&self) -> Local {
        self.core(0)
    }

    fn pool(&self) -> DmaPool {
        self.pools[0].clone()
    }
}
