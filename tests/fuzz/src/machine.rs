//! Cores, memory and time for what is fuzzed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use basalt_bdev::Registry;
use basalt_env::{DmaPool, Instant};
use basalt_hosted::Bus;
use basalt_reactor::{Local, Options, Reactor, mesh};

/// DMA memory of a core.
const MEMORY: usize = 8 << 20;
/// Rounds that a task may take.
const PATIENCE: u32 = 200_000;

/// Cores at most.
pub const CORES: usize = 2;

thread_local! {
    /// A process keeps its arenas for good, so each thread has some and uses them again and again:
    /// what an input leaves taken is found out at its end.
    static MEMORIES: Memories = Memories::new();
}

struct Memories {
    machine: basalt_hosted::Machine,
    pools: Vec<DmaPool>,
}

impl Memories {
    fn new() -> Self {
        let machine = basalt_hosted::Machine::new();
        let pools = (0..CORES).map(|_| machine.pool(MEMORY)).collect();
        Self { machine, pools }
    }
}

/// The bus of this thread's memory.
pub fn bus() -> Bus {
    MEMORIES.with(|memories| memories.machine.bus())
}

/// Bytes free in each of this thread's pools.
pub fn bytes_free() -> Vec<usize> {
    let free = |pool: &DmaPool| pool.stats().bytes_free;
    MEMORIES.with(|memories| memories.pools.iter().map(free).collect())
}

/// This thread's memory of the boot core.
pub fn pool() -> DmaPool {
    MEMORIES.with(|memories| memories.pools[0].clone())
}

/// A machine of one or two cores with a registry of bdevs, and time.
pub struct Machine {
    pub reactors: Vec<Reactor>,
    pub pools: Vec<DmaPool>,
    pub registry: Rc<Registry>,
    pub now: Instant,
    /// How long a round takes.
    pub round: Duration,
}

impl Machine {
    /// One whose memory is that of this thread.
    pub fn new(cores: usize) -> Self {
        let seeds = mesh(cores, Options::default());
        let reactors: Vec<_> = seeds.into_iter().map(|seed| seed.build()).collect();
        let pools = MEMORIES.with(|memories| memories.pools[..cores].to_vec());
        for (reactor, pool) in reactors.iter().zip(&pools) {
            reactor.local().provide(Rc::new(pool.clone()));
        }
        let registry = Rc::new(Registry::new(cores, 1));
        reactors[0].local().provide(Rc::clone(&registry));
        let (now, round) = (Instant::ZERO, Duration::from_micros(10));
        Self { reactors, pools, registry, now, round }
    }

    /// A core's handle.
    pub fn local(&self, core: usize) -> Local {
        self.reactors[core].local()
    }

    /// One round of every core.
    pub fn step(&mut self) {
        self.now = self.now + self.round;
        for reactor in &mut self.reactors {
            let _ = reactor.poll(self.now);
        }
    }

    /// So many rounds.
    pub fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.step());
    }

    /// Lets time pass in big steps.
    pub fn pass(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(250);
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            self.step();
        }
        self.rounds(40);
    }

    /// Runs `task` on the boot core to its end, with `between` after each round.
    pub fn wait_for<T: 'static>(
        &mut self,
        task: impl Future<Output = T> + 'static,
        mut between: impl FnMut(),
    ) -> T {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        self.local(0).spawn("fuzz", async move {
            let value = task.await;
            *place.borrow_mut() = Some(value);
        });
        for _ in 0..PATIENCE {
            self.step();
            between();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
        }
        panic!("the task hangs");
    }
}
