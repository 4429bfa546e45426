//! Counts the driver's instructions per I/O: 4 KiB reads from the model, so many at a time (32
//! unless the first argument says otherwise).
//!
//! ```text
//! cargo build --release -p basalt-nvme --example instructions
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*driver_submits' \
//!     --toggle-collect='*driver_completes' target/release/examples/instructions 128
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*driver_finds_nothing' \
//!     target/release/examples/instructions
//! ```
//!
//! Divide the total that valgrind prints ("Collected") by the number of I/Os, or of empty polls,
//! that this prints. The model's own work behind the completion doorbell is no part of the
//! driver's: `callgrind_annotate --inclusive=yes` shows it as `write32`.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use basalt_env::{DmaBuf, Instant};
use basalt_hosted::Machine;
use basalt_models::nvme::{Config, Model, ModelRegisters};
use basalt_nvme::{Controller, IoQueue, Namespace, Options};

const ROUNDS: usize = 500;
const EMPTY_POLLS: usize = 10_000;

type Queue = IoQueue<ModelRegisters, (u64, DmaBuf)>;

#[inline(never)]
fn driver_submits(queue: &mut Queue, ns: &Namespace, idle: &mut Vec<(u64, DmaBuf)>) {
    while let Some(payload) = idle.pop() {
        if let Err(refused) = queue.read(ns, payload.0 * 8, 8, payload) {
            idle.push(refused.payload);
            return;
        }
    }
}

#[inline(never)]
fn driver_completes(queue: &mut Queue, idle: &mut Vec<(u64, DmaBuf)>) -> u32 {
    queue.poll(u32::MAX, |payload, _| idle.push(payload)).0
}

#[inline(never)]
fn driver_finds_nothing(queue: &mut Queue) -> bool {
    !queue.poll(u32::MAX, |_, _| {}).is_busy()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

fn main() {
    let depth = std::env::args().nth(1).and_then(|depth| depth.parse().ok()).unwrap_or(32);
    let machine = Machine::new();
    let pool = machine.pool(16 << 20);
    let model = Model::new(machine.bus(), Config::default());
    let clock = Rc::new(|| Instant::ZERO);
    let Ok(controller) =
        wait(Controller::bring_up(model.device(), &pool, clock, Options::default()))
    else {
        return;
    };
    let ns = controller.namespaces()[0];
    let Some(spec) = controller.queue_spec(1) else { return };
    let Ok(mut queue) = Queue::allocate(&pool, spec) else { return };
    let Ok(_) = wait(controller.create_io_queue(queue.address(), None)) else { return };
    let mut idle: Vec<_> =
        (0..depth).filter_map(|tag| Some((tag, pool.alloc(4096).ok()?))).collect();
    let mut done = 0;
    for _ in 0..ROUNDS {
        driver_submits(&mut queue, &ns, &mut idle);
        let _ = queue.commit();
        done += driver_completes(&mut queue, &mut idle);
    }
    let empty = (0..EMPTY_POLLS).filter(|_| driver_finds_nothing(&mut queue)).count();
    println!("{done} I/Os, {empty} empty polls");
}
