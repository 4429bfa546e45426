//! What is asked of a run.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::Op;
use basalt_rpc::{Params, RpcError};

/// Largest Io, bytes.
const IO_SIZE_MAX: usize = 1 << 20;

/// Most Ios in flight.
const DEPTH_MAX: usize = 1024;

/// Most depths in one call.
const DEPTHS_MAX: usize = 16;

/// Longest run, ms.
const TIME_MS_MAX: u64 = 600_000;

const DEFAULT_TIME_MS: u64 = 3_000;
const DEFAULT_SEED: u64 = 1;

/// A benchmark to run: each depth in turn.
pub(super) struct Bench {
    pub bdev: String,
    pub op: Op,
    /// Bytes per Io.
    pub io_size: usize,
    pub depths: Vec<usize>,
    pub amount: Amount,
    pub warmup: Duration,
    pub seed: u64,
}

/// When a run ends.
pub(super) enum Amount {
    /// After this time.
    Time(Duration),
    /// After this many Ios.
    Ios(u64),
}

impl Bench {
    /// Reads and checks the parameters of `bench_run`.
    pub fn read(mut params: Params) -> Result<Self, RpcError> {
        let bdev = params.required("bdev")?;
        let workload: Option<String> = params.optional("workload")?;
        let io_size: usize = params.optional("io_size")?.unwrap_or(4096);
        let depths: Vec<usize> = params.optional("depths")?.unwrap_or_else(|| vec![1, 32]);
        let time_ms: Option<u64> = params.optional("time_ms")?;
        let ios: Option<u64> = params.optional("ios")?;
        let warmup_ms: u64 = params.optional("warmup_ms")?.unwrap_or(0);
        let seed: u64 = params.optional("seed")?.unwrap_or(DEFAULT_SEED);
        params.finish()?;
        check("'io_size'", io_size, IO_SIZE_MAX)?;
        check("the number of 'depths'", depths.len(), DEPTHS_MAX)?;
        for &depth in &depths {
            check("'depths': each", depth, DEPTH_MAX)?;
        }
        let warmup = Duration::from_millis(warmup_ms.min(TIME_MS_MAX));
        let (op, amount) = (read_workload(workload.as_deref())?, read_amount(time_ms, ios)?);
        Ok(Self { bdev, op, io_size, depths, amount, warmup, seed })
    }

    /// The workload's name.
    pub fn workload(&self) -> &'static str {
        if self.op == Op::Write { "randwrite" } else { "randread" }
    }
}

fn check(what: &str, value: usize, max: usize) -> Result<(), RpcError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(RpcError::params(format_args!("{what} must be from 1 to {max}, not {value}")))
}

fn read_workload(name: Option<&str>) -> Result<Op, RpcError> {
    match name {
        None | Some("randread") => Ok(Op::Read),
        Some("randwrite") => Ok(Op::Write),
        Some(other) => {
            let message = format_args!("'workload' is randread or randwrite, not '{other}'");
            Err(RpcError::params(message))
        }
    }
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
