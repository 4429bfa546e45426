//! One depth: prepared and measured on each core, and summed up.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::{BdevInfo, Channel, Descriptor};
use basalt_env::{CoreId, DmaBuf, DmaPool, OutOfDmaMemory, Ticks, Work};
use basalt_reactor::Local;
use basalt_reactor::sync::oneshot;
use basalt_rpc::{RpcError, errno};

use super::job::{Job, Progress, Shape, Stop};
use super::params::{Amount, Bench, Waits};
use super::tally::Tally;
use super::{Instruments, cannot_open};

/// How much longer than asked a run may take before it is given up: a drive that answers at all
/// does so within its own time limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest a run over a number of Ios may take.
const COUNT_TIME_MAX: Duration = Duration::from_secs(600);

/// Runs `bench` at one depth on all of its cores at once.
pub(super) async fn on_all_cores<T: Ticks + Send>(
    local: &Local,
    with: Instruments<T>,
    descriptor: &Descriptor,
    bench: &Bench,
    depth: usize,
) -> Result<Box<Tally>, RpcError> {
    let mut answers = Vec::new();
    for index in 0..bench.cores {
        let shape = shape(bench, descriptor.info(), index, depth)?;
        let (core, descriptor, bench) = (CoreId(index as u16), descriptor.clone(), bench.clone());
        let (sender, receiver) = oneshot::channel();
        let caller = local.clone();
        local.spawn("bench", async move {
            let run = move |local: Local| async move {
                on_this_core(&local, with, &descriptor, &bench, shape, depth).await
            };
            sender.send(caller.run_on(core, run).await);
        });
        answers.push(receiver);
    }
    let mut sum: Option<Box<Tally>> = None;
    let mut failure = None;
    // All of them are heard before the first failure is told: none is left running.
    for answer in answers {
        match answer.await {
            Ok(Ok(Ok(tally))) => match &mut sum {
                Some(sum) => sum.merge(&tally),
                None => sum = Some(tally),
            },
            Ok(Ok(Err(error))) => failure = Some(error),
            _ => failure = Some(RpcError::errno(errno::EIO, "a core does not answer")),
        }
    }
    match (failure, sum) {
        (None, Some(sum)) => Ok(sum),
        (failure, _) => {
            Err(failure.unwrap_or_else(|| RpcError::new(RpcError::INTERNAL, "no core ran")))
        }
    }
}

/// The places of the core with that index.
fn shape(bench: &Bench, info: &BdevInfo, index: usize, depth: usize) -> Result<Shape, RpcError> {
    let blocks = bench.io_size as u32 / info.block_size;
    if blocks == 0 || !(bench.io_size as u32).is_multiple_of(info.block_size) {
        let message = format_args!("'io_size' must be a multiple of {}", info.block_size);
        return Err(RpcError::params(message));
    }
    let places = info.num_blocks.get() / u64::from(blocks) / bench.cores as u64;
    if places < depth as u64 {
        let message = "the bdev is too small for so many Ios of 'io_size'";
        return Err(RpcError::params(message));
    }
    Ok(Shape {
        workload: bench.workload,
        read_percent: bench.read_percent,
        blocks,
        first_place: places * index as u64,
        places,
        seed: bench.seed,
    })
}

async fn on_this_core<T: Ticks>(
    local: &Local,
    with: Instruments<T>,
    descriptor: &Descriptor,
    bench: &Bench,
    shape: Shape,
    depth: usize,
) -> Result<Box<Tally>, RpcError> {
    let channel = descriptor.channel(local);
    let channel = channel.map_err(|error| cannot_open(&bench.bdev, error))?;
    let job = prepare(local, with, channel, bench, shape, depth)?;
    measure(local, with, job, bench).await
}

fn prepare<T: Ticks>(
    local: &Local,
    with: Instruments<T>,
    channel: Channel,
    bench: &Bench,
    shape: Shape,
    depth: usize,
) -> Result<Box<Job<T>>, RpcError> {
    let none = || RpcError::errno(errno::ENOMEM, "this core has no DMA memory");
    let pool = local.service::<DmaPool>().ok_or_else(none)?;
    let buffer = |_| -> Result<Option<DmaBuf>, OutOfDmaMemory> {
        bench.workload.has_data().then(|| pool.alloc(bench.io_size)).transpose()
    };
    let buffers = (0..depth).map(buffer).collect::<Result<Vec<_>, _>>();
    let buffers = buffers.map_err(|error| RpcError::errno(errno::ENOMEM, error))?;
    Ok(Box::new(Job::new(channel, with, shape, buffers)))
}

/// Warms up, then measures.
async fn measure<T: Ticks>(
    local: &Local,
    with: Instruments<T>,
    mut job: Box<Job<T>>,
    bench: &Bench,
) -> Result<Box<Tally>, RpcError> {
    if !bench.warmup.is_zero() {
        let stop = Stop::after(with.ticks, bench.warmup);
        job = finish(local, job, bench.waits, stop, bench.warmup + PATIENCE).await?;
    }
    let (stop, limit) = match bench.amount {
        Amount::Time(time) => (Stop::after(with.ticks, time), time + PATIENCE),
        Amount::Ios(count) => (Stop::after_ios(count), COUNT_TIME_MAX),
    };
    let job = finish(local, job, bench.waits, stop, limit).await?;
    job.into_tally().map_err(|failure| RpcError::errno(errno::EIO, failure))
}

/// Runs the job to its end as a poller of this core.
async fn finish<T: Ticks>(
    local: &Local,
    job: Box<Job<T>>,
    waits: Waits,
    stop: Stop,
    limit: Duration,
) -> Result<Box<Job<T>>, RpcError> {
    let (sender, receiver) = oneshot::channel();
    let (mut running, mut stop) = (Some((job, sender)), Some(stop));
    let poller = local.poller("bench", move |_| {
        let Some((job, _)) = &mut running else { return Work::IDLE };
        if let Some(stop) = stop.take() {
            job.start(stop);
        }
        if job.round() == Progress::Finished
            && let Some((job, sender)) = running.take()
        {
            sender.send(job);
        }
        let is_busy = running.as_ref().is_none_or(|(job, _)| job.was_busy());
        // Who is always busy never rests.
        Work(u32::from(is_busy || waits == Waits::Polling))
    });
    let finished = local.timeout(limit, receiver).await;
    drop(poller);
    let Ok(Ok(job)) = finished else {
        let message = format_args!("the bdev did not finish within {} s", limit.as_secs());
        return Err(RpcError::errno(errno::ETIMEDOUT, message));
    };
    Ok(job)
}
