//! The client: the hosted twin, with a configuration that attaches to a target and measures.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

pub(super) use super::super::calls::Amount;
use super::super::{Plan, WARMUP, calls, guest};
use super::{Figures, Point};
use crate::ports;

/// What is attached, and its only namespace.
const CONTROLLER: &str = "Far";
const BDEV: &str = "Farn1";

/// Starting, attaching, ending.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a target is.
pub(super) struct Target {
    /// Its port on this host.
    pub(super) port: u16,
    pub(super) subsystem: &'static str,
    pub(super) client: Waits,
}

/// What the client does until a reply comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waits {
    /// It has a processor of the host to itself.
    Polling,
    /// It leaves the processors to the target, which is a virtual machine of several threads.
    Resting,
}

/// What a target does at each depth of the plan.
pub(super) fn measure(
    program: &Path,
    target: &Target,
    plan: &Plan,
    (connections, workload): (u32, &'static str),
    amount: Amount,
) -> anyhow::Result<Vec<(Point, Figures)>> {
    let point = |depth| Point { workload, connections, depth };
    let points: Vec<_> = plan.depths.iter().copied().map(point).collect();
    let mut file = NamedTempFile::new().context("no place for the configuration")?;
    write!(file, "{}", configuration(target, plan, &points, amount))?;
    let mut command = Command::new(program);
    command.args(["--cpus", &connections.to_string()]).arg("--config").arg(file.path());
    for option in ["--nvmf-port", "--discovery-port", "--rpc-port", "--http-port"] {
        command.args([option, &ports::pick_free()?.to_string()]);
    }
    let limit = (plan.time + WARMUP) * points.len() as u32 + PATIENCE;
    // A target whose instructions are counted is some fifty times slower.
    let limit = if amount == Amount::Time { limit } else { limit + PATIENCE };
    let output = guest::run_command(&command, limit)?;
    let results = calls::results(&output.lines)?;
    if output.code != Some(0) || results.len() != points.len() {
        return Err(output.failure("the client failed"));
    }
    points.into_iter().zip(&results).map(|(point, result)| Ok((point, figures(result)?))).collect()
}

fn configuration(target: &Target, plan: &Plan, points: &[Point], amount: Amount) -> Value {
    let attach = json!({"method": "bdev_nvme_attach_controller", "params": {
        "name": CONTROLLER, "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
        "trsvcid": target.port.to_string(), "subnqn": target.subsystem}});
    let run = |point: &Point| {
        let mut params = json!({"bdev": BDEV, "workload": point.workload,
            "cores": point.connections, "depths": [point.depth],
            "rest": target.client == Waits::Resting});
        match amount {
            Amount::Time => {
                params["time_ms"] = json!(plan.time.as_millis() as u64);
                params["warmup_ms"] = json!(WARMUP.as_millis() as u64);
            }
            Amount::Ios(count) => params["ios"] = json!(count),
        }
        json!({"method": "bench_run", "params": params})
    };
    let mut bench: Vec<_> = points.iter().map(run).collect();
    bench.push(json!({"method": "bench_exit"}));
    let waits = json!({"method": "reactor_set_options", "params": {"rest_after_us": 0}});
    json!({"subsystems": [
        {"subsystem": "scheduler", "config": [waits]},
        {"subsystem": "bdev", "config": [attach]},
        {"subsystem": "bench", "config": bench},
    ]})
}

fn figures(result: &Value) -> anyhow::Result<Figures> {
    let number = |name| calls::number(result, name);
    let figures =
        Figures { iops: number("iops")?, mean_ns: number("mean_ns")?, p99_ns: number("p99_ns")? };
    ensure!(figures.iops > 0, "no I/O came to an end: {result}");
    Ok(figures)
}
