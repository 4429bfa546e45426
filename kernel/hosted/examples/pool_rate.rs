//! What a core's pool of DMA memory costs: `cargo run --release -p basalt-hosted --example
//! pool_rate`.
//!
//! Nanoseconds per buffer of 4 KiB, each the best of several runs, as noise only ever adds.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use basalt_env::{DmaBuf, DmaPool, Parcel};
use basalt_hosted::Machine;

const RUNS: usize = 20;
const ROUNDS: u32 = 2_000;
const LEN: usize = 4096;
const ARENA_LEN: usize = 16 << 20;

fn main() {
    let machine = Machine::new();
    let pool = machine.pool(ARENA_LEN);
    println!("taken and given back: {:6.1} ns", best(|| at_home(&pool)));
    println!("given back from afar: {:6.1} ns", best(|| dropped_afar(&pool)));
    println!("taken in again:       {:6.1} ns", best(|| taken_in(&pool)));
}

/// Per buffer.
fn best(run: impl Fn() -> Duration) -> f64 {
    let best = (0..RUNS).map(|_| run()).min().unwrap_or_default();
    best.as_nanos() as f64 / f64::from(ROUNDS)
}

fn at_home(pool: &DmaPool) -> Duration {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        drop(black_box(pool.alloc(LEN)));
    }
    began.elapsed()
}

/// Time on another core, which drops buffers of `pool`.
fn dropped_afar(pool: &DmaPool) -> Duration {
    let parcels: Vec<_> =
        (0..ROUNDS).filter_map(|_| pool.alloc(LEN).ok()).map(Parcel::new).collect();
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            let began = Instant::now();
            drop(black_box(parcels));
            began.elapsed()
        });
        other.join().unwrap_or_default()
    })
}

/// Time at home, which finds them when it next takes a buffer.
fn taken_in(pool: &DmaPool) -> Duration {
    dropped_afar(pool);
    let began = Instant::now();
    let buf: Option<DmaBuf> = black_box(pool.alloc(LEN).ok());
    let took = began.elapsed();
    drop(buf);
    took
}
