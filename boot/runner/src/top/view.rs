//! Two moments as tables of what happened between them.

use serde_json::Value;

use super::sample::Sample;
use super::table::{Cell, Table};

const NS_PER_S: f64 = 1e9;
const MIB: f64 = 1024.0 * 1024.0;

/// What there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Reactors.
    Cores,
    /// What they poll.
    Pollers,
    /// Bdevs.
    Bdevs,
    /// Queues of NVMe/TCP hosts.
    Connections,
}

impl Section {
    /// All, in the order they are shown in.
    pub const ALL: [Self; 4] = [Self::Cores, Self::Pollers, Self::Bdevs, Self::Connections];

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cores => "Cores",
            Self::Pollers => "Pollers",
            Self::Bdevs => "Bdevs",
            Self::Connections => "Connections",
        }
    }

    /// What is said where there is nothing.
    pub const fn nothing(self) -> &'static str {
        match self {
            Self::Cores => "no core answers",
            Self::Pollers => "nothing is polled",
            Self::Bdevs => "there is no bdev",
            Self::Connections => "no host is connected",
        }
    }
}

/// The tables of all sections.
pub fn tables(before: &Sample, now: &Sample) -> [Table; 4] {
    let view = View { before, now };
    [view.cores(), view.pollers(), view.bdevs(), view.connections()]
}

struct View<'a> {
    before: &'a Sample,
    now: &'a Sample,
}

impl View<'_> {
    /// Of a counter's growth, how much a second.
    fn rate(&self, grown: f64) -> f64 {
        let ns = self.now.at_ns.saturating_sub(self.before.at_ns).max(1);
        grown * NS_PER_S / ns as f64
    }

    fn cores(&self) -> Table {
        let rows = self.now.reactors.iter().map(|reactor| {
            let core = reactor["lcore"].as_u64().unwrap_or(0);
            let before = find(&self.before.reactors, "lcore", &reactor["lcore"]);
            let grown = |name: &str| grown(before, reactor, name);
            let (busy, idle) = (grown("busy"), grown("idle"));
            let index = core as usize;
            let thread = self.now.threads.get(index).unwrap_or(&Value::Null);
            let pollers = |kind: &str| thread[kind].as_array().map_or(0, Vec::len) as f64;
            let group = self.now.groups.get(index).unwrap_or(&Value::Null);
            let ios = self::grown(self.before.groups.get(index), group, "completed_nvme_io");
            vec![
                Cell::whole(core as f64),
                Cell::Number(100.0 * busy / (busy + idle).max(1.0), 1),
                Cell::whole(self.rate(grown("rounds"))),
                Cell::whole(self.rate(grown("rests"))),
                Cell::whole(pollers("active_pollers")),
                Cell::whole(pollers("timed_pollers")),
                Cell::whole(number(group, "current_io_qpairs")),
                Cell::whole(self.rate(ios)),
            ]
        });
        let columns =
            &["CORE", "BUSY %", "ROUNDS/s", "RESTS/s", "POLLERS", "TIMED", "QUEUES", "IO/s"];
        Table { columns, rows: rows.collect() }
    }

    fn pollers(&self) -> Table {
        let mut rows = Vec::new();
        for thread in &self.now.threads {
            let before = find(&self.before.threads, "id", &thread["id"]);
            for kind in ["active_pollers", "timed_pollers"] {
                let then = before.and_then(|thread| thread[kind].as_array());
                for poller in thread[kind].as_array().into_iter().flatten() {
                    let then = then.and_then(|then| find(then, "id", &poller["id"]));
                    rows.push(self.poller(thread, then, poller));
                }
            }
        }
        let columns = &["THREAD", "POLLER", "PERIOD ms", "RUNS/s", "BUSY/s", "BUSY TIME %"];
        Table { columns, rows }
    }

    fn poller(&self, thread: &Value, before: Option<&Value>, poller: &Value) -> Vec<Cell> {
        let before = before.filter(|before| before["name"] == poller["name"]);
        let rate = |name: &str| self.rate(grown(before, poller, name));
        vec![
            text(&thread["name"]),
            text(&poller["name"]),
            Cell::Number(number(poller, "period_ticks") / 1e6, 1),
            Cell::whole(rate("run_count")),
            Cell::whole(rate("busy_count")),
            Cell::Number(100.0 * rate("busy") / NS_PER_S, 1),
        ]
    }

    fn bdevs(&self) -> Table {
        let rows = self.now.bdevs.iter().map(|bdev| {
            let before = find(&self.before.bdevs, "name", &bdev["name"]);
            let grown = |name: &str| grown(before, bdev, name);
            let latency_us = |kind: &str, ops: &str| match grown(ops) {
                0.0 => 0.0,
                ops => grown(kind) / ops / 1000.0,
            };
            vec![
                text(&bdev["name"]),
                Cell::whole(self.rate(grown("num_read_ops"))),
                Cell::whole(self.rate(grown("num_write_ops"))),
                Cell::Number(self.rate(grown("bytes_read")) / MIB, 1),
                Cell::Number(self.rate(grown("bytes_written")) / MIB, 1),
                Cell::Number(latency_us("read_latency_ticks", "num_read_ops"), 1),
                Cell::Number(latency_us("write_latency_ticks", "num_write_ops"), 1),
            ]
        });
        let columns =
            &["BDEV", "READS/s", "WRITES/s", "READ MiB/s", "WRITE MiB/s", "READ µs", "WRITE µs"];
        Table { columns, rows: rows.collect() }
    }

    fn connections(&self) -> Table {
        let rows = self.now.queues.iter().map(|queue| {
            let peer = &queue["peer_address"];
            let at = |name: &str| peer[name].as_str().unwrap_or("?");
            vec![
                text(&queue["subsystem"]),
                Cell::whole(number(queue, "cntlid")),
                Cell::whole(number(queue, "qid")),
                text(&queue["thread"]),
                Cell::text(format!("{} {}", at("traddr"), at("trsvcid"))),
                text(&queue["hostnqn"]),
            ]
        });
        let columns = &["SUBSYSTEM", "CNTLID", "QID", "THREAD", "HOST", "HOST NQN"];
        Table { columns, rows: rows.collect() }
    }
}

fn find<'a>(list: &'a [Value], field: &str, value: &Value) -> Option<&'a Value> {
    list.iter().find(|entry| entry[field] == *value)
}

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or(0.0)
}

/// How much a counter has grown; what was reset or has just come counts from zero.
fn grown(before: Option<&Value>, now: &Value, name: &str) -> f64 {
    let (now, then) = (number(now, name), before.map_or(0.0, |before| number(before, name)));
    if now < then { now } else { now - then }
}

fn text(value: &Value) -> Cell {
    Cell::text(value.as_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::Sorting;
    use super::*;

    fn list(value: Value) -> Vec<Value> {
        value.as_array().unwrap().clone()
    }

    /// A machine of one core after so many half seconds of 1,000 reads each.
    fn sample(halves: u64) -> Sample {
        let poller = |id: u64, name: &str, period: Value| {
            json!({"id": id, "name": name, "run_count": 5_000 * halves,
                "busy_count": 1_000 * halves, "busy": 250_000_000 * halves,
                "period_ticks": period})
        };
        let address = json!({"traddr": "10.0.0.2", "trsvcid": "50001"});
        Sample {
            at_ns: 500_000_000 * halves,
            reactors: list(json!([{"lcore": 0, "busy": 300_000_000 * halves,
                "idle": 100_000_000 * halves, "rounds": 5_000 * halves, "rests": 3 * halves}])),
            threads: list(json!([{"name": "reactor_0", "id": 1,
                "active_pollers": [poller(1, "nvmf_tcp", Value::Null)],
                "timed_pollers": [poller(1, "watchdog", json!(200_000_000))]}])),
            bdevs: list(json!([{"name": "Nvme0n1", "num_read_ops": 1_000 * halves,
                "bytes_read": 4_096_000 * halves, "read_latency_ticks": 85_500_000 * halves}])),
            groups: list(json!([{"current_io_qpairs": 2, "completed_nvme_io": 1_000 * halves}])),
            queues: list(
                json!([{"subsystem": "nqn.a", "cntlid": 1, "qid": 2, "thread": "reactor_0",
                "peer_address": address, "hostnqn": "nqn.host"}]),
            ),
        }
    }

    #[test]
    fn what_was_counted_between_two_moments_is_shown_by_the_second() {
        let lines = tables(&sample(4), &sample(6))
            .map(|table| table.lines(100, Sorting::default()).join("\n"));
        let expected = [
            "CORE  BUSY %  ROUNDS/s  RESTS/s  POLLERS  TIMED  QUEUES   IO/s\n   \
                0    75.0    10,000        6        1      1       2  2,000",
            "THREAD     POLLER    PERIOD ms  RUNS/s  BUSY/s  BUSY TIME %\n\
             reactor_0  nvmf_tcp        0.0  10,000   2,000         50.0\n\
             reactor_0  watchdog      200.0  10,000   2,000         50.0",
            "BDEV     READS/s  WRITES/s  READ MiB/s  WRITE MiB/s  READ µs  WRITE µs\n\
             Nvme0n1    2,000         0         7.8          0.0     85.5       0.0",
            "SUBSYSTEM  CNTLID  QID  THREAD     HOST            HOST NQN\n\
             nqn.a           1    2  reactor_0  10.0.0.2 50001  nqn.host",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_counter_that_was_reset_or_has_just_come_counts_from_zero() {
        let mut before = sample(6);
        let now = Sample { at_ns: before.at_ns + 1_000_000_000, ..sample(2) };
        let reads = |before: &Sample| tables(before, &now)[2].rows[0][1].clone();
        assert_eq!(reads(&before), Cell::whole(2_000.0));
        before.bdevs.clear();
        assert_eq!(reads(&before), Cell::whole(2_000.0));
    }

    #[test]
    fn a_machine_that_has_nothing_has_headings() {
        let nothing = || Sample {
            at_ns: 0,
            reactors: Vec::new(),
            threads: Vec::new(),
            bdevs: Vec::new(),
            groups: Vec::new(),
            queues: Vec::new(),
        };
        assert!(
            tables(&nothing(), &nothing())
                .iter()
                .all(|table| table.lines(80, Sorting::default()).len() == 1)
        );
    }
}
