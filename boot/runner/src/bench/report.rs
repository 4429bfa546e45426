//! The figures, as a table for people and as JSON for programs.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Plan;
use crate::accel::Accel;

/// What one side came to at one depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) depth: u32,
    /// I/Os that were measured.
    pub(super) ios: u64,
    pub(super) iops: u64,
    pub(super) mib_per_s: u64,
    /// None if it was not measured.
    pub(super) latency: Option<Latency>,
    /// Allocations from the heap, in thousandths per I/O.
    pub(super) milli_allocations: Option<u64>,
    /// Instructions per I/O, waiting left out; none if they could not be counted.
    pub(super) instructions: Option<u64>,
}

/// From submission to completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) mean_ns: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
}

/// Where it was measured.
#[derive(Debug)]
pub(super) enum Place {
    /// In a virtual machine.
    Machine {
        accel: Accel,
        /// The file behind the drive, if it has one.
        disk: Option<PathBuf>,
    },
    /// In a process of this host.
    Host,
}

impl Place {
    fn describe(&self, bdev: &str) -> String {
        match self {
            Self::Host => format!("hosted, bdev {bdev}"),
            Self::Machine { accel, disk } => {
                let disk =
                    disk.as_ref().map_or("no medium".into(), |disk| disk.display().to_string());
                format!("{}, bdev {bdev}, NVMe drive with {disk}", accel.name())
            }
        }
    }
}

/// Everything measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) place: Place,
    pub(super) plan: Plan,
    pub(super) basalt: Vec<Figures>,
    pub(super) peer: Option<Peer>,
}

/// What Basalt is measured beside.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) figures: Vec<Figures>,
}

/// A line of the table.
struct Row {
    name: &'static str,
    value: fn(&Figures) -> Option<u64>,
    /// How many decimals to move the point by.
    decimals: u32,
    better: Better,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

const ROWS: [Row; 8] = [
    Row { name: "IOPS", value: |f| Some(f.iops), decimals: 0, better: Better::More },
    micros("mean, µs", |f| f.latency.map(|latency| latency.mean_ns)),
    micros("p50, µs", |f| f.latency.map(|latency| latency.p50_ns)),
    micros("p99, µs", |f| f.latency.map(|latency| latency.p99_ns)),
    micros("p99.9, µs", |f| f.latency.map(|latency| latency.p999_ns)),
    Row { name: "MiB/s", value: |f| Some(f.mib_per_s), decimals: 0, better: Better::More },
    Row { name: "instructions", value: |f| f.instructions, decimals: 0, better: Better::Less },
    Row { name: "allocations", value: |f| f.milli_allocations, decimals: 3, better: Better::Less },
];

/// A row of times in nanoseconds.
const fn micros(name: &'static str, value: fn(&Figures) -> Option<u64>) -> Row {
    Row { name, value, decimals: 3, better: Better::Less }
}

impl Row {
    /// By what factor Basalt is better; below one, it is worse.
    fn ratio(&self, basalt: &Figures, peer: &Figures) -> Option<f64> {
        let (basalt, peer) = ((self.value)(basalt)? as f64, (self.value)(peer)? as f64);
        let is_more = self.better == Better::More;
        let (more, less) = if is_more { (basalt, peer) } else { (peer, basalt) };
        Some(more / less.max(1.0))
    }

    fn text(&self, figures: &Figures) -> String {
        match (self.value)(figures) {
            None => "–".to_owned(),
            Some(value) if self.decimals == 0 => thousands(value),
            Some(value) => format!("{:.1}", value as f64 / 10_f64.powi(self.decimals as i32)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { job, time, .. } = &self.plan;
        let (place, seconds) = (self.place.describe(&job.bdev), time.as_secs_f64());
        let (workload, size, cores) = (&job.workload, job.io_size, job.cores);
        writeln!(f, "{workload} of {size} bytes, {cores} core(s), {place}, {seconds} s each")?;
        let counted = match self.place {
            Place::Machine { .. } => "guest instructions per I/O, waiting left out, under -icount",
            Place::Host => "of user mode per I/O, everything included, by valgrind",
        };
        writeln!(f, "instructions: {counted}\n")?;
        let heads = self.peer.as_ref().map_or(("", ""), |peer| (peer.name, "Basalt is better by"));
        writeln!(f, "{:<22}{:>12}{:>12}{:>21}", "", "Basalt", heads.0, heads.1)?;
        for (index, basalt) in self.basalt.iter().enumerate() {
            write_depth(f, basalt, self.peer_at(index))?;
        }
        Ok(())
    }
}

fn write_depth(
    f: &mut fmt::Formatter<'_>,
    basalt: &Figures,
    peer: Option<&Figures>,
) -> fmt::Result {
    for row in &ROWS {
        let label = format!("depth {:<3} {}", basalt.depth, row.name);
        let text = row.text(basalt);
        match peer {
            None => writeln!(f, "{label:<22}{text:>12}")?,
            Some(peer) => {
                let ratio = row.ratio(basalt, peer).map(|ratio| format!("{ratio:.2}x"));
                let (other, ratio) = (row.text(peer), ratio.unwrap_or_default());
                writeln!(f, "{label:<22}{text:>12}{other:>12}{ratio:>21}")?;
            }
        }
    }
    Ok(())
}

impl Report {
    fn peer_at(&self, index: usize) -> Option<&Figures> {
        self.peer.as_ref()?.figures.get(index)
    }

    /// The same for programs: times in nanoseconds.
    pub(super) fn to_json(&self) -> Value {
        let depths = self.basalt.iter().enumerate().map(|(index, basalt)| {
            let peer = self.peer_at(index);
            let name = self.peer.as_ref().map_or("fio", |peer| peer.name);
            json!({
                "depth": basalt.depth,
                "basalt": figures_to_json(basalt),
                name: peer.map(figures_to_json),
                "ratio": peer.map(|peer| ratios_to_json(basalt, peer)),
            })
        });
        let (accel, disk) = match &self.place {
            Place::Machine { accel, disk } => (accel.name(), disk.as_ref()),
            Place::Host => ("hosted", None),
        };
        json!({
            "bdev": self.plan.job.bdev,
            "workload": self.plan.job.workload,
            "io_size": self.plan.job.io_size,
            "cores": self.plan.job.cores,
            "accel": accel,
            "disk": disk,
            "time_s": self.plan.time.as_secs_f64(),
            "depths": depths.collect::<Vec<_>>(),
        })
    }
}

const KEYS: [&str; 8] = [
    "iops",
    "mean_ns",
    "p50_ns",
    "p99_ns",
    "p999_ns",
    "mib_per_s",
    "instructions_per_io",
    "milli_allocations_per_io",
];

fn figures_to_json(figures: &Figures) -> Value {
    let rows = KEYS.iter().zip(&ROWS);
    let mut object: serde_json::Map<_, _> =
        rows.map(|(key, row)| ((*key).to_owned(), json!((row.value)(figures)))).collect();
    object.insert("ios".to_owned(), json!(figures.ios));
    Value::Object(object)
}

fn ratios_to_json(basalt: &Figures, peer: &Figures) -> Value {
    let rows = KEYS.iter().zip(&ROWS);
    let rounded =
        |row: &Row| json!(row.ratio(basalt, peer).map(|ratio| (ratio * 100.0).round() / 100.0));
    Value::Object(rows.map(|(key, row)| ((*key).to_owned(), rounded(row))).collect())
}

/// A number with commas between thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWLY: Latency =
        Latency { mean_ns: 10_000, p50_ns: 9_000, p99_ns: 20_000, p999_ns: 40_000 };

    const SLOW: Figures = Figures {
        depth: 1,
        ios: 10,
        iops: 1_000,
        latency: Some(SLOWLY),
        mib_per_s: 4,
        milli_allocations: Some(0),
        instructions: Some(8_000),
    };

    fn report(fio: Option<Vec<Figures>>) -> Report {
        let latency = Some(Latency { p50_ns: 3_000, ..SLOWLY });
        let fast = Figures { iops: 1_234_567, latency, instructions: Some(500), ..SLOW };
        let place = Place::Machine { accel: Accel::Tcg, disk: None };
        let peer = fio.map(|figures| Peer { name: "fio", figures });
        Report { place, plan: super::super::tests::plan(), basalt: vec![fast], peer }
    }

    #[test]
    fn the_table_has_both_sides_and_how_much_better_basalt_is() {
        let text = report(Some(vec![SLOW])).to_string();
        assert!(text.contains("1,234,567") && text.contains("1234.57x"), "{text}");
        assert!(text.contains("3.0") && text.contains("3.00x"), "{text}");
        assert!(text.contains("16.00x"), "{text}");
    }

    #[test]
    fn without_fio_there_is_one_column_and_no_ratio() {
        let report = report(None);
        let text = report.to_string();
        assert!(!text.contains("fio") && !text.contains("better"), "{text}");
        assert!(report.to_json()["depths"][0]["fio"].is_null());
    }

    #[test]
    fn what_could_not_be_counted_is_left_open() {
        let report = report(Some(vec![Figures { instructions: None, latency: None, ..SLOW }]));
        assert!(report.to_string().contains('–'));
        let ratio = &report.to_json()["depths"][0]["ratio"];
        assert!(ratio["instructions_per_io"].is_null() && ratio["p99_ns"].is_null());
    }

    #[test]
    fn programs_get_nanoseconds_and_ratios() {
        let json = report(Some(vec![SLOW])).to_json();
        let depth = &json["depths"][0];
        assert_eq!(depth["fio"]["p99_ns"], 20_000);
        assert_eq!(depth["basalt"]["instructions_per_io"], 500);
        assert_eq!(depth["ratio"]["p50_ns"], 3.0);
    }
}
