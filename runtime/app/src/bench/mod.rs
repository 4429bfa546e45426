//! A benchmark of the block layer from inside the program.
//!
//! `bench_run` keeps a fixed number of Ios in flight on one bdev from each of its cores, as SPDK's
//! `bdevperf` does, once per depth, and answers and logs one JSON object for each:
//!
//! ```text
//! {"bdev":"Nvme0n1","workload":"randread","io_size":4096,"depths":[1,32],"time_ms":3000}
//! ```
//!
//! `ios` in place of `time_ms` ends after so many Ios of each core, for runs that are to be
//! repeatable; `warmup_ms` runs before anything is counted; `seed` chooses the blocks; `cores` is
//! how many cores take part, each on a part of the bdev of its own. Workloads are bdevperf's
//! (`workload`), `rwmixread` being the percentage of reads in a mixed one; all that write
//! overwrite what is on the bdev. What takes longer than `io_timeout_ms`, if that is given, is
//! aborted and counted (`timed_out`). Cores look for completions all the time, unless `rest` has
//! them rest as they otherwise would. `bench_exit` ends the program with success, so that a
//! configuration of these two calls is a whole benchmark.
//!
//! Times are ticks of the processor's time-stamp counter. Where that counts instructions (QEMU's
//! `-icount shift=0`), `ticks_per_io` is instructions per Io: of everything the cores did, their
//! other pollers included, but for the rounds in which they neither found nor submitted an Io.

mod aim;
mod job;
mod params;
mod pattern;
mod run;
mod tally;
#[cfg(test)]
mod tests;
mod workload;

use alloc::vec::Vec;

use basalt_bdev::{Access, OpenError, Registry};
use basalt_env::Ticks;
use basalt_rpc::{Context, Outcome, Params, Router, RpcError, When, errno};
use serde_json::{Value, json};

use params::Bench;
use tally::Tally;

/// What a run is measured with.
#[derive(Clone, Copy)]
pub struct Instruments<T: Ticks> {
    /// The counter that times are taken from.
    pub ticks: T,
    /// How often memory was allocated from the heap since the start, by any core.
    pub allocations: fn() -> u64,
}

/// Adds the benchmark's methods; `end` is what `bench_exit` does.
pub fn register<T: Ticks + Send>(
    router: &mut Router,
    instruments: Instruments<T>,
    end: impl Fn() + 'static,
) {
    let run = move |cx, params| run_all(cx, instruments, params);
    router.register_async("bench_run", When::Runtime, run);
    router.register("bench_exit", When::Runtime, move |_, params| {
        params.none()?;
        log::info!(target: "bench", "done");
        end();
        Ok(Value::Bool(true))
    });
}

async fn run_all<T: Ticks + Send>(cx: Context, with: Instruments<T>, params: Params) -> Outcome {
    let bench = Bench::read(params, cx.local().cores())?;
    let access = if bench.workload.writes() { Access::ReadWrite } else { Access::ReadOnly };
    let opened = cx.service::<Registry>()?.open(&bench.bdev, access);
    let descriptor = opened.map_err(|error| cannot_open(&bench.bdev, error))?;
    descriptor.set_timeout(bench.io_timeout);
    let mut results = Vec::new();
    for &depth in &bench.depths {
        let tally = run::on_all_cores(cx.local(), with, &descriptor, &bench, depth).await?;
        let result = report(&bench, depth, with.ticks.hz(), &tally);
        log::info!(target: "bench", "{result}");
        results.push(result);
    }
    Ok(Value::Array(results))
}

fn report(bench: &Bench, depth: usize, hz: u64, tally: &Tally) -> Value {
    let hz = u128::from(hz);
    let ns = |ticks: u64| (u128::from(ticks) * 1_000_000_000 / hz) as u64;
    let latency = tally.latency.summary();
    let per_io = |count: u64| count.checked_div(latency.count).unwrap_or(0);
    let iops = (u128::from(latency.count) * hz / u128::from(tally.ticks.max(1))) as u64;
    // To a thousandth: what is allocated now and then does not count as one for each Io.
    let allocations = (tally.allocations as f64 * 1e3 / latency.count.max(1) as f64) as u64;
    json!({
        "bdev": bench.bdev,
        "workload": bench.workload.name,
        "io_size": bench.io_size,
        "depth": depth,
        "cores": bench.cores,
        "ios": latency.count,
        "iops": iops,
        "bytes_per_s": iops * bench.io_size as u64,
        "mean_ns": ns(latency.mean),
        "p50_ns": ns(latency.p50),
        "p99_ns": ns(latency.p99),
        "p999_ns": ns(latency.p99_9),
        "max_ns": ns(latency.max),
        "timed_out": tally.timed_out,
        "ticks_per_io": per_io(tally.ticks_busy),
        "ticks_per_io_total": per_io(tally.ticks),
        "rounds_busy": tally.rounds_busy,
        "allocations_per_io": allocations as f64 / 1e3,
        "tick_hz": hz as u64,
    })
}

fn cannot_open(bdev: &str, error: OpenError) -> RpcError {
    let errno = match error {
        OpenError::NoMemory => errno::ENOMEM,
        OpenError::Claimed => errno::EBUSY,
        OpenError::NoSuchBdev | OpenError::NoQueueOnCore | OpenError::Removed => errno::ENODEV,
    };
    RpcError::errno(errno, format_args!("{bdev}: {error}"))
}
