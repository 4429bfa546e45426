//! An initiator and a target on two machines, with a wire between them.

mod attaching;
mod cards;
mod counting;
mod discovering;
mod injected;
mod io;
mod life;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::Ipv4Addr;
use core::time::Duration;

use basalt_bdev::{Access, Bdev, Channel, Descriptor, Io, Op, Registry, SgList, suite};
use basalt_env::{CoreId, DmaBuf, DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_models::virtio_net::{VirtioNetModel, Wire};
use basalt_net::{
    Address, Cable, Endpoint, FramePort, InterfaceConfig, Ipv4Cidr, MemoryPort, NetConfig,
    NetHandle, StackOptions,
};
use basalt_reactor::{Local, Reactor, mesh};

use super::*;
use basalt_bdev::suite::disk::Disk;
use basalt_nvmf::{
    DEFAULT_NQN, DISCOVERY_NQN, HostPolicy, NamespaceOptions, PollGroup, SubsystemOptions, Target,
    TransportConfig,
};

const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const INITIATOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// What a round takes.
const TICK: Duration = Duration::from_micros(20);
/// Rounds after which something is taken to hang.
const ROUNDS_MAX: u32 = 2_000_000;

/// A machine with a network.
pub struct Side {
    pub reactors: Vec<Reactor>,
    pub pools: Vec<DmaPool>,
    pub registry: Rc<Registry>,
}

impl Side {
    /// A machine whose card is made by `card`, on its first core.
    fn new<P: FramePort + 'static>(
        cores: usize,
        address: Ipv4Addr,
        card: impl FnOnce(&Local, &Machine, &DmaPool) -> P,
    ) -> Self {
        let machine = Machine::new();
        let seeds = mesh(cores, basalt_reactor::Options::default());
        let reactors: Vec<Reactor> = seeds.into_iter().map(|seed| seed.build()).collect();
        let pools: Vec<_> = (0..cores).map(|_| machine.pool(24 << 20)).collect();
        for (reactor, pool) in reactors.iter().zip(&pools) {
            reactor.local().provide(Rc::new(pool.clone()));
        }
        let boot = reactors[0].local();
        let registry = Rc::new(Registry::new(cores, address.to_bits().into()));
        boot.provide(Rc::clone(&registry));
        let cidr = Ipv4Cidr::new(address, 24).unwrap();
        let config = NetConfig {
            interface: InterfaceConfig::Static(Address { cidr, gateway: None }.into()),
            cores: (1..cores).map(|core| CoreId(core as u16)).collect(),
            seed: address.to_bits().into(),
            options: StackOptions::default(),
        };
        basalt_net::start(&boot, card(&boot, &machine, &pools[0]), config).unwrap();
        Self { reactors, pools, registry }
    }

    pub fn core(&self, core: usize) -> Local {
        self.reactors[core].local()
    }

    fn poll(&mut self, now: Instant) {
        for reactor in &mut self.reactors {
            let _ = reactor.poll(now);
        }
    }

    fn in_use(&self) -> usize {
        let used = |pool: &DmaPool| pool.stats().bytes_total - pool.stats().bytes_free;
        self.pools.iter().map(used).sum()
    }
}

/// Both machines, and time.
pub struct Two {
    pub host: Side,
    pub far: Side,
    pub target: Rc<Target>,
    pub groups: Vec<Rc<PollGroup>>,
    pub cable: Cable,
    /// Between their cards, the initiator's first, if they have some.
    pub wire: Option<(Wire, [VirtioNetModel; 2])>,
    pub now: Instant,
    /// The core that the suite runs on.
    pub suite_core: usize,
}

/// What a controller's paths can be told.
pub enum Switch {
    Reset,
    Disable,
    Enable,
}

impl Two {
    /// Machines of so many cores; the target's disk is in the default subsystem, on port 4420.
    pub fn new(cores: usize, target_cores: usize, disk: Arc<dyn Bdev>) -> Self {
        Self::configured(cores, target_cores, TransportConfig::default(), disk)
    }

    /// A target that reports asymmetric access.
    pub fn reporting_ana(disk: Arc<dyn Bdev>) -> Self {
        let options = SubsystemOptions { ana_reporting: true, ..SubsystemOptions::default() };
        Self::with(1, 1, TransportConfig::default(), options, disk)
    }

    pub fn configured(
        cores: usize,
        target_cores: usize,
        config: TransportConfig,
        disk: Arc<dyn Bdev>,
    ) -> Self {
        Self::with(cores, target_cores, config, SubsystemOptions::default(), disk)
    }

    fn with(
        cores: usize,
        target_cores: usize,
        config: TransportConfig,
        subsystem: SubsystemOptions,
        disk: Arc<dyn Bdev>,
    ) -> Self {
        let (near, far) = MemoryPort::pair();
        let cable = near.cable();
        let host = Side::new(cores, INITIATOR, |_, _, _| near);
        let far = Side::new(target_cores, TARGET, |_, _, _| far);
        let mut two = Self { cable, ..Self::of(host, far, config) };
        two.serve(config, subsystem, disk);
        two
    }

    /// Machines on a network.
    fn of(host: Side, far: Side, config: TransportConfig) -> Self {
        let target = Target::start(&far.core(0), config);
        Self {
            host,
            far,
            target,
            groups: Vec::new(),
            cable: Cable::default(),
            wire: None,
            now: Instant::ZERO,
            suite_core: 0,
        }
    }

    /// Has the target serve `disk`.
    fn serve(&mut self, config: TransportConfig, subsystem: SubsystemOptions, disk: Arc<dyn Bdev>) {
        self.rounds(20);
        for (core, pool) in self.far.pools.clone().into_iter().enumerate() {
            let local = self.far.core(core);
            let stack = local.service::<NetHandle>().unwrap().stack();
            self.groups.push(PollGroup::start(&local, stack, pool, config));
        }
        self.rounds(20);
        self.target.create_subsystem(DEFAULT_NQN, subsystem).unwrap();
        self.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
        self.add_ns(disk);
        self.listen(DEFAULT_NQN, 4420);
        self.listen(DISCOVERY_NQN, 8009);
    }

    pub fn add_ns(&mut self, disk: Arc<dyn Bdev>) {
        let name = disk.info().name.clone();
        self.far.registry.register(disk).unwrap();
        let opened = self.far.registry.open(&name, Access::ReadWrite).unwrap();
        self.target.add_ns(DEFAULT_NQN, opened, NamespaceOptions::default()).unwrap();
    }

    pub fn listen(&mut self, nqn: &'static str, port: u16) {
        let target = Rc::clone(&self.target);
        let local = self.far.core(0);
        self.wait_on(local, async move { target.add_listener(nqn, port).await.unwrap() });
    }

    pub fn round(&mut self) {
        self.now = self.now + TICK;
        self.host.poll(self.now);
        self.far.poll(self.now);
        if let Some((wire, [near, far])) = &mut self.wire {
            wire.carry(near, far);
        }
    }

    pub fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.round());
    }

    /// Lets time pass in larger steps.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            self.round();
        }
    }

    /// Runs `task` on the initiator's core 0 to its end.
    pub fn wait_for<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let local = self.host.core(0);
        self.wait_on(local, task)
    }

    pub fn wait_on<T: 'static>(
        &mut self,
        local: Local,
        task: impl Future<Output = T> + 'static,
    ) -> T {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        local.spawn("test", async move {
            let value = task.await;
            *place.borrow_mut() = Some(value);
        });
        for turn in 0..ROUNDS_MAX {
            // What takes long waits for time.
            self.now = self.now + if turn > 2000 { TICK * 50 } else { Duration::ZERO };
            self.round();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
        }
        panic!("the task hangs");
    }

    /// Options whose limits are soon reached.
    pub fn options(&self) -> RemoteOptions {
        RemoteOptions {
            connect_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_secs(1),
            reconnect: Reconnect {
                loss: Loss::Never,
                delay: Duration::from_millis(100),
                fast_io_fail: None,
            },
            ..RemoteOptions::new(&self.host.core(0), "Nvme0", DEFAULT_NQN)
        }
    }

    pub fn remotes(&self) -> Rc<Remotes> {
        Remotes::of(&self.host.core(0))
    }

    pub fn attach(&mut self, options: RemoteOptions) -> Result<Vec<String>, RemoteError> {
        self.attach_by(options, 4420)
    }

    pub fn attach_by(
        &mut self,
        options: RemoteOptions,
        port: u16,
    ) -> Result<Vec<String>, RemoteError> {
        let remotes = self.remotes();
        let transport = TransportId { peer: Endpoint::from((TARGET, port)) };
        self.wait_for(async move { remotes.attach(options, transport, Multipath::Multipath).await })
    }

    pub fn detach(&mut self) -> Result<(), RemoteError> {
        let remotes = self.remotes();
        self.wait_for(async move { remotes.detach("Nvme0", None).await })
    }

    /// Has the paths of `Nvme0` reset, disabled or enabled: all, or that of one identifier.
    pub fn switch(&mut self, what: Switch, cntlid: Option<u16>) -> Result<(), RemoteError> {
        let remotes = self.remotes();
        self.wait_for(async move {
            match what {
                Switch::Reset => remotes.reset("Nvme0", cntlid).await,
                Switch::Disable => remotes.disable("Nvme0", cntlid).await,
                Switch::Enable => remotes.enable("Nvme0", cntlid).await,
            }
        })
    }

    pub fn open(&self, name: &str) -> Descriptor {
        self.host.registry.open(name, Access::ReadWrite).unwrap()
    }

    pub fn channel(&self, core: usize) -> Channel {
        self.open("Nvme0n1").channel(&self.host.core(core)).unwrap()
    }

    pub fn buf(&self, core: usize, len: usize) -> DmaBuf {
        self.host.pools[core].alloc(len).unwrap()
    }

    pub fn filled(&self, core: usize, bytes: &[u8]) -> SgList {
        let mut buf = self.buf(core, bytes.len());
        buf.as_mut_slice().copy_from_slice(bytes);
        SgList::One(buf)
    }

    /// A read of blocks of 512 bytes.
    pub fn read(&self, core: usize, lba: u64, blocks: u32, tag: u64) -> Io {
        let data = SgList::One(self.buf(core, blocks as usize * 512));
        Io::with_data(Op::Read, lba, blocks, data, tag)
    }

    pub fn write(&self, core: usize, lba: u64, bytes: &[u8], tag: u64) -> Io {
        let blocks = (bytes.len() / 512) as u32;
        Io::with_data(Op::Write, lba, blocks, self.filled(core, bytes), tag)
    }

    /// Runs the machines until the channel has handed back `count` Ios, in order of tag.
    pub fn drain(&mut self, channel: &mut Channel, count: usize) -> Vec<Io> {
        let mut ended = Vec::new();
        for turn in 0..ROUNDS_MAX {
            let _ = channel.poll(|io| ended.push(io));
            if ended.len() >= count {
                ended.sort_by_key(|io| io.tag);
                return ended;
            }
            self.now = self.now + if turn > 2000 { TICK * 50 } else { Duration::ZERO };
            self.round();
        }
        panic!("{} of {count} Ios came back", ended.len());
    }

    /// Connections of the target, and commands outstanding there.
    pub fn at_target(&self) -> (u32, u32) {
        let stats = self.groups.iter().map(|group| group.stats());
        stats.fold((0, 0), |(all, busy), one| (all + one.connections, busy + one.outstanding))
    }
}

impl suite::Rig for Two {
    fn step(&mut self) {
        self.round();
    }

    fn local(&self) -> Local {
        self.host.core(self.suite_core)
    }

    fn pool(&self) -> DmaPool {
        self.host.pools[self.suite_core].clone()
    }
}

pub fn disk() -> Arc<dyn Bdev> {
    Arc::new(Disk::new(512, 8192))
}
