use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use basalt_bdev::Access;
use basalt_bdev::malloc::{self, MallocOptions};
use basalt_bdev::vbdev::Vbdevs;
use basalt_bdev::vbdev::delay::{self, Latencies, Latency};
use basalt_models::pipes::TestStack;
use basalt_nvme_spec::Command;
use basalt_nvmf::{
    DEFAULT_NQN, DISCOVERY_NQN, GroupStats, HostPolicy, NamespaceOptions, PollGroup,
    SubsystemOptions, Target, TransportConfig,
};

use super::{Host, Manners};
use crate::machine::{CORES, Machine};

/// The port of everything.
const PORT: u16 = 4420;

/// The subsystem and the host that must not notice anything.
const BYSTANDERS_NQN: &str = "nqn.2026-11.org.example:bystander";
const BYSTANDER: &str = "nqn.2014-08.org.nvmexpress:uuid:bystander";
/// What is exported, and where: bdev, blocks of 512 bytes.
const DISKS: [(&str, u64); 3] = [("Fast", 2048), ("Base", 4096), ("Apart", 256)];
/// How long an I/O of the slow bdev takes, µs, unless somebody says otherwise.
const DELAY_US: u64 = 200;
/// Longer than the target waits for anything.
const ALL_TIMEOUTS: Duration = Duration::from_secs(40);

/// What is in use on a core: connections, slots, commands, outstanding, bytes of DMA memory.
type InUse = (u32, u32, u32, u32, usize);

/// A machine that runs the target, and a host beside those that are fuzzed.
pub struct World {
    pub machine: Machine,
    pub stacks: Vec<Rc<RefCell<TestStack>>>,
    pub target: Rc<Target>,
    groups: Vec<Rc<PollGroup>>,
    latencies: Latencies,
    bystander: Option<[Host; 2]>,
    turns: u64,
    before: Vec<InUse>,
}

impl World {
    /// One with two namespaces in the default subsystem, the second of which is slow.
    pub fn new() -> Self {
        let machine = Machine::new(CORES);
        for (name, num_blocks) in DISKS {
            let options = MallocOptions {
                name: Some(name.into()),
                num_blocks,
                block_size: 512,
                ..MallocOptions::default()
            };
            malloc::create(&machine.registry, options).unwrap();
        }
        let latencies = Latencies::new([DELAY_US; 4]);
        let vbdevs = Vbdevs::of(&machine.local(0)).unwrap();
        vbdevs.create(delay::recipe("Slow", "Base", latencies.clone(), None)).unwrap();
        let config = TransportConfig::default();
        let target = Target::start(&machine.local(0), config);
        let mut world = Self {
            machine,
            stacks: Vec::new(),
            target,
            groups: Vec::new(),
            latencies,
            bystander: None,
            turns: 0,
            before: Vec::new(),
        };
        for core in 0..CORES {
            let stack = Rc::new(RefCell::new(TestStack::new()));
            let (local, pool) = (world.machine.local(core), world.machine.pools[core].clone());
            world.groups.push(PollGroup::start(&local, stack.clone(), pool, config));
            world.stacks.push(stack);
        }
        world.machine.rounds(8);
        world.export();
        world.invite();
        world
    }

    fn export(&mut self) {
        for nqn in [DEFAULT_NQN, BYSTANDERS_NQN] {
            self.target.create_subsystem(nqn, SubsystemOptions::default()).unwrap();
        }
        self.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
        self.target.add_host(BYSTANDERS_NQN, BYSTANDER).unwrap();
        self.add_ns(DEFAULT_NQN, "Fast");
        self.add_ns(DEFAULT_NQN, "Slow");
        self.add_ns(BYSTANDERS_NQN, "Apart");
        for nqn in [DEFAULT_NQN, BYSTANDERS_NQN, DISCOVERY_NQN] {
            let target = Rc::clone(&self.target);
            let listens = async move { target.add_listener(nqn, PORT).await };
            self.machine.wait_for(listens, || {}).unwrap();
        }
    }

    fn add_ns(&self, nqn: &str, bdev: &str) {
        let Ok(bdev) = self.machine.registry.open(bdev, Access::ReadWrite) else { return };
        let _ = self.target.add_ns(nqn, bdev, NamespaceOptions::default());
    }

    /// The first namespace goes, or comes back.
    pub fn toggle_namespace(&mut self) {
        if self.target.remove_ns(DEFAULT_NQN, 1).is_err() {
            self.add_ns(DEFAULT_NQN, "Fast");
        }
    }

    /// The slow bdev takes so long from now on.
    pub fn set_delay_us(&self, us: u64) {
        Latency::ALL.iter().for_each(|(which, _)| self.latencies.set_us(*which, us));
    }

    /// Connects the bystander, and takes down what is in use then.
    fn invite(&mut self) {
        let mut admin = Host::named(self, 0, BYSTANDERS_NQN, BYSTANDER);
        let cntlid = admin.connect(self, 0, 0xffff).expect("the bystander's controller");
        let mut io = Host::named(self, 1, BYSTANDERS_NQN, BYSTANDER);
        io.connect(self, 1, cntlid).expect("the bystander's queue");
        self.bystander = Some([admin, io]);
        self.look();
        self.machine.rounds(20);
        self.before = self.in_use();
    }

    /// The bystander writes and reads what it wrote.
    pub fn look(&mut self) {
        let Some([mut admin, mut io]) = self.bystander.take() else { return };
        self.turns += 1;
        let lba = self.turns * 8 % DISKS[2].1;
        let data = vec![self.turns as u8; 4096];
        let wrote = io.run(self, Command::write(1, lba, 8), &data, 0);
        assert!(wrote.status().is_success(), "{}", wrote.status());
        let read = io.run(self, Command::read(1, lba, 8), &[], 4096);
        assert!(read.status().is_success() && io.read_last() == data, "{}", read.status());
        let alive = admin.run(self, Command::keep_alive(), &[], 0);
        assert!(alive.status().is_success(), "{}", alive.status());
        self.bystander = Some([admin, io]);
    }

    /// What is and was on a core.
    pub fn stats(&self, core: usize) -> GroupStats {
        self.groups[core].stats()
    }

    fn in_use(&self) -> Vec<InUse> {
        let of = |core: usize| {
            let (stats, memory) = (self.stats(core), self.machine.pools[core].stats());
            let used = memory.bytes_total - memory.bytes_free;
            (stats.connections, stats.slots, stats.commands, stats.outstanding, used)
        };
        (0..CORES).map(of).collect()
    }

    /// Gives everything under way the time to end, after which nothing may still be under way that
    /// does not wait for these hosts; then they go, and nothing of them may be left.
    pub fn end(mut self, hosts: &mut [Host]) {
        self.set_delay_us(DELAY_US);
        for stack in &self.stacks {
            let mut stack = stack.borrow_mut();
            (stack.window, stack.chunk) = (usize::MAX, usize::MAX);
        }
        for _ in 0..4 {
            self.machine.pass(ALL_TIMEOUTS / 4);
            hosts.iter_mut().for_each(|host| host.pump(&self));
            // As often as it promised.
            self.look();
        }
        hosts.iter().for_each(|host| host.check_rest(&self));
        hosts.iter().for_each(|host| host.hang_up(&self));
        self.machine.rounds(80);
        self.look();
        let left = self.in_use();
        let same = left.iter().zip(&self.before).all(|(now, before)| {
            let counts = |core: &InUse| (core.0, core.1, core.2, core.3);
            // A buffer kept in reserve may have gone back to the pool.
            counts(now) == counts(before) && now.4 <= before.4
        });
        assert!(same, "in use before {:?}, afterwards {left:?}", self.before);
        assert_eq!(self.target.controllers().len(), 1, "only the bystander's controller is left");
        let channels: u32 = (0..CORES).map(|core| self.stats(core).channels).sum();
        assert!(channels as usize <= DISKS.len() * CORES, "{channels} channels");
        self.part();
    }

    /// The bystander goes too, and with it the last buffer.
    fn part(mut self) {
        let Some(hosts) = self.bystander.take() else { return };
        hosts.iter().for_each(|host| host.hang_up(&self));
        self.machine.rounds(80);
        let left = self.in_use();
        assert!(left.iter().all(|core| *core == (0, 0, 0, 0, core.4)), "{left:?}");
    }

    /// A connection of its own for somebody with such manners.
    pub fn dial(&mut self, core: usize, manners: Manners) -> Host {
        let pipe = self.stacks[core].borrow_mut().connect(PORT);
        Host::new(core, pipe, manners)
    }
}
