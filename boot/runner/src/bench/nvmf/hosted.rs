//! `cargo run -- bench --nvmf --hosted`: the hosted twin as a target, over loopback, with a bdev
//! without a medium: what it serves, beside a bare socket, and what a read costs it, by layer.
//!
//! Rates are those of rounds, in each of which the socket is measured as well: what a host's
//! loopback does may change by half from one minute to the next, and the two change together.
//!
//! Instructions are those of user mode, counted by valgrind: of two runs of different length the
//! difference is taken, which leaves out everything but reads. All that the core does in the
//! meantime counts.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Context as _;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::layers::{self, Counts, Layer};
use super::{BOOT, Figures, Point, WORKLOADS, client, loopback, medians};
use crate::bench::{HOSTED_BDEV, Plan, guest, null_bdev};
use crate::{Build, Workspace, packages, ports};

const SUBSYSTEM: &str = "nqn.2026-11.io.basalt:bench";
/// Whose instructions are counted.
const COUNTED: &str = "randread";
const READY: &str = "basalt: ready";
/// From this depth on as many reads are counted as there are to be.
const FULL_DEPTH: u32 = 32;
/// How often rates are measured; each round has its part of the time.
const ROUNDS: u32 = 5;
/// The longer of two runs is so many times the shorter.
const LONG: u64 = 3;

/// What was measured at one depth.
#[derive(Debug)]
struct Row {
    depth: u32,
    /// Of each workload.
    rates: [Rate; WORKLOADS.len()],
    /// Instructions per read.
    layers: BTreeMap<Layer, f64>,
}

/// Medians of the rounds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    figures: Figures,
    /// I/Os, of the PDUs that the bare socket sends in the same round.
    of_loopback: f64,
}

/// What one round has measured.
struct Round {
    points: Vec<(Point, Figures)>,
    /// PDUs with 4 KiB of data that a bare socket sends per second.
    loopback: u64,
}

/// What was measured at each.
#[derive(Debug)]
pub(in super::super) struct Report {
    rows: Vec<Row>,
    /// Of the bare socket, in the median round.
    loopback: u64,
}

/// Measures the hosted twin as a target of one core.
///
/// # Errors
/// It does not come up, or the client cannot use it, or there is no valgrind.
pub(in super::super) fn run(workspace: &Workspace, plan: &Plan) -> anyhow::Result<Report> {
    packages::ensure(workspace, "valgrind", &["valgrind"])?;
    let program = workspace.build_hosted(Build::Fast)?;
    eprintln!("rates and latencies …");
    let rounds = (0..ROUNDS).map(|_| round(&program, plan)).collect::<Result<Vec<_>, _>>()?;
    eprintln!("instructions …");
    let mut rows = Vec::new();
    for &depth in &plan.depths {
        // The fewer are in flight, the longer each takes.
        let ios = (plan.ios * u64::from(depth.min(FULL_DEPTH)) / u64::from(FULL_DEPTH)).max(100);
        let plan = Plan { depths: vec![depth], ios, ..plan.clone() };
        let rate = |workload| rate(&rounds, Point { workload, connections: 1, depth });
        let [reads, writes] = WORKLOADS.map(rate);
        let (reads, writes) = reads.zip(writes).context("a depth was not measured")?;
        rows.push(Row { depth, rates: [reads, writes], layers: instructions(&program, &plan)? });
    }
    let loopback = median(rounds.iter().map(|round| round.loopback as f64).collect());
    Ok(Report { rows, loopback: loopback.unwrap_or_default() as u64 })
}

/// Reads, writes and the bare socket, one soon after the other.
fn round(program: &Path, plan: &Plan) -> anyhow::Result<Round> {
    let plan = Plan { time: plan.time / ROUNDS, ..plan.clone() };
    let mut points = Vec::new();
    for workload in WORKLOADS {
        let mut target = apart();
        target.arg(program);
        points.extend(serve(program, target, &plan, (workload, client::Amount::Time))?);
    }
    let time = plan.time * plan.depths.len() as u32;
    Ok(Round { points, loopback: loopback::measure(time)? })
}

/// What rounds say of a point, if they have measured it.
fn rate(rounds: &[Round], point: Point) -> Option<Rate> {
    let measured = |round: &Round| {
        let (_, figures) = round.points.iter().find(|(other, _)| *other == point)?;
        Some((*figures, figures.iops as f64 / round.loopback.max(1) as f64))
    };
    let measured: Vec<_> = rounds.iter().filter_map(measured).collect();
    let of_point: Vec<_> = measured.iter().map(|(figures, _)| (point, *figures)).collect();
    let (_, figures) = medians(&of_point).pop()?;
    let of_loopback = median(measured.iter().map(|(_, share)| *share).collect())?;
    Some(Rate { figures, of_loopback })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn instructions(program: &Path, plan: &Plan) -> anyhow::Result<BTreeMap<Layer, f64>> {
    let short = counted(program, plan, plan.ios)?;
    let long = counted(program, plan, LONG * plan.ios)?;
    let reads = ((LONG - 1) * plan.ios) as f64;
    let of = |counts: &Counts, layer| counts.get(&layer).copied().unwrap_or_default() as f64;
    let per_read = |layer| (layer, (of(&long, layer) - of(&short, layer)).max(0.0) / reads);
    Ok(Layer::ALL.map(per_read).into())
}

/// Instructions of a target from its start to its end, with so many reads between.
fn counted(program: &Path, plan: &Plan, ios: u64) -> anyhow::Result<Counts> {
    let profile = NamedTempFile::new().context("no place for the profile")?;
    let mut valgrind = apart();
    valgrind.args(["valgrind", "--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", profile.path().display())).arg(program);
    serve(program, valgrind, plan, (COUNTED, client::Amount::Ios(ios)))?;
    let text = std::fs::read_to_string(profile.path()).context("valgrind left no profile")?;
    let counts = layers::counts(&text);
    anyhow::ensure!(counts.values().sum::<u64>() > 0, "valgrind counted nothing");
    Ok(counts)
}

/// Runs a program on the last of the processors, as its client takes the first.
fn apart() -> Command {
    let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &last.to_string()]);
    command
}

/// Starts the target by `command`, has the client do `what` with it, and ends it in order.
fn serve(
    client: &Path,
    mut command: Command,
    plan: &Plan,
    what: (&'static str, client::Amount),
) -> anyhow::Result<Vec<(Point, Figures)>> {
    let target = client::Target {
        port: ports::pick_free()?,
        subsystem: SUBSYSTEM,
        client: client::Waits::Polling,
    };
    let mut file = NamedTempFile::new().context("no place for the configuration")?;
    write!(file, "{}", configuration(target.port))?;
    command.args(["--cpus", "1"]).arg("--config").arg(file.path());
    for option in ["--nvmf-port", "--discovery-port", "--rpc-port", "--http-port"] {
        command.args([option, &ports::pick_free()?.to_string()]);
    }
    let server = guest::start_command_until(&command, READY, BOOT)?;
    let measured = client::measure(client, &target, plan, (1, what.0), what.1);
    drop(server);
    measured.context("the hosted twin could not be measured")
}

fn configuration(port: u16) -> Value {
    let address = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
        "trsvcid": port.to_string()});
    let call = |method: &str, params: Value| json!({"method": method, "params": params});
    let calls = [
        call("nvmf_create_transport", json!({"trtype": "TCP"})),
        call("nvmf_create_subsystem", json!({"nqn": SUBSYSTEM, "allow_any_host": true})),
        call(
            "nvmf_subsystem_add_ns",
            json!({"nqn": SUBSYSTEM, "namespace": {"bdev_name": HOSTED_BDEV}}),
        ),
        call("nvmf_subsystem_add_listener", json!({"nqn": SUBSYSTEM, "listen_address": address})),
    ];
    json!({"subsystems": [null_bdev(), {"subsystem": "nvmf", "config": calls}]})
}

impl Row {
    fn instructions(&self) -> f64 {
        self.layers.values().sum()
    }
}

impl Report {
    /// For programs; times in nanoseconds.
    pub(in super::super) fn to_json(&self) -> Value {
        let row = |row: &Row| {
            let layers: serde_json::Map<_, _> = row
                .layers
                .iter()
                .map(|(layer, count)| (layer.name().into(), json!(count)))
                .collect();
            json!({
                "depth": row.depth,
                "basalt": row.rates[0].figures.to_json(),
                "basalt_of_loopback": row.rates[0].of_loopback,
                "basalt_randwrite": row.rates[1].figures.to_json(),
                "basalt_randwrite_of_loopback": row.rates[1].of_loopback,
                "instructions_per_io": row.instructions(),
                "layers": layers,
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        json!({"depths": rows, "loopback_pdus_per_s": self.loopback})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "4 KiB by NVMe/TCP over loopback, a hosted target of one core\n")?;
        for row in &self.rows {
            let mut line = |what: &str, value: f64| {
                writeln!(f, "{:<42}{value:>10.0}", format!("depth {}, {what}", row.depth))
            };
            for (workload, Rate { figures, of_loopback }) in WORKLOADS.iter().zip(row.rates) {
                let Figures { iops, mean_ns, p99_ns } = figures;
                line(&format!("{workload}, IOPS"), iops as f64)?;
                line(&format!("{workload}, % of a bare socket"), 100.0 * of_loopback)?;
                line(&format!("{workload}, mean, µs"), mean_ns as f64 / 1e3)?;
                line(&format!("{workload}, p99, µs"), p99_ns as f64 / 1e3)?;
            }
            line("instructions per read", row.instructions())?;
            for (layer, count) in row.layers.iter().filter(|(_, count)| **count >= 0.5) {
                line(&format!("  {}", layer.name()), *count)?;
            }
        }
        writeln!(f, "{:<42}{:>10}", "a bare socket, 4 KiB PDUs per s", self.loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_compared_with_the_socket_of_its_own_round() {
        let point = Point { workload: "randread", connections: 1, depth: 32 };
        let round = |iops, loopback| Round {
            points: vec![(point, Figures { iops, mean_ns: 1, p99_ns: 2 })],
            loopback,
        };
        // The host was twice as fast in one of them.
        let rounds = [round(400, 500), round(900, 1000), round(430, 500)];
        let Rate { figures, of_loopback } = rate(&rounds, point).unwrap();
        assert_eq!((figures.iops, of_loopback), (430, 0.86));
        assert!(rate(&rounds, Point { depth: 1, ..point }).is_none());
    }
}
