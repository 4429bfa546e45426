//! What the loop itself costs, in nanoseconds: pollers, events, wakes, and the way
//! between two cores.
//!
//! `cargo run --release -p basalt-reactor --example event_rate`. Each figure is the best of several
//! runs, as noise only ever adds. Compare with the peers' reactor: 60 / 7 ns per poll with 1 / 100
//! pollers, 80 / 29 ns per message to oneself with 1 / 16 in flight.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant as HostInstant;

use basalt_env::{CoreId, Instant, Work};
use basalt_reactor::{Local, Options, Reactor, Seed, mesh, yield_now};

const ROUNDS: u64 = 200_000;
const RUNS: usize = 9;

fn main() {
    println!("round with nothing registered: {:6.2} ns", best(empty_round));
    for count in [1, 10, 100] {
        println!("poller, {count:3} registered:      {:6.2} ns per poll", best(|| pollers(count)));
    }
    for in_flight in [1, 16] {
        let ns = best(|| events_to_self(in_flight));
        println!("event to oneself, {in_flight:2} in flight: {ns:6.2} ns");
    }
    for in_flight in [1, 16] {
        let ns = best(|| events_through_mailbox(in_flight));
        println!("event through the mailbox, {in_flight:2} in flight: {ns:6.2} ns");
    }
    for in_flight in [1, 16] {
        let ns = best(|| round_trips(in_flight));
        println!("to another core and back, {in_flight:2} in flight: {ns:6.2} ns");
    }
    for tasks in [1, 16] {
        println!("yield, {tasks:2} tasks: {:6.2} ns", best(|| yields(tasks)));
    }
}

fn best(run: impl Fn() -> f64) -> f64 {
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn reactor() -> Reactor {
    mesh(1, Options::default()).remove(0).build()
}

/// Nanoseconds of `ROUNDS` rounds. The rounds get a made-up time: reading a clock is not ours.
fn time_rounds(reactor: &mut Reactor) -> f64 {
    let start = HostInstant::now();
    for round in 0..ROUNDS {
        let _ = black_box(reactor.poll(Instant::from_ns(round)));
    }
    start.elapsed().as_nanos() as f64
}

fn empty_round() -> f64 {
    time_rounds(&mut reactor()) / ROUNDS as f64
}

fn pollers(count: u64) -> f64 {
    let mut reactor = reactor();
    let runs = Rc::new(Cell::new(0u64));
    for _ in 0..count {
        let runs = runs.clone();
        let poll = move |_: &Local| {
            runs.set(runs.get() + 1);
            Work::IDLE
        };
        reactor.local().poller("count", poll).detach();
    }
    let ns = time_rounds(&mut reactor);
    assert_eq!(runs.get(), count * ROUNDS);
    ns / (count * ROUNDS) as f64
}

fn events_to_self(in_flight: u64) -> f64 {
    fn again(local: &Local) {
        let _ = local.send(CoreId::BOOT, again);
    }
    let mut reactor = reactor();
    (0..in_flight).for_each(|_| again(&reactor.local()));
    let per_round = per_round(&mut reactor);
    time_rounds(&mut reactor) / (ROUNDS * per_round) as f64
}

/// The way between cores, both ends on one: lower bound of what crossing costs.
fn events_through_mailbox(in_flight: u64) -> f64 {
    fn again(local: &Local) {
        let _ = local.mesh().send(CoreId::BOOT, again);
    }
    let mut reactor = reactor();
    (0..in_flight).for_each(|_| again(&reactor.local()));
    let per_round = per_round(&mut reactor);
    time_rounds(&mut reactor) / (ROUNDS * per_round) as f64
}

/// How many events one round runs: up to the budget, as each sends the next.
fn per_round(reactor: &mut Reactor) -> u64 {
    u64::from(reactor.poll(Instant::ZERO).0)
}

static TRIPS: AtomicU64 = AtomicU64::new(0);

/// Between two threads, each of which polls its reactor without rest.
fn round_trips(in_flight: u64) -> f64 {
    const COUNT: u64 = 50_000;
    fn there(local: &Local) {
        let _ = local.send(CoreId(0), back);
    }
    fn back(local: &Local) {
        TRIPS.fetch_add(1, Ordering::Relaxed);
        let _ = local.send(CoreId(1), there);
    }
    TRIPS.store(0, Ordering::Relaxed);
    let mut seeds = mesh(2, Options::default());
    let far = seeds.pop().map(|seed| thread::spawn(move || poll_until(seed, COUNT)));
    let Some(near) = seeds.pop() else { return f64::NAN };
    for _ in 0..in_flight {
        let _ = near.cores().send(CoreId(1), there);
    }
    let start = HostInstant::now();
    poll_until(near, COUNT);
    let ns = start.elapsed().as_nanos() as f64;
    far.map(thread::JoinHandle::join);
    ns / COUNT as f64
}

fn poll_until(seed: Seed, trips: u64) {
    let mut reactor = seed.build();
    while TRIPS.load(Ordering::Relaxed) < trips {
        let _ = reactor.poll(Instant::ZERO);
    }
}

fn yields(tasks: u64) -> f64 {
    let mut reactor = reactor();
    for _ in 0..tasks {
        reactor.local().spawn("yield", async {
            loop {
                yield_now().await;
            }
        });
    }
    time_rounds(&mut reactor) / (tasks * ROUNDS) as f64
}
