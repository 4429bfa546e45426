//! A benchmark of the block layer from inside the machine.
//!
//! `bench_run` keeps a fixed number of random Ios in flight on one bdev from the boot core, as
//! SPDK's `bdevperf` does, once per depth, and answers and logs one JSON object for each:
//!
//! ```text
//! {"bdev":"Nvme0n1","workload":"randread","io_size":4096,"depths":[1,32],"time_ms":3000}
//! ```
//!
//! `ios` in place of `time_ms` ends after so many Ios, for runs that are to be repeatable;
//! `warmup_ms` runs before anything is counted; `seed` chooses the blocks. `randwrite` overwrites
//! what is on the bdev. `bench_exit` ends the machine with success, so that a configuration of
//! these two calls is a whole benchmark.
//!
//! Times are ticks of the processor's time-stamp counter. Where that counts instructions (QEMU's
//! `-icount shift=0`), `ticks_per_io` is instructions per Io: of everything the core did, its other
//! pollers included, but for the rounds in which it neither found nor submitted an Io.

mod job;
mod params;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bare::{Clock, EXIT_SUCCESS, exit};
use basalt_bdev::{Access, Descriptor, Op, OpenError, Registry};
use basalt_env::{DmaPool, Work};
use basalt_reactor::Local;
use basalt_reactor::sync::oneshot;
use basalt_rpc::{Context, Outcome, Params, Router, RpcError, When, errno};
use serde_json::{Value, json};

use job::{Job, Progress, Shape, Stop, Tally};
use params::{Amount, Bench};

/// How much longer than asked a run may take before it is given up: a drive that answers at all
/// does so within its own time limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest a run over a number of Ios may take.
const COUNT_TIME_MAX: Duration = Duration::from_secs(600);

/// Adds the benchmark's methods.
pub fn register(router: &mut Router, clock: Clock) {
    router.register_async("bench_run", When::Runtime, move |cx, params| run(cx, clock, params));
    router.register("bench_exit", When::Runtime, |_, params| {
        params.none()?;
        log::info!(target: "bench", "done");
        exit(EXIT_SUCCESS)
    });
}

async fn run(cx: Context, clock: Clock, params: Params) -> Outcome {
    let bench = Bench::read(params)?;
    let access = if bench.op == Op::Write { Access::ReadWrite } else { Access::ReadOnly };
    let opened = cx.service::<Registry>()?.open(&bench.bdev, access);
    let descriptor = opened.map_err(|error| cannot_open(&bench.bdev, error))?;
    let pool = cx.service::<DmaPool>()?;
    let mut results = Vec::new();
    for &depth in &bench.depths {
        let job = prepare(&cx, clock, &pool, &descriptor, &bench, depth)?;
        let job = measure(cx.local(), clock, job, &bench).await?;
        let result = report(&bench, depth, clock, job.tally());
        log::info!(target: "bench", "{result}");
        results.push(result);
    }
    Ok(Value::Array(results))
}

fn prepare(
    cx: &Context,
    clock: Clock,
    pool: &DmaPool,
    descriptor: &Descriptor,
    bench: &Bench,
    depth: usize,
) -> Result<Box<Job>, RpcError> {
    let block_size = descriptor.info().block_size;
    let shape = Shape::new(bench, descriptor.info().num_blocks, block_size)?;
    let channel = descriptor.channel(cx.local());
    let channel = channel.map_err(|error| cannot_open(&bench.bdev, error))?;
    let buffers = (0..depth).map(|_| pool.alloc(bench.io_size)).collect::<Result<Vec<_>, _>>();
    let buffers = buffers.map_err(|error| RpcError::errno(errno::ENOMEM, error))?;
    Ok(Box::new(Job::new(channel, clock, shape, bench.seed, buffers)))
}

/// Warms up, then measures.
async fn measure(
    local: &Local,
    clock: Clock,
    mut job: Box<Job>,
    bench: &Bench,
) -> Result<Box<Job>, RpcError> {
    if !bench.warmup.is_zero() {
        job.start(Stop::after(clock, bench.warmup));
        job = finish(local, job, bench.warmup + PATIENCE).await?;
    }
    let (stop, limit) = match bench.amount {
        Amount::Time(time) => (Stop::after(clock, time), time + PATIENCE),
        Amount::Ios(count) => (Stop::after_ios(count), COUNT_TIME_MAX),
    };
    job.start(stop);
    finish(local, job, limit).await
}

/// Runs the job to its end as a poller of this core.
async fn finish(local: &Local, job: Box<Job>, limit: Duration) -> Result<Box<Job>, RpcError> {
    let (sender, receiver) = oneshot::channel();
    let mut running = Some((job, sender));
    let poller = local.poller("bench", move |_| {
        // Busy to the end, as a core that waits for Ios must not rest.
        let Some((job, _)) = &mut running else { return Work::IDLE };
        if job.round() == Progress::Finished
            && let Some((job, sender)) = running.take()
        {
            sender.send(job);
        }
        Work(1)
    });
    let finished = local.timeout(limit, receiver).await;
    drop(poller);
    let Ok(Ok(job)) = finished else {
        let message = format_args!("the bdev did not finish within {} s", limit.as_secs());
        return Err(RpcError::errno(errno::ETIMEDOUT, message));
    };
    match job.failure() {
        None => Ok(job),
        Some(failure) => Err(RpcError::errno(errno::EIO, failure)),
    }
}

fn report(bench: &Bench, depth: usize, clock: Clock, tally: &Tally) -> Value {
    let hz = u128::from(clock.hz());
    let ns = |ticks: u64| (u128::from(ticks) * 1_000_000_000 / hz) as u64;
    let latency = tally.latency.summary();
    let per_io = |ticks: u64| ticks.checked_div(latency.count).unwrap_or(0);
    let iops = u128::from(latency.count) * hz / u128::from(tally.ticks.max(1));
    json!({
        "bdev": bench.bdev,
        "workload": bench.workload(),
        "io_size": bench.io_size,
        "depth": depth,
        "ios": latency.count,
        "iops": iops as u64,
        "mean_ns": ns(latency.mean),
        "p50_ns": ns(latency.p50),
        "p99_ns": ns(latency.p99),
        "p999_ns": ns(latency.p99_9),
        "max_ns": ns(latency.max),
        "ticks_per_io": per_io(tally.ticks_busy),
        "ticks_per_io_total": per_io(tally.ticks),
        "rounds_busy": tally.rounds_busy,
        "tick_hz": clock.hz(),
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
