//! Linux's side: a script that runs fio at each depth.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::report::{Figures, Latency};
use super::{Plan, WARMUP, guest};
use crate::Machine;
use crate::cli::DEFAULT_IO_SIZE;
use crate::linux::{Boot, COMMAND_LINE, Files, RESULT_OK};

/// Starts the line of a rate: `depth {json}`.
pub(super) const RATE: &str = "BENCH-RATE ";
/// Starts the line of a reading: nanoseconds since boot, idle, idle while waiting for I/O.
const CLOCK: &str = "BENCH-CLOCK ";

/// Booting, and starting fio, which is linked with a hundred libraries.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// The shorter of two runs has this part of the longer one's I/Os.
const SHORT: u64 = 5;

/// A rare lost doorbell stalls the drive when the emulator runs on one thread (see `Machine`);
/// Linux mends that after two of its time limits, so that they are short here. What was measured
/// meanwhile is measured again.
const COUNTED_LINE: &str = "idle=poll nvme_core.io_timeout=1";
const TRIES: u32 = 3;

/// What all runs have in common.
const COMMON: &str = "--name=bench --filename=/dev/nvme0n1 --direct=1 --rw=randread \
    --ioengine=io_uring --norandommap --size=100% --thread --output-format=json";

/// Total latencies, as Basalt's are, at the same percentiles.
const LATENCIES: &str =
    "--lat_percentiles=1 --clat_percentiles=0 --percentile_list=50:99:99.9 --time_based";

/// Rates and latencies at each depth.
pub(super) fn rates(
    (machine, files): (Machine, &Files),
    plan: &Plan,
) -> anyhow::Result<Vec<Figures>> {
    // fio adds the time of the warm-up to that of the run itself.
    let (time_ms, warmup_ms) = (plan.time.as_millis(), WARMUP.as_millis());
    let mut script = waits_for_drive();
    for depth in &plan.depths {
        let _ = writeln!(
            script,
            "step fio-{depth} fio {COMMON} {LATENCIES} --bs={DEFAULT_IO_SIZE} --iodepth={depth} \
             --runtime={time_ms}ms --ramp_time={warmup_ms}ms --output=/tmp/out\n\
             echo \"{RATE}{depth} $(tr -d '\\n' </tmp/out)\""
        );
    }
    let limit = (plan.time + WARMUP) * plan.depths.len() as u32 + PATIENCE;
    let lines = run(machine, files, &script, "", limit)?;
    let rates = lines.iter().filter_map(|line| line.split_once(RATE));
    let figures: Vec<_> = rates.map(|(_, text)| figures(text)).collect::<Result<_, _>>()?;
    ensure!(figures.len() == plan.depths.len(), "fio's console lost a result");
    Ok(figures)
}

/// Instructions per I/O at each depth.
pub(super) fn instructions(
    (machine, files): (Machine, &Files),
    plan: &Plan,
) -> anyhow::Result<Vec<u64>> {
    let runs = [plan.ios / SHORT, plan.ios];
    let script = counting_script(plan, runs);
    let count = |machine| run(machine, files, &script, COUNTED_LINE, PATIENCE);
    // A stall that Linux does not mend in time takes the whole guest with it: once more, then.
    let lines = count(machine.clone()).or_else(|_| count(machine))?;
    plan.depths.iter().map(|depth| slope(&readings(&lines, *depth)?, runs)).collect()
}

fn counting_script(plan: &Plan, [short, long]: [u64; 2]) -> String {
    // The first fio finds nothing in the page cache, so one runs before any that counts.
    let mut script = format!(
        "{}step fio fio {COMMON} --number_ios=1 --output=/tmp/out\n\
         stalls() {{ dmesg | grep -c 'nvme.*timeout'; }}\n\
         clock() {{ awk -v depth=$1 '/^now at/ {{ now = $3 }} /idle_sleeptime/ {{ idle = $3 }} \
         /iowait_sleeptime/ {{ wait = $2 }} END {{ print \"{CLOCK}\" depth, now, idle, wait }}' \
         /proc/timer_list; }}\n\
         counted() {{ clock $1; step fio-$1-$2 fio {COMMON} --gtod_reduce=1 --bs={DEFAULT_IO_SIZE} \
         --iodepth=$1 --number_ios=$2 --output=/tmp/out; clock $1; }}\n",
        waits_for_drive()
    );
    for depth in &plan.depths {
        let _ = writeln!(
            script,
            "for try in $(seq {TRIES}); do before=$(stalls); counted {depth} {short}; \
             counted {depth} {long}; [ \"$(stalls)\" != \"$before\" ] || break; done"
        );
    }
    script
}

/// The last four readings of a depth: before and after a short and a long run.
fn readings(lines: &[String], depth: u32) -> anyhow::Result<[u64; 4]> {
    let mark = format!("{CLOCK}{depth} ");
    let texts: Vec<&str> =
        lines.iter().filter_map(|line| Some(line.split_once(&mark)?.1)).collect();
    let Some(last) = texts.last_chunk::<4>() else {
        bail!("fio's console lost a reading at depth {depth}");
    };
    let mut readings = [0; 4];
    for (reading, text) in readings.iter_mut().zip(last) {
        *reading = busy_ns(text)?;
    }
    Ok(readings)
}

/// Instructions per I/O: what the longer run took more, for each I/O that it had more.
fn slope([a, b, c, d]: &[u64; 4], [short, long]: [u64; 2]) -> anyhow::Result<u64> {
    let more = (d - c).checked_sub(b - a).context("more I/Os took fewer instructions")?;
    Ok(more / (long - short).max(1))
}

/// The time that was not idle, of a reading.
fn busy_ns(text: &str) -> anyhow::Result<u64> {
    let numbers: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let &[now, idle, wait] = numbers.as_slice() else {
        bail!("no reading of the guest's clock: {text}");
    };
    now.checked_sub(idle + wait).context("the guest was idle for longer than it ran")
}

pub(super) fn waits_for_drive() -> String {
    "step drive waits 20 test -b /dev/nvme0n1\n".to_owned()
}

fn run(
    mut machine: Machine,
    files: &Files,
    script: &str,
    more: &str,
    limit: Duration,
) -> anyhow::Result<Vec<String>> {
    let boot = Boot { script, with_fio: true, program: None, modules: &[] };
    let initrd = files.initrd(&boot)?;
    machine.initrd = Some(initrd.path().to_path_buf());
    machine.command_line = Some(format!("{COMMAND_LINE} {more}").trim_end().to_owned());
    let finished = guest::run(&machine, limit)?;
    if !finished.lines.iter().any(|line| line.contains(RESULT_OK)) {
        return Err(finished.failure("fio failed"));
    }
    Ok(finished.lines)
}

fn figures(text: &str) -> anyhow::Result<Figures> {
    let (depth, json) = text.split_once(' ').context("a rate without a result")?;
    let result: Value = serde_json::from_str(json).context("fio's result is no JSON")?;
    let read = &result["jobs"][0]["read"];
    let number = |value: &Value| value.as_f64().map(|number| number.round() as u64);
    let latency = &read["lat_ns"];
    let percentile = |key: &str| number(&latency["percentile"][key]);
    let figures = || {
        Some(Figures {
            depth: depth.parse().ok()?,
            ios: number(&read["total_ios"])?,
            iops: number(&read["iops"])?,
            latency: Some(Latency {
                mean_ns: number(&latency["mean"])?,
                p50_ns: percentile("50.000000")?,
                p99_ns: percentile("99.000000")?,
                p999_ns: percentile("99.900000")?,
            }),
            mib_per_s: number(&read["bw_bytes"])? >> 20,
            milli_allocations: None,
            instructions: None,
        })
    };
    figures().with_context(|| format!("a figure is missing in fio's result: {json}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_out_what_every_run_costs() {
        assert_eq!(slope(&[100, 1_100, 5_000, 9_000], [10, 40]).unwrap(), 100);
        assert!(slope(&[100, 1_100, 5_000, 5_500], [10, 40]).is_err());
    }

    #[test]
    fn the_last_readings_of_a_depth_count() {
        let all = [(1, 9), (1, 10), (1, 20), (1, 30), (1, 50), (16, 60)];
        let lines = all.map(|(depth, now)| format!("{CLOCK}{depth} {now} 1 2"));
        assert_eq!(readings(&lines, 1).unwrap(), [7, 17, 27, 47]);
        assert!(readings(&lines, 16).is_err());
    }

    #[test]
    fn waiting_for_io_is_idle() {
        assert_eq!(busy_ns("100 20 30").unwrap(), 50);
        assert!(busy_ns("100 20").is_err());
        assert!(busy_ns("100 90 30").is_err());
    }

    #[test]
    fn fios_result_is_read() {
        let json = r#"32 {"jobs":[{"read":{"total_ios":7,"iops":12.6,
            "bw_bytes":3145728,"lat_ns":{"mean":5.4,
            "percentile":{"50.000000":1,"99.000000":2,"99.900000":3}}}}]}"#;
        let figures = figures(json).unwrap();
        assert_eq!((figures.depth, figures.ios, figures.iops), (32, 7, 13));
        let latency = figures.latency.unwrap();
        assert_eq!((latency.mean_ns, latency.p999_ns), (5, 3));
        assert!(super::figures("1 {}").is_err());
    }
}
