//! `cargo run -- bench --nvmf`: the image as a target beside Linux's, nvmet-tcp.
//!
//! Both are virtual machines with one core, the same drive without a medium and the same network of
//! QEMU. Their client is the same as well, the hosted twin: it attaches to either by NVMe/TCP, a
//! connection for each of its cores, and measures the bdev that it gets. So a latency counts from
//! submission at the client to completion there. It sleeps while it waits: what the host has of
//! processors is for the virtual machines, each of which has two threads that work for an I/O.

mod client;
pub(super) mod hammer;
pub(super) mod hosted;
mod image;
mod layers;
mod loopback;
mod monitor;
mod report;
mod servers;
mod trace;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::{Plan, guest};
use crate::accel::Accel;
use crate::linux::Files;
use crate::{Build, Workspace};

use layers::Layer;
pub(super) use report::Report;
use report::{NVMET_KEY, Peer};

/// Linux's target.
const NVMET: &str = "nvmet-tcp";

/// What the client does to the bdev.
const WORKLOADS: [&str; 2] = ["randread", "randwrite"];
/// Connections that take part, each with as many I/Os in flight.
const CONNECTIONS: [u32; 2] = [1, 2];

/// How often everything is measured; each round has its part of the time.
const ROUNDS: u32 = 3;

/// Until a target can be reached.
const BOOT: Duration = Duration::from_secs(90);

/// What is measured of either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Point {
    workload: &'static str,
    connections: u32,
    depth: u32,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Figures {
    iops: u64,
    mean_ns: u64,
    p99_ns: u64,
}

/// A target that runs, and what has been measured of it.
struct Side {
    name: &'static str,
    target: client::Target,
    measured: Vec<(Point, Figures)>,
    _server: guest::Running,
}

/// Measures the image, and Linux if there are files for it: in rounds, each thing of both in turn,
/// so that both see the same of what else the host does. Of the rounds the medians count.
///
/// # Errors
/// A target does not come up, or the client cannot use it; what was said is in the error.
pub(super) fn run(
    workspace: &Workspace,
    plan: &Plan,
    accel: Accel,
    files: Option<&Files>,
) -> anyhow::Result<Report> {
    let program = workspace.build_hosted(Build::Fast)?;
    let (kernel, _) = workspace.build_image()?;
    let mut sides = vec![basalt(&kernel, accel)?];
    sides.extend(files.map(|files| linux(files, accel)).transpose()?);
    let plan = Plan { time: plan.time / ROUNDS, ..plan.clone() };
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS} …");
        for (connections, workload) in CONNECTIONS.iter().flat_map(|n| WORKLOADS.map(|w| (*n, w))) {
            for side in &mut sides {
                let figures = client::measure(
                    &program,
                    &side.target,
                    &plan,
                    (connections, workload),
                    client::Amount::Time,
                );
                let name = side.name;
                let figures = figures.with_context(|| format!("{name} could not be measured"))?;
                side.measured.extend(figures);
            }
        }
    }
    eprintln!("instructions …");
    let symbols = workspace.image_with_symbols();
    let layers = image::instructions(&program, &kernel, &symbols, accel, &plan);
    let mut medians = sides.into_iter().map(|side| medians(&side.measured));
    let basalt = medians.next().unwrap_or_default();
    let verdict = "Basalt is better by";
    let peer = |figures| Peer { name: NVMET, key: NVMET_KEY, verdict, figures };
    Ok(Report { accel, basalt, peer: medians.next().map(peer), layers: noted(layers) })
}

/// The rates took their time and stand for themselves if nothing could be counted.
fn noted(layers: anyhow::Result<BTreeMap<Layer, f64>>) -> BTreeMap<Layer, f64> {
    layers.unwrap_or_else(|error| {
        eprintln!("warning: the image's instructions could not be counted: {error:#}");
        BTreeMap::new()
    })
}

fn basalt(kernel: &Path, accel: Accel) -> anyhow::Result<Side> {
    let target = servers::target(servers::IMAGE_SUBSYSTEM)?;
    let machine = servers::image(kernel, accel, target.port);
    let server = guest::start_until(&machine, servers::IMAGE_MARK, BOOT)?;
    Ok(Side { name: "Basalt", target, measured: Vec::new(), _server: server })
}

fn linux(files: &Files, accel: Accel) -> anyhow::Result<Side> {
    let target = servers::target(servers::LINUX_SUBSYSTEM)?;
    let (machine, _initrd) = servers::linux(files, accel, target.port)?;
    let server = guest::start_until(&machine, servers::LINUX_MARK, BOOT)?;
    Ok(Side { name: NVMET, target, measured: Vec::new(), _server: server })
}

/// Of each point the median of what was measured, each figure for itself.
fn medians(measured: &[(Point, Figures)]) -> Vec<(Point, Figures)> {
    let mut points: Vec<Point> = Vec::new();
    for (point, _) in measured {
        if !points.contains(point) {
            points.push(*point);
        }
    }
    let median = |point: Point, figure: fn(&Figures) -> u64| {
        let of_point = measured.iter().filter(|(other, _)| *other == point);
        let mut figures: Vec<u64> = of_point.map(|(_, figures)| figure(figures)).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    let figures = |point| Figures {
        iops: median(point, |figures| figures.iops),
        mean_ns: median(point, |figures| figures.mean_ns),
        p99_ns: median(point, |figures| figures.p99_ns),
    };
    points.into_iter().map(|point| (point, figures(point))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_each_figure_counts() {
        let point = |depth| Point { workload: "randread", connections: 1, depth };
        let figures = |iops, mean_ns, p99_ns| Figures { iops, mean_ns, p99_ns };
        let measured = [
            (point(1), figures(10, 300, 7)),
            (point(32), figures(1, 1, 1)),
            (point(1), figures(30, 100, 9)),
            (point(1), figures(20, 200, 8)),
        ];
        let expected = [(point(1), figures(20, 200, 8)), (point(32), figures(1, 1, 1))];
        assert_eq!(medians(&measured), expected);
    }
}
