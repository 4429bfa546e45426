//! What is asked of a run.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_rpc::{Params, RpcError};

use super::workload::Workload;

/// Largest Io, bytes.
const IO_SIZE_MAX: usize = 1 << 20;

/// Most Ios in flight on each core.
const DEPTH_MAX: usize = 1024;

/// Most depths in one call.
const DEPTHS_MAX: usize = 16;

/// Longest run, ms.
const TIME_MS_MAX: u64 = 600_000;

const DEFAULT_TIME_MS: u64 = 3_000;
const DEFAULT_SEED: u64 = 1;
const DEFAULT_READ_PERCENT: u8 = 50;

/// A benchmark to run: each depth in turn.
#[derive(Clone)]
pub struct Bench {
    pub bdev: String,
    pub workload: Workload,
    /// Of 100 Ios of a mixed workload, how many read.
    pub read_percent: u8,
    /// Bytes per Io.
    pub io_size: usize,
    /// Ios in flight on each core.
    pub depths: Vec<usize>,
    /// How many cores take part, from core 0 on.
    pub cores: usize,
    pub amount: Amount,
    pub warmup: Duration,
    pub seed: u64,
    /// What takes longer is aborted, as bdevperf's `-k` has it.
    pub io_timeout: Option<Duration>,
    pub waits: Waits,
}

/// What a core does while all of its Ios are under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// It looks for completions.
    Polling,
    /// As the machine does without a benchmark: it rests once it has found nothing for a while.
    Resting,
}

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Amount {
    /// After this time.
    Time(Duration),
    /// After this many Ios on each core.
    Ios(u64),
}

impl Bench {
    /// Reads and checks the parameters of `bench_run`, on a machine with `cores` cores.
    pub fn read(mut params: Params, cores: usize) -> Result<Self, RpcError> {
        let bdev = params.required("bdev")?;
        let workload: Option<String> = params.optional("workload")?;
        let read_percent: u8 = params.optional("rwmixread")?.unwrap_or(DEFAULT_READ_PERCENT);
        let io_size: usize = params.optional("io_size")?.unwrap_or(4096);
        let depths: Vec<usize> = params.optional("depths")?.unwrap_or_else(|| vec![1, 32]);
        let used: usize = params.optional("cores")?.unwrap_or(1);
        let time_ms: Option<u64> = params.optional("time_ms")?;
        let ios: Option<u64> = params.optional("ios")?;
        let warmup_ms: u64 = params.optional("warmup_ms")?.unwrap_or(0);
        let seed: u64 = params.optional("seed")?.unwrap_or(DEFAULT_SEED);
        let io_timeout_ms: Option<u64> = params.optional("io_timeout_ms")?;
        let rest: bool = params.optional("rest")?.unwrap_or(false);
        params.finish()?;
        check("'io_size'", io_size, IO_SIZE_MAX)?;
        check("'cores'", used, cores)?;
        check("the number of 'depths'", depths.len(), DEPTHS_MAX)?;
        for &depth in &depths {
            check("'depths': each", depth, DEPTH_MAX)?;
        }
        if read_percent > 100 {
            return Err(RpcError::params("'rwmixread' is a percentage, at most 100"));
        }
        let workload = read_workload(workload.as_deref().unwrap_or("randread"))?;
        let warmup = Duration::from_millis(warmup_ms.min(TIME_MS_MAX));
        let amount = read_amount(time_ms, ios)?;
        let io_timeout = read_io_timeout(io_timeout_ms)?;
        Ok(Self {
            bdev,
            workload,
            read_percent,
            io_size,
            depths,
            cores: used,
            amount,
            warmup,
            seed,
            io_timeout,
            waits: if rest { Waits::Resting } else { Waits::Polling },
        })
    }
}

fn check(what: &str, value: usize, max: usize) -> Result<(), RpcError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(RpcError::params(format_args!("{what} must be from 1 to {max}, not {value}")))
}

fn read_io_timeout(ms: Option<u64>) -> Result<Option<Duration>, RpcError> {
    match ms {
        Some(ms) if !(1..=TIME_MS_MAX).contains(&ms) => {
            let message = format_args!("'io_timeout_ms' must be from 1 to {TIME_MS_MAX}");
            Err(RpcError::params(message))
        }
        ms => Ok(ms.map(Duration::from_millis)),
    }
}

fn read_workload(name: &str) -> Result<Workload, RpcError> {
    Workload::find(name).ok_or_else(|| {
        let names = Workload::names().collect::<Vec<_>>().join(", ");
        RpcError::params(format_args!("'workload' is one of {names}, not '{name}'"))
    })
}

fn read_amount(time_ms: Option<u64>, ios: Option<u64>) -> Result<Amount, RpcError> {
    match (time_ms, ios) {
        (Some(_), Some(_)) => Err(RpcError::params("give 'time_ms' or 'ios', not both")),
        (None, Some(0)) => Err(RpcError::params("'ios' must be at least 1")),
        (None, Some(ios)) => Ok(Amount::Ios(ios)),
        (time_ms, None) => {
            let time_ms = time_ms.unwrap_or(DEFAULT_TIME_MS);
            if !(1..=TIME_MS_MAX).contains(&time_ms) {
                let message = format_args!("'time_ms' must be from 1 to {TIME_MS_MAX}");
                return Err(RpcError::params(message));
            }
            Ok(Amount::Time(Duration::from_millis(time_ms)))
        }
    }
}
