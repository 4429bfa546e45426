use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::{Access, Bdev, Descriptor, Registry};
use basalt_env::{DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_reactor::{Options, Reactor, mesh};

use crate::{
    DEFAULT_NQN, DISCOVERY_NQN, GroupStats, HostPolicy, Listener, NamespaceOptions, PollGroup,
    SubsystemOptions, Target, TransportConfig,
};
use basalt_bdev::suite::disk::Disk;
use basalt_models::pipes::TestStack;

/// A machine that runs the target, and time.
pub struct World {
    pub reactors: Vec<Reactor>,
    pub stacks: Vec<Rc<RefCell<TestStack>>>,
    pub pools: Vec<DmaPool>,
    pub groups: Vec<Rc<PollGroup>>,
    pub target: Rc<Target>,
    pub registry: Rc<Registry>,
    pub now: Instant,
}

impl World {
    /// One core, one 4 MiB disk of 512-byte blocks in the default subsystem.
    pub fn new() -> Self {
        Self::with(1, Arc::new(Disk::new(512, 8192)))
    }

    pub fn with(cores: usize, disk: Arc<dyn Bdev>) -> Self {
        Self::configured(cores, TransportConfig::default(), disk)
    }

    pub fn configured(cores: usize, config: TransportConfig, disk: Arc<dyn Bdev>) -> Self {
        let mut world = Self::empty(cores, config, 16 << 20);
        world.target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
        world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
        world.target.add_ns(DEFAULT_NQN, opened(disk), NamespaceOptions::default()).unwrap();
        world.listen(DEFAULT_NQN, 4420);
        world.listen(DISCOVERY_NQN, 8009);
        world
    }

    pub fn empty(cores: usize, config: TransportConfig, memory: usize) -> Self {
        let mut world = Self::starting(cores, config, memory);
        world.rounds(8);
        world
    }

    /// Cores whose poll groups are there, but have not reached the control plane yet.
    pub fn starting(cores: usize, config: TransportConfig, memory: usize) -> Self {
        let reactors: Vec<_> =
            mesh(cores, Options::default()).into_iter().map(|seed| seed.build()).collect();
        let machine = Machine::new();
        let registry = Rc::new(Registry::new(cores, 0));
        reactors[0].local().provide(Rc::clone(&registry));
        let target = Target::start(&reactors[0].local(), config);
        let mut world = Self {
            reactors,
            stacks: Vec::new(),
            pools: Vec::new(),
            groups: Vec::new(),
            target,
            registry,
            now: Instant::ZERO,
        };
        for core in 0..cores {
            let stack = Rc::new(RefCell::new(TestStack::new()));
            let pool = machine.pool(memory);
            let local = world.reactors[core].local();
            local.provide(Rc::new(pool.clone()));
            let group = PollGroup::start(&local, stack.clone(), pool.clone(), config);
            world.stacks.push(stack);
            world.pools.push(pool);
            world.groups.push(group);
        }
        world
    }

    pub fn listen(&mut self, nqn: &'static str, port: impl Into<Listener>) {
        let port = port.into();
        let target = Rc::clone(&self.target);
        self.reactors[0].local().spawn("test", async move {
            target.add_listener(nqn, port).await.unwrap();
        });
        self.rounds(16);
    }

    /// Runs a task of the boot core to its end; `None` if it does not come within 4000 rounds.
    pub fn run<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> Option<T> {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.reactors[0].local().spawn("test", async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        });
        for _ in 0..4000 {
            self.rounds(1);
            if let Some(value) = result.borrow_mut().take() {
                return Some(value);
            }
        }
        None
    }

    /// Runs every core `count` times; a round takes 10 µs.
    pub fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.now = self.now + Duration::from_micros(10);
            for reactor in &mut self.reactors {
                let _ = reactor.poll(self.now);
            }
        }
    }

    /// Lets time pass in steps of 50 ms.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(50);
            self.rounds(1);
        }
        self.rounds(16);
    }

    pub fn stats(&self, core: usize) -> GroupStats {
        self.groups[core].stats()
    }

    /// What is in use now, for leak tests: live objects and DMA memory.
    pub fn in_use(&self) -> Vec<(u32, u32, u32, u32, usize)> {
        let of = |(group, pool): (&Rc<PollGroup>, &DmaPool)| {
            let stats = group.stats();
            let memory = pool.stats();
            let used = memory.bytes_total - memory.bytes_free;
            (stats.connections, stats.slots, stats.commands, stats.outstanding, used)
        };
        self.groups.iter().zip(&self.pools).map(of).collect()
    }
}

/// `disk` as its registry opens it.
pub fn opened(disk: Arc<dyn Bdev>) -> Descriptor {
    let registry = Registry::new(2, 0);
    let name = disk.info().name.clone();
    registry.register(disk).unwrap();
    registry.open(&name, Access::ReadWrite).unwrap()
}
