//! Basalt's side as a process of this host.
//!
//! Instructions are those of user mode, counted by valgrind: of two runs of different length the
//! difference is taken, which leaves out everything but I/Os. All that the program does in the
//! meantime counts, rounds that find nothing included.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::NamedTempFile;

use super::calls::{self, Amount};
use super::guest::{self, Output};
use super::report::Figures;
use super::{Plan, WARMUP};
use crate::{Build, Workspace, packages, ports};

/// DMA memory of each core, MiB: for 128 I/Os of 1 MiB, and all else.
const MEMORY_MIB: &str = "512";

/// A program that can be measured.
pub(super) struct Twin {
    program: PathBuf,
}

impl Twin {
    /// Builds it.
    pub(super) fn build(workspace: &Workspace) -> anyhow::Result<Self> {
        packages::ensure(workspace, "valgrind", &["valgrind"])?;
        Ok(Self { program: workspace.build_hosted(Build::Fast)? })
    }

    /// Rates and latencies at each depth.
    pub(super) fn rates(&self, plan: &Plan) -> anyhow::Result<Vec<Figures>> {
        let output = run(Command::new(&self.program), plan, Amount::Time)?;
        let results = calls::results(&output.lines)?;
        if results.len() != plan.depths.len() {
            return Err(output.failure("the hosted twin's benchmark gave no result"));
        }
        results.iter().map(calls::figures).collect()
    }

    /// Instructions per I/O at each depth.
    pub(super) fn instructions(&self, plan: &Plan) -> anyhow::Result<Vec<u64>> {
        let count = |depth: u32, ios: u64| {
            let plan = Plan { depths: vec![depth], ..plan.clone() };
            counted(&self.program, &plan, ios)
        };
        let per_io = |&depth: &u32| {
            let (short, long) = (count(depth, plan.ios)?, count(depth, 2 * plan.ios)?);
            let ios = plan.ios * u64::from(plan.job.cores);
            Ok(long.saturating_sub(short) / ios)
        };
        plan.depths.iter().map(per_io).collect()
    }
}

/// How many instructions the whole of a run over `ios` I/Os takes.
fn counted(program: &Path, plan: &Plan, ios: u64) -> anyhow::Result<u64> {
    let mut valgrind = Command::new("valgrind");
    // A round of each thread at a time: one that waits for another would keep it waiting.
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--fair-sched=yes"]);
    valgrind.arg(program);
    let output = run(valgrind, plan, Amount::Ios(ios))?;
    let collected = output.complaints.iter().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.ok_or_else(|| output.failure("valgrind counted nothing"))
}

/// Runs the benchmark to its end. All that was said.
fn run(mut command: Command, plan: &Plan, amount: Amount) -> anyhow::Result<Output> {
    let mut file = NamedTempFile::new().context("no place for the configuration")?;
    let config = calls::configuration(plan, amount);
    write!(file, "{config}").context("cannot write the configuration")?;
    command.args(["--cpus", &plan.job.cores.to_string(), "--memory", MEMORY_MIB]);
    command.arg("--config").arg(file.path());
    for option in ["--nvmf-port", "--discovery-port", "--rpc-port", "--http-port"] {
        command.args([option, &ports::pick_free()?.to_string()]);
    }
    let output = guest::run_command(&command, limit(plan, amount))?;
    if output.code != Some(0) {
        return Err(output.failure("the hosted twin's benchmark failed"));
    }
    Ok(output)
}

fn limit(plan: &Plan, amount: Amount) -> Duration {
    const PATIENCE: Duration = Duration::from_secs(120);
    match amount {
        Amount::Time => (plan.time + WARMUP) * plan.depths.len() as u32 + PATIENCE,
        Amount::Ios(_) => PATIENCE * 2,
    }
}
