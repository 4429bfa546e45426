//! Tests of the layer itself; the modules' behaviour is in `suite`.

mod asynchronous;
mod channel;
mod gate;
mod modules;
mod registry;
mod watched;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_env::{DmaPool, Instant, Work};
use basalt_hosted::Machine;
use basalt_reactor::{Local, Options, Reactor, mesh};

use crate::{Bdev, BdevInfo, Io, IoChannel, Op, OpenError, Registry, RejectReason, suite};

/// A machine with a few cores that one thread runs in turn.
pub(crate) struct Cores {
    reactors: Vec<Reactor>,
    now: Instant,
    pub(crate) pool: DmaPool,
    pub(crate) registry: Rc<Registry>,
}

impl Cores {
    pub(crate) fn new(cores: usize) -> Self {
        let reactors: Vec<_> =
            mesh(cores, Options::default()).into_iter().map(|seed| seed.build()).collect();
        let registry = Rc::new(Registry::new(cores, 42));
        reactors[0].local().provide(Rc::clone(&registry));
        let pool = Machine::new().pool(16 << 20);
        for reactor in &reactors {
            reactor.local().provide(Rc::new(pool.clone()));
        }
        Self { reactors, now: Instant::from_ns(1_000), pool, registry }
    }

    pub(crate) fn core(&self, core: usize) -> Local {
        self.reactors[core].local()
    }

    /// A round of 1 µs.
    pub(crate) fn round(&mut self) {
        self.now = self.now + Duration::from_micros(1);
        for reactor in &mut self.reactors {
            let _ = reactor.poll(self.now);
        }
    }
}

impl suite::Rig for Cores {
    fn step(&mut self) {
        self.round();
    }

    fn local(&self) -> Local {
        self.core(0)
    }

    fn pool(&self) -> DmaPool {
        self.pool.clone()
    }
}

/// A RAM disk with these bytes, in blocks of 512, from when it is registered.
pub(crate) fn stored(registry: &Registry, name: &str, bytes: &[u8]) {
    let disk = crate::malloc::filled(registry, name, bytes).unwrap();
    registry.register(disk).unwrap();
}

/// Ios a [`Held`] bdev has accepted, for the test to answer.
type Queue = Rc<RefCell<Vec<Io>>>;

/// A bdev whose test decides when and how an Io ends. Its queue is a service of the core.
struct Held {
    info: BdevInfo,
    depth: usize,
}

/// Where [`Held`] channels of a core keep their Ios, and where the test puts finished ones.
#[derive(Default)]
struct HeldQueues {
    accepted: Queue,
    finished: Queue,
}

impl HeldQueues {
    fn of(local: &Local) -> Rc<Self> {
        local.service::<Self>().unwrap_or_else(|| {
            local.provide(Rc::new(Self::default()));
            local.service().unwrap()
        })
    }

    /// Ends the oldest accepted Io.
    fn end_one(&self, status: crate::IoStatus) {
        let mut io = self.accepted.borrow_mut().remove(0);
        io.status = status;
        self.finished.borrow_mut().push(io);
    }
}

impl Held {
    fn register(registry: &Registry, name: &str, depth: usize) -> Arc<dyn Bdev> {
        let bdev: Arc<dyn Bdev> = Arc::new(Self { info: info(registry, name), depth });
        registry.register(Arc::clone(&bdev)).unwrap();
        bdev
    }
}

fn info(registry: &Registry, name: &str) -> BdevInfo {
    BdevInfo {
        name: String::from(name),
        product_name: "test disk",
        block_size: 512,
        num_blocks: 1000.into(),
        uuid: registry.make_uuid(name),
        optimal_io_boundary: 0,
    }
}

impl Bdev for Held {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        matches!(op, Op::Read | Op::Write | Op::Flush | Op::WriteZeroes)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(HeldChannel { queues: HeldQueues::of(local), depth: self.depth }))
    }
}

struct HeldChannel {
    queues: Rc<HeldQueues>,
    depth: usize,
}

impl IoChannel for HeldChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.queues.accepted.borrow().len() >= self.depth {
            return Err(RejectReason::QueueFull);
        }
        self.queues.accepted.borrow_mut().push(io.take());
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let mut ended: Vec<_> = self.queues.finished.borrow_mut().drain(..).collect();
        let work = Work(ended.len() as u32);
        ended.iter_mut().for_each(done);
        work
    }
}
