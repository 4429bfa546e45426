//! Basalt's side in a virtual machine: the image, with a configuration that is the benchmark.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::calls::{self, Amount};
use super::report::Figures;
use super::{Plan, WARMUP, guest};
use crate::{DebugExit, Machine};

/// Booting, and I/Os under an emulator on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rates and latencies at each depth.
pub(super) fn rates(machine: Machine, plan: &Plan) -> anyhow::Result<Vec<Figures>> {
    let limit = (plan.time + WARMUP) * plan.depths.len() as u32 + PATIENCE;
    run(machine, plan, Amount::Time, limit)?.iter().map(calls::figures).collect()
}

/// Instructions per I/O at each depth.
pub(super) fn instructions(machine: Machine, plan: &Plan) -> anyhow::Result<Vec<u64>> {
    let results = run(machine, plan, Amount::Ios(plan.ios), PATIENCE * 2)?;
    results.iter().map(|result| calls::number(result, "ticks_per_io")).collect()
}

fn run(
    mut machine: Machine,
    plan: &Plan,
    amount: Amount,
    limit: Duration,
) -> anyhow::Result<Vec<Value>> {
    let mut file = NamedTempFile::new().context("no place for the configuration")?;
    let config = calls::configuration(plan, amount);
    write!(file, "{config}").context("cannot write the configuration")?;
    machine.initrd = Some(file.path().to_path_buf());
    let finished = guest::run(&machine, limit)?;
    let results = calls::results(&finished.lines)?;
    let complete = results.len() == plan.depths.len();
    if finished.exit != DebugExit::Value(0) || !complete {
        return Err(finished.failure("Basalt's benchmark failed"));
    }
    Ok(results)
}
