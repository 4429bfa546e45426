//! What a tracepoint costs, in nanoseconds: where it is off, and where it is on and writes an entry
//! with the time-stamp counter's time.
//!
//! `cargo run --release -p basalt-reactor --example trace_rate`. Each figure is the best of several
//! runs, as noise only ever adds.

use std::hint::black_box;
use std::time::Instant as HostInstant;

use basalt_env::Ticks;
use basalt_hosted::Clock;
use basalt_metrics::{Tpoint, TraceGroup};
use basalt_reactor::{Local, Options, TraceMasks, mesh};

const EVENTS: u64 = 1_000_000;
const RUNS: usize = 15;
/// Entries kept, as many as the machine keeps unless it is told otherwise.
const LEN: usize = 32 * 1024;

fn main() {
    let reactor = mesh(1, Options::default()).remove(0).build();
    let local = reactor.local();
    let clock = Clock::start();
    local.mesh().set_trace_clock(move || clock.ticks(), move || clock.hz());
    println!("loop alone:              {:6.2} ns", best(|| pass(|_| {})));
    println!("tracepoint that is off:  {:6.2} ns", best(|| pass(|n| event(&local, n))));
    let mut masks = TraceMasks::default();
    masks.set(TraceGroup::Bdev, u64::MAX);
    if local.set_trace_masks(local.core(), masks, local.trace_start(), LEN).is_err() {
        return eprintln!("no memory for {LEN} entries");
    }
    println!("tracepoint that is on:   {:6.2} ns", best(|| pass(|n| event(&local, n))));
    println!("of which reading a clock:{:6.2} ns", best(|| pass(|_| _ = black_box(clock.ticks()))));
    let written = local.mesh().traced(local.core()).map_or(0, |ring| ring.written());
    println!("entries written:        {written}");
}

#[inline(always)]
fn event(local: &Local, n: u64) {
    if local.traces(TraceGroup::Bdev) {
        local.trace(Tpoint::BdevIoDone, (0, 1), [n, 8, 1234]);
    }
}

fn best(run: impl Fn() -> f64) -> f64 {
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds that `event` takes.
fn pass(event: impl Fn(u64)) -> f64 {
    let start = HostInstant::now();
    (0..EVENTS).for_each(|n| event(black_box(n)));
    start.elapsed().as_nanos() as f64 / EVENTS as f64
}
