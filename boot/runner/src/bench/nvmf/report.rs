//! Both targets beside each other, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::layers::Layer;
use super::{Figures, Point, image};
use crate::accel::Accel;

/// What Linux's target is called for programs.
pub(super) const NVMET_KEY: &str = "nvmet";

/// What was measured of both.
#[derive(Debug)]
pub(in super::super) struct Report {
    pub(super) accel: Accel,
    pub(super) basalt: Vec<(Point, Figures)>,
    pub(super) peer: Option<Peer>,
    /// The image's instructions per read; none if they could not be counted.
    pub(super) layers: BTreeMap<Layer, f64>,
}

/// What Basalt is measured beside.
#[derive(Debug)]
pub(in super::super) struct Peer {
    /// For people and for programs.
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    /// What a ratio above one means.
    pub(super) verdict: &'static str,
    pub(super) figures: Vec<(Point, Figures)>,
}

impl Report {
    fn rows(&self) -> impl Iterator<Item = (Point, Figures, Option<Figures>)> {
        let peer = |at: usize| self.peer.as_ref()?.figures.get(at).map(|(_, figures)| *figures);
        self.basalt.iter().enumerate().map(move |(at, &(point, basalt))| (point, basalt, peer(at)))
    }

    /// For programs; times in nanoseconds.
    pub(in super::super) fn to_json(&self) -> Value {
        let key = self.peer.as_ref().map_or(NVMET_KEY, |peer| peer.key);
        let row = |(point, basalt, peer): (Point, Figures, Option<Figures>)| {
            json!({
                "workload": point.workload,
                "connections": point.connections,
                "depth": point.depth,
                "basalt": basalt.to_json(),
                key: peer.map(Figures::to_json),
            })
        };
        let layers = self.layers.iter().map(|(layer, count)| (layer.name().into(), json!(count)));
        json!({
            "accel": self.accel.name(),
            "points": self.rows().map(row).collect::<Vec<_>>(),
            "instructions_per_read": layers.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl Figures {
    pub(super) fn to_json(self) -> Value {
        let Self { iops, mean_ns, p99_ns } = self;
        json!({"iops": iops, "mean_ns": mean_ns, "p99_ns": p99_ns})
    }
}

/// What a row shows, whether more of it is better, and how it is had.
type Row = (&'static str, Better, fn(&Figures) -> f64);

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

const ROWS: [Row; 3] = [
    ("IOPS", Better::More, |figures| figures.iops as f64),
    ("mean, µs", Better::Less, |figures| figures.mean_ns as f64 / 1e3),
    ("p99, µs", Better::Less, |figures| figures.p99_ns as f64 / 1e3),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "4 KiB by NVMe/TCP, a target of one core ({}), depth of each connection\n",
            self.accel.name()
        )?;
        let heads = self.peer.as_ref().map_or(("", ""), |peer| (peer.name, peer.verdict));
        let line = format!("{:<46}{:>10}{:>12}{:>21}", "", "Basalt", heads.0, heads.1);
        writeln!(f, "{}", line.trim_end())?;
        for (point, basalt, peer) in self.rows() {
            let Point { workload, connections, depth } = point;
            for (name, better, value) in ROWS {
                let what =
                    format!("{workload}, {connections} connection(s), depth {depth}, {name}");
                let basalt = value(&basalt);
                let mut line = format!("{what:<46}{basalt:>10.0}");
                if let Some(peer) = peer {
                    let peer = value(&peer);
                    let ratio = match better {
                        Better::More => basalt / peer,
                        Better::Less => peer / basalt,
                    };
                    line.push_str(&format!("{peer:>12.0}{:>21}", format!("{ratio:.2}x")));
                }
                writeln!(f, "{line}")?;
            }
        }
        if self.layers.is_empty() {
            return Ok(());
        }
        let all: f64 = self.layers.values().sum();
        write!(
            f,
            "\ninstructions of the image per read at depth {}: {all:.0}, of these",
            image::DEPTH
        )?;
        for (layer, count) in self.layers.iter().filter(|(_, count)| **count >= 0.5) {
            write!(f, " {} {count:.0}", layer.name())?;
        }
        writeln!(f)
    }
}
