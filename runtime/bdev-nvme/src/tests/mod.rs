//! Tests of the adapter on several simulated cores, against the model of a controller.

mod aborted;
mod arbitration;
mod attaching;
mod borrowing;
mod faults;
mod fused;
mod injected;
mod manage;
mod memory_buffer;
mod poll_group;
mod switch;
mod transfer;
mod zones;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::{Access, Channel, Descriptor, Io, Op, Registry, SgList, suite};
use basalt_env::{CoreId, DmaBuf, DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_models::nvme::{Config, Model};
use basalt_reactor::{Local, Reactor, mesh};

use crate::{AttachError, ControllerInfo, IoPath, NvmeControllers, Options, attach};

/// Time limit for I/O in these tests.
const IO_TIMEOUT: Duration = Duration::from_millis(200);
/// Rounds of 1 ms after which something is taken to hang.
const ROUNDS_MAX: u32 = 300_000;

/// A machine with a few cores that one thread runs in turn, and one controller.
struct Rig {
    reactors: Vec<Reactor>,
    pools: Vec<DmaPool>,
    registry: Rc<Registry>,
    machine: Machine,
    model: Model,
    now: Instant,
    /// The core that the suite runs on.
    suite_core: usize,
}

/// Options whose limits are soon reached.
fn quick() -> Options {
    Options {
        io_timeout: IO_TIMEOUT,
        admin_timeout: Duration::from_millis(100),
        reset_timeout: Duration::from_secs(10),
        ..Options::named("Nvme0")
    }
}

impl Rig {
    fn new(cores: usize, config: Config) -> Self {
        let machine = Machine::new();
        let reactors: Vec<_> = mesh(cores, basalt_reactor::Options::default())
            .into_iter()
            .map(|seed| seed.build())
            .collect();
        let pools: Vec<_> = (0..cores).map(|_| machine.pool(16 << 20)).collect();
        for (reactor, pool) in reactors.iter().zip(&pools) {
            reactor.local().provide(Rc::new(pool.clone()));
        }
        let registry = Rc::new(Registry::new(cores, 1));
        reactors[0].local().provide(Rc::clone(&registry));
        let model = Model::new(machine.bus(), config);
        Self { reactors, pools, registry, machine, model, now: Instant::ZERO, suite_core: 0 }
    }

    /// A machine whose controller is attached as `Nvme0`.
    fn attached(cores: usize, config: Config) -> Self {
        let mut rig = Self::new(cores, config);
        rig.attach().unwrap();
        rig
    }

    fn attach(&mut self) -> Result<Vec<String>, AttachError> {
        self.attach_with(quick())
    }

    fn attach_with(&mut self, options: Options) -> Result<Vec<String>, AttachError> {
        let (local, device) = (self.core(0), self.model.device());
        self.wait_for(async move { attach(&local, device, IoPath::new(), options).await })
    }

    fn core(&self, core: usize) -> Local {
        self.reactors[core].local()
    }

    /// A round of 1 ms on every core.
    fn round(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.model.step();
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

    fn open(&self, name: &str) -> Descriptor {
        self.registry.open(name, Access::ReadWrite).unwrap()
    }

    fn channel(&self, core: usize) -> Channel {
        self.open("Nvme0n1").channel(&self.core(core)).unwrap()
    }

    fn buf(&self, core: usize, len: usize) -> DmaBuf {
        self.pools[core].alloc(len).unwrap()
    }

    fn filled(&self, core: usize, bytes: &[u8]) -> SgList {
        let mut buf = self.buf(core, bytes.len());
        buf.as_mut_slice().copy_from_slice(bytes);
        SgList::One(buf)
    }

    /// A read of one block of 512 bytes.
    fn read(&self, core: usize, lba: u64, tag: u64) -> Io {
        Io::with_data(Op::Read, lba, 1, SgList::One(self.buf(core, 512)), tag)
    }

    /// Runs the machine until the channel has handed back `count` Ios, in order of tag.
    fn drain(&mut self, channel: &mut Channel, count: usize) -> Vec<Io> {
        let mut ended = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let _ = channel.poll(|io| ended.push(io));
            if ended.len() >= count {
                ended.sort_by_key(|io| io.tag);
                return ended;
            }
            self.round();
        }
        panic!("{} of {count} Ios came back", ended.len());
    }

    fn info(&self) -> ControllerInfo {
        NvmeControllers::of(&self.core(0)).get("Nvme0").unwrap()
    }

    fn assert_no_violations(&self) {
        assert_eq!(self.model.violations(), Vec::<String>::new());
    }
}

impl suite::Rig for Rig {
    fn step(&mut self) {
        self.round();
    }

    fn local(&self) -> Local {
        self.core(self.suite_core)
    }

    fn pool(&self) -> DmaPool {
        self.pools[self.suite_core].clone()
    }
}
