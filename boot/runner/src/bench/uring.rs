//! Linux's side at its fastest: fio's `t/io_uring`, which does nothing but I/O, polled.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::fio::{PATIENCE, RATE, waits_for_drive};
use super::report::Figures;
use super::{Plan, guest};
use crate::Machine;
use crate::cli::DEFAULT_IO_SIZE;
use crate::linux::{Boot, COMMAND_LINE, Files, RESULT_OK};

/// The most that is submitted or reaped with one call, as the program would have it.
const BATCH_MAX: u32 = 32;

/// Has the driver set one queue aside for polling.
const POLLED_LINE: &str = "nvme.poll_queues=1";
const POLLED: &str = "step queues sh -c 'dmesg | grep \"/1 default/read/poll queues\"'\n";

/// Rates at each depth; what they print of latencies is not comparable.
pub(super) fn rates(
    mut machine: Machine,
    files: &Files,
    plan: &Plan,
    program: &Path,
) -> anyhow::Result<Vec<Figures>> {
    let seconds = seconds(plan);
    let name = program.file_name().context("--t-io-uring: give the program's path")?;
    let script = script(plan, seconds, &name.to_string_lossy());
    let boot = Boot { script: &script, with_fio: false, program: Some(program), modules: &[] };
    let initrd = files.initrd(&boot)?;
    machine.initrd = Some(initrd.path().to_path_buf());
    machine.command_line = Some(format!("{COMMAND_LINE} {POLLED_LINE}"));
    let limit = Duration::from_secs(u64::from(seconds)) * plan.depths.len() as u32 + PATIENCE;
    let finished = guest::run(&machine, limit)?;
    if !finished.lines.iter().any(|line| line.contains(RESULT_OK)) {
        return Err(finished.failure("t/io_uring failed; it has to be linked statically"));
    }
    let rates = finished.lines.iter().filter_map(|line| line.split_once(RATE));
    let figures: Vec<_> = rates.map(|(_, text)| figures(text)).collect::<Result<_, _>>()?;
    ensure!(figures.len() == plan.depths.len(), "t/io_uring's console lost a result");
    Ok(figures)
}

/// The program counts whole seconds and does not tell of the last; the first is to warm up.
fn seconds(plan: &Plan) -> u32 {
    plan.time.as_secs_f64().ceil() as u32 + 2
}

fn script(plan: &Plan, seconds: u32, name: &str) -> String {
    let mut script = waits_for_drive() + POLLED;
    for depth in &plan.depths {
        let batch = BATCH_MAX.min(*depth);
        let _ = writeln!(
            script,
            "step io_uring-{depth} {name} -d {depth} -s {batch} -c {batch} -b {DEFAULT_IO_SIZE} \
             -p 1 -B 1 -F 1 -R 1 -n 1 -r {seconds} /dev/nvme0n1 >/tmp/out\n\
             echo \"{RATE}{depth} $(tr '\\n' ' ' </tmp/out)\""
        );
    }
    script
}

/// The mean of what the program said each second, but the first.
fn figures(text: &str) -> anyhow::Result<Figures> {
    let (depth, said) = text.split_once(' ').context("a rate without a result")?;
    // The last one repeats the highest.
    let each = said.split("IOPS=").skip(1).filter(|part| part.contains("IOS/call"));
    let rates: Vec<f64> = each.skip(1).map_while(rate).collect();
    let iops = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    ensure!(iops > 0.0, "t/io_uring did no I/O at depth {depth}: {said}");
    Ok(Figures {
        depth: depth.parse()?,
        ios: rates.iter().sum::<f64>() as u64,
        iops: iops.round() as u64,
        mib_per_s: (iops as u64 * u64::from(DEFAULT_IO_SIZE)) >> 20,
        latency: None,
        milli_allocations: None,
        instructions: None,
    })
}

/// `1234, …`, `123.45K, …` or `1.23M, …`.
fn rate(text: &str) -> Option<f64> {
    let (number, _) = text.split_once(',')?;
    let scaled = |suffix, factor| Some(number.strip_suffix(suffix)?.parse::<f64>().ok()? * factor);
    scaled('K', 1e3).or_else(|| scaled('M', 1e6)).or_else(|| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_every_unit_and_the_first_is_left_out() {
        let text = "32 submitter=0 IOPS=5, BW=0MiB/s, IOS/call=32/31 IOPS=99000, BW=386MiB/s, \
                    IOS/call=32/31 IOPS=101.00K, BW=394MiB/s, IOS/call=32/32 Exiting on timeout \
                    Maximum IOPS=101.00K ";
        let figures = figures(text).unwrap();
        assert_eq!((figures.depth, figures.ios, figures.iops), (32, 200_000, 100_000));
        assert_eq!(rate("1.25M, x"), Some(1_250_000.0));
        assert!(super::figures("1 IOPS=5, IOS/call=1/1").is_err(), "only the first second");
    }

    #[test]
    fn batches_are_no_larger_than_what_is_in_flight() {
        let script = script(&super::super::tests::plan(), 5, "io_uring");
        assert!(script.contains("io_uring -d 1 -s 1 -c 1 ") && script.contains("-d 32 -s 32 "));
    }
}
