//! Basalt's side: a configuration that is nothing but a benchmark.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::report::Figures;
use super::{IO_SIZE_BYTES, Plan, WARMUP, guest};
use crate::{DebugExit, Machine};

/// The bdev of the machine's only drive.
const BDEV: &str = "Nvme0n1";

/// What the image logs before each result.
const MARK: &str = " bench: {";

/// Booting, and I/Os under an emulator on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rates and latencies at each depth.
pub(super) fn rates(machine: Machine, plan: &Plan) -> anyhow::Result<Vec<Figures>> {
    let time_ms = plan.time.as_millis() as u64;
    let amount = ("time_ms", json!(time_ms), WARMUP);
    let limit = (plan.time + WARMUP) * plan.depths.len() as u32 + PATIENCE;
    run(machine, plan, amount, limit)?.iter().map(figures).collect()
}

/// Instructions per I/O at each depth.
pub(super) fn instructions(machine: Machine, plan: &Plan) -> anyhow::Result<Vec<u64>> {
    let amount = ("ios", json!(plan.ios), Duration::ZERO);
    let results = run(machine, plan, amount, PATIENCE * 2)?;
    results.iter().map(|result| number(result, "ticks_per_io")).collect()
}

fn run(
    mut machine: Machine,
    plan: &Plan,
    (unit, amount, warmup): (&str, Value, Duration),
    limit: Duration,
) -> anyhow::Result<Vec<Value>> {
    let mut params = json!({
        "bdev": BDEV,
        "workload": "randread",
        "io_size": IO_SIZE_BYTES,
        "depths": plan.depths,
        "warmup_ms": warmup.as_millis() as u64,
    });
    params[unit] = amount;
    // Linux's idle loop polls as well while its instructions are counted.
    let polls = json!({"method": "reactor_set_options", "params": {"rest": false}});
    let calls = json!([polls, {"method": "bench_run", "params": params}, {"method": "bench_exit"}]);
    let config = json!({"subsystems": [{"subsystem": "bench", "config": calls}]});
    let mut file = NamedTempFile::new().context("no place for the configuration")?;
    write!(file, "{config}").context("cannot write the configuration")?;
    machine.initrd = Some(file.path().to_path_buf());
    let finished = guest::run(&machine, limit)?;
    let results = results(&finished.lines)?;
    let complete = results.len() == plan.depths.len();
    if finished.exit != DebugExit::Value(0) || !complete {
        return Err(finished.failure("Basalt's benchmark failed"));
    }
    Ok(results)
}

fn results(lines: &[String]) -> anyhow::Result<Vec<Value>> {
    let marked = lines.iter().filter_map(|line| line.find(MARK).map(|at| &line[at..]));
    marked
        .map(|text| {
            let json = text.trim_start_matches(|c| c != '{');
            serde_json::from_str(json).with_context(|| format!("no result: {json}"))
        })
        .collect()
}

fn figures(result: &Value) -> anyhow::Result<Figures> {
    let figures = Figures {
        depth: u32::try_from(number(result, "depth")?)?,
        ios: number(result, "ios")?,
        iops: number(result, "iops")?,
        mean_ns: number(result, "mean_ns")?,
        p50_ns: number(result, "p50_ns")?,
        p99_ns: number(result, "p99_ns")?,
        p999_ns: number(result, "p999_ns")?,
        instructions: None,
    };
    ensure!(figures.ios > 0, "Basalt finished no I/O at depth {}", figures.depth);
    Ok(figures)
}

fn number(result: &Value, name: &str) -> anyhow::Result<u64> {
    result.get(name).and_then(Value::as_u64).with_context(|| format!("a result without {name}"))
}
