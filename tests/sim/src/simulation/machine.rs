use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use basalt_bdev::vbdev::delay::{self, Latencies};
use basalt_bdev::vbdev::raid::{self, Level, RaidOptions};
use basalt_bdev::vbdev::split::{self, SplitOptions};
use basalt_bdev::vbdev::{Recipe, Vbdevs, passthru};
use basalt_bdev::{Access, Registry};
use basalt_bdev_nvme::{ControllerState, IoPath, NvmeControllers, Options, attach};
use basalt_env::{DmaPool, Instant};
use basalt_models::nvme::{Config, Model};
use basalt_models::pipes::TestStack;
use basalt_nvmf::{
    DEFAULT_NQN, HostPolicy, NamespaceOptions, PollGroup, SubsystemOptions, Target, TransportConfig,
};
use basalt_reactor::{Local, Reactor, mesh};

use super::plan::{Layout, Plan};
use super::random::Random;

/// How long a controller may take over an I/O, and over an admin command.
const IO_TIMEOUT: Duration = Duration::from_millis(100);
const ADMIN_TIMEOUT: Duration = Duration::from_millis(50);
/// Steps that a task on the boot core may take.
const PATIENCE: u32 = 1_000_000;
const MEMORY: usize = 32 << 20;

/// A machine that runs everything, and time.
pub struct Machine {
    reactors: Vec<Reactor>,
    pub pools: Vec<DmaPool>,
    pub stacks: Vec<Rc<RefCell<TestStack>>>,
    groups: Vec<Rc<PollGroup>>,
    pub models: Vec<Model>,
    pub now: Instant,
    random: Random,
    /// Whether time goes faster, for want of anything to do.
    pub hurries: bool,
}

impl Machine {
    /// A machine after that plan, with its bdev exported.
    pub fn new(plan: &Plan) -> Self {
        let hardware = basalt_hosted::Machine::new();
        let seeds = mesh(plan.cores, basalt_reactor::Options::default());
        let reactors: Vec<_> = seeds.into_iter().map(|seed| seed.build()).collect();
        let boot = reactors[0].local();
        let registry = Rc::new(Registry::new(plan.cores, plan.seed));
        boot.provide(Rc::clone(&registry));
        let config = TransportConfig { io_len_max: plan.io_len_max, ..Default::default() };
        let target = Target::start(&boot, config);
        let model = |config: &Config| Model::new(hardware.bus(), config.clone());
        let mut machine = Self {
            reactors,
            pools: Vec::new(),
            stacks: Vec::new(),
            groups: Vec::new(),
            models: plan.controllers.iter().map(model).collect(),
            now: Instant::ZERO,
            random: Random::new(plan.seed ^ 0x5eed),
            hurries: false,
        };
        for core in 0..plan.cores {
            let stack = Rc::new(RefCell::new(TestStack::new()));
            let (pool, local) = (hardware.pool(MEMORY), machine.local(core));
            local.provide(Rc::new(pool.clone()));
            let group = PollGroup::start(&local, stack.clone(), pool.clone(), config);
            machine.stacks.push(stack);
            machine.pools.push(pool);
            machine.groups.push(group);
        }
        machine.attach_controllers();
        machine.export(&target, &registry, plan);
        machine
    }

    pub fn cores(&self) -> usize {
        self.reactors.len()
    }

    pub fn local(&self, core: usize) -> Local {
        self.reactors[core].local()
    }

    fn attach_controllers(&mut self) {
        for index in 0..self.models.len() {
            let options = Options {
                io_timeout: IO_TIMEOUT,
                admin_timeout: ADMIN_TIMEOUT,
                reset_timeout: Duration::from_secs(10),
                ..Options::named(format!("Nvme{index}"))
            };
            let (local, device) = (self.local(0), self.models[index].device());
            let path = IoPath::new();
            let attached =
                self.wait_for(async move { attach(&local, device, path, options).await });
            assert_eq!(attached.unwrap(), [format!("Nvme{index}n1")]);
        }
    }

    fn export(&mut self, target: &Rc<Target>, registry: &Registry, plan: &Plan) {
        let vbdevs = Vbdevs::of(&self.local(0)).unwrap();
        for recipe in recipes(plan.layout) {
            vbdevs.create(recipe).unwrap();
        }
        let bdev = registry.open(plan.layout.exported(), Access::ReadWrite).unwrap();
        target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
        target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
        target.add_ns(DEFAULT_NQN, bdev, NamespaceOptions::default()).unwrap();
        let target = Rc::clone(target);
        self.wait_for(async move { target.add_listener(DEFAULT_NQN, 4420).await.unwrap() });
    }

    /// Something happens somewhere.
    pub fn step(&mut self) {
        let nanoseconds = match self.random.below(8) {
            _ if self.hurries => 1_000_000,
            0 => self.random.below(1_000_000),
            _ => self.random.below(20_000),
        };
        self.now = self.now + Duration::from_nanos(nanoseconds);
        for model in &self.models {
            if self.random.once_in(2) {
                model.step();
            }
        }
        let first = self.random.below(self.reactors.len() as u64) as usize;
        let cores = self.reactors.len();
        for core in (first..cores).chain(0..first) {
            if !self.random.once_in(4) {
                let _ = self.reactors[core].poll(self.now);
            }
        }
    }

    /// Runs `task` on the boot core to its end.
    pub fn wait_for<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        self.local(0).spawn("simulation", async move {
            let value = task.await;
            *place.borrow_mut() = Some(value);
        });
        for _ in 0..PATIENCE {
            self.step();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
        }
        panic!("the task hangs");
    }

    /// Asks for a reset of a controller, and does not wait.
    pub fn begin_reset(&self, controller: usize) {
        let local = self.local(0);
        self.local(0).spawn("reset", async move {
            let name = format!("Nvme{controller}");
            let _ = NvmeControllers::of(&local).reset(&name).await;
        });
    }

    /// Resets of all controllers so far.
    pub fn resets(&self) -> u32 {
        NvmeControllers::of(&self.local(0)).list().iter().map(|info| info.resets).sum()
    }

    /// Whether all controllers work.
    pub fn is_whole(&self) -> bool {
        let controllers = NvmeControllers::of(&self.local(0)).list();
        controllers.iter().all(|info| info.state == ControllerState::Enabled)
    }

    /// What is under way, for whoever finds out why it does not end.
    pub fn describe(&self) -> String {
        let groups: Vec<_> = self.groups.iter().map(|group| group.stats()).collect();
        let queues: Vec<_> = self.groups.iter().flat_map(|group| group.queues()).collect();
        let controllers = NvmeControllers::of(&self.local(0)).list();
        format!("{groups:#?} {queues:#?} {controllers:#?}")
    }

    /// Connections, commands and data buffers that the target has in use.
    pub fn in_use(&self) -> u32 {
        let stats = self.groups.iter().map(|group| group.stats());
        stats.map(|stats| stats.connections + stats.commands + stats.outstanding).sum()
    }
}

/// The virtual bdevs of a layout.
fn recipes(layout: Layout) -> Vec<Recipe> {
    let raid = |level, strip_size_kib| {
        let bases = vec![String::from("Nvme0n1"), String::from("Nvme1n1")];
        raid::recipe(RaidOptions { name: "R".into(), level, strip_size_kib, bases, uuid: None })
    };
    match layout {
        Layout::Plain => vec![],
        Layout::Passthru => vec![passthru::recipe("P", "Nvme0n1", None)],
        Layout::Half => {
            vec![split::recipe("Nvme0n1", SplitOptions { count: 2, size_mib: 0 })]
        }
        Layout::Late => {
            let latencies = Latencies::new([30, 500, 60, 900]);
            vec![delay::recipe("D", "Nvme0n1", latencies, None)]
        }
        Layout::Striped => vec![raid(Level::Raid0, 16), passthru::recipe("P", "R", None)],
        Layout::Mirrored => vec![raid(Level::Raid1, 0)],
    }
}
