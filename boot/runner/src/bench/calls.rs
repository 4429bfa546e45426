//! The benchmark as calls of `bench_run`, and what comes back.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::report::{Figures, Latency};
use super::{Plan, WARMUP};

/// What is logged before each result.
const MARK: &str = " bench: {";

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// As long as the plan says, once warm.
    Time,
    /// So many I/Os, from the start.
    Ios(u64),
}

/// A configuration that is nothing but the benchmark, after the calls that make its bdevs.
pub(super) fn configuration(plan: &Plan, amount: Amount) -> Value {
    let job = &plan.job;
    let mut params = json!({
        "bdev": job.bdev,
        "workload": job.workload,
        "rwmixread": job.read_percent,
        "io_size": job.io_size,
        "cores": job.cores,
        "depths": plan.depths,
    });
    match amount {
        Amount::Time => {
            params["time_ms"] = json!(plan.time.as_millis() as u64);
            params["warmup_ms"] = json!(WARMUP.as_millis() as u64);
        }
        Amount::Ios(count) => params["ios"] = json!(count),
    }
    // Linux's idle loop polls as well while its instructions are counted. Cores that take no part
    // leave the host to those that do.
    let rests = json!({"rest": plan.cpus > job.cores});
    let polls = json!({"method": "reactor_set_options", "params": rests});
    let calls = json!([polls, {"method": "bench_run", "params": params}, {"method": "bench_exit"}]);
    let mut subsystems = job.subsystems.clone();
    subsystems.push(json!({"subsystem": "bench", "config": calls}));
    json!({"subsystems": subsystems})
}

pub(super) fn results(lines: &[String]) -> anyhow::Result<Vec<Value>> {
    let marked = lines.iter().filter_map(|line| line.find(MARK).map(|at| &line[at..]));
    marked
        .map(|text| {
            let json = text.trim_start_matches(|c| c != '{');
            serde_json::from_str(json).with_context(|| format!("no result: {json}"))
        })
        .collect()
}

pub(super) fn figures(result: &Value) -> anyhow::Result<Figures> {
    let figures = Figures {
        depth: u32::try_from(number(result, "depth")?)?,
        ios: number(result, "ios")?,
        iops: number(result, "iops")?,
        latency: Some(Latency {
            mean_ns: number(result, "mean_ns")?,
            p50_ns: number(result, "p50_ns")?,
            p99_ns: number(result, "p99_ns")?,
            p999_ns: number(result, "p999_ns")?,
        }),
        mib_per_s: number(result, "bytes_per_s")? >> 20,
        instructions: None,
        milli_allocations: result["allocations_per_io"]
            .as_f64()
            .map(|per_io| (per_io * 1e3) as u64),
    };
    ensure!(figures.ios > 0, "Basalt finished no I/O at depth {}", figures.depth);
    Ok(figures)
}

pub(super) fn number(result: &Value, name: &str) -> anyhow::Result<u64> {
    result.get(name).and_then(Value::as_u64).with_context(|| format!("a result without {name}"))
}
