extern crate std;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use basalt_env::{DmaBuf, DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_models::nvme::{Config, Model, ModelDevice, ModelRegisters, NamespaceConfig, Shadowing};
use basalt_nvme_spec::Status;

use crate::{Clock, Controller, InitError, IoQueue, Namespace, Options};

mod arbitration;
mod bring_up;
mod cmb;
mod faults;
mod fused;
mod io;
mod manage;
mod metadata;
mod protection;
mod prps;
mod quirks;
mod raw;

type Payload = (u64, Vec<DmaBuf>);
type Queue = IoQueue<ModelRegisters, Payload>;

/// A machine with one controller, and a clock that moves a millisecond at each look.
struct Bench {
    pool: DmaPool,
    model: Model,
    time: Rc<Cell<u64>>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let machine = Machine::new();
        let pool = machine.pool(64 << 20);
        let model = Model::new(machine.bus(), config);
        Self { pool, model, time: Rc::default() }
    }

    fn with_defaults() -> Self {
        Self::new(Config::default())
    }

    fn clock(&self) -> Clock {
        let time = Rc::clone(&self.time);
        Rc::new(move || {
            time.set(time.get() + 1_000_000);
            Instant::from_ns(time.get())
        })
    }

    fn now(&self) -> Instant {
        self.clock()()
    }

    fn advance(&self, by: Duration) {
        self.time.set(self.time.get() + by.as_nanos() as u64);
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1_000_000 {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            self.model.step();
        }
        panic!("the future never ends");
    }

    fn try_bring_up(&self, options: Options) -> Result<Controller<ModelDevice>, InitError> {
        self.run(Controller::bring_up(self.model.device(), &self.pool, self.clock(), options))
    }

    fn controller(&self, options: Options) -> Controller<ModelDevice> {
        self.try_bring_up(options).unwrap()
    }

    fn queue(&self, controller: &Controller<ModelDevice>, qid: u16) -> Queue {
        let queue = IoQueue::allocate(&self.pool, controller.queue_spec(qid).unwrap()).unwrap();
        self.run(controller.create_io_queue(queue.address(), None)).unwrap();
        queue
    }

    fn buffers(&self, lens: &[usize], fill: u8) -> Vec<DmaBuf> {
        let buffer = |&len: &usize| {
            let mut buf = self.pool.alloc(len).unwrap();
            buf.as_mut_slice().fill(fill);
            buf
        };
        lens.iter().map(buffer).collect()
    }

    /// Commits and polls until nothing is outstanding, at most a few thousand rounds.
    fn drain(&self, queue: &mut Queue) -> Vec<(Payload, Status)> {
        let mut done = Vec::new();
        for _ in 0..4096 {
            let _ = queue.commit();
            let _ = queue.poll(64, |payload, status| done.push((payload, status)));
            if queue.outstanding() == 0 {
                break;
            }
            self.model.step();
        }
        done
    }
}

/// A controller with one queue and its first namespace, ready for I/O.
struct Ready {
    bench: Bench,
    controller: Controller<ModelDevice>,
    queue: Queue,
    ns: Namespace,
}

impl Ready {
    fn new(config: Config, entries: u16) -> Self {
        let bench = Bench::new(config);
        let options = Options { queue_entries: entries, ..Options::default() };
        let controller = bench.controller(options);
        let queue = bench.queue(&controller, 1);
        let ns = controller.namespaces()[0];
        Self { bench, controller, queue, ns }
    }

    fn with_defaults() -> Self {
        Self::new(Config::default(), 32)
    }

    fn write(&mut self, lba: u64, data: Vec<DmaBuf>) -> Status {
        let blocks = data.iter().map(DmaBuf::len).sum::<usize>() as u32 / self.ns.block_size();
        self.queue.write(&self.ns, lba, blocks, (0, data)).unwrap();
        self.bench.drain(&mut self.queue)[0].1
    }

    fn read(&mut self, lba: u64, lens: &[usize]) -> (Vec<u8>, Status) {
        let blocks = lens.iter().sum::<usize>() as u32 / self.ns.block_size();
        let data = self.bench.buffers(lens, 0xee);
        self.queue.read(&self.ns, lba, blocks, (0, data)).unwrap();
        let ((_, data), status) = self.bench.drain(&mut self.queue).remove(0);
        (data.iter().flat_map(|buf| buf.as_slice().to_vec()).collect(), status)
    }

    fn submit_read(&mut self, tag: u64) {
        let data = self.bench.buffers(&[4096], 0);
        self.queue.read(&self.ns, tag * 8, 8, (tag, data)).unwrap();
    }

    /// Stops the controller and takes back what was outstanding.
    fn stop(&mut self) -> Vec<u64> {
        let proof = self.bench.run(self.controller.stop());
        let mut tags = Vec::new();
        self.queue.abort_all(proof, |(tag, _)| tags.push(tag)).unwrap();
        tags
    }
}

fn two_namespaces() -> Config {
    let namespaces =
        [NamespaceConfig::new(2, 512, 2048), NamespaceConfig::new(9, 4096, 256)].to_vec();
    Config { namespaces, ..Config::default() }
}
