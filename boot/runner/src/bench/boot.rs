//! `cargo run -- bench --boot`: from QEMU's start to the first completed NVMe read, beside Linux
//! with a small initial RAM disk that does nothing else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::beside::{self, Report, Row};
use super::{guest, machine};
use crate::accel::Accel;
use crate::linux::{Boot, COMMAND_LINE, Files, RESULT};
use crate::{Machine, Network, Nic, Workspace};

/// What the image says at the first read, with the microseconds since its entry.
const FIRST_READ: &str = "first block read ";
const READY: &str = "basalt: ready";
const IN_USE: &str = "memory in use: ";
/// What the Linux script says at the first read, with the memory in use in KiB.
const LINUX_FIRST_READ: &str = "BENCH-FIRST-READ ";

/// Starts of each; the median counts.
const STARTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// As much as both are given.
const MEMORY_MIB: u64 = 512;

/// What one side came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// From QEMU's start to the first completed read: median and extremes.
    wall: [Duration; 3],
    /// From entry to the first completed read, in time that passes by instructions alone.
    guest: Option<Duration>,
    /// What QEMU loads.
    files_bytes: u64,
    /// Memory in use once it is up.
    memory_kib: u64,
}

/// Measures Basalt, and Linux unless that is left out.
///
/// # Errors
/// A guest does not come up; its console is in the error.
pub(super) fn run(
    workspace: &Workspace,
    accel: Accel,
    files: Option<&Files>,
) -> anyhow::Result<Report<Figures>> {
    let (kernel, files_bytes) = workspace.build_image()?;
    eprintln!("Basalt: {STARTS} starts …");
    let basalt = basalt(&kernel, files_bytes, accel)?;
    if files.is_some() {
        eprintln!("Linux: {STARTS} starts …");
    }
    let linux = files.map(|files| linux(files, accel)).transpose()?;
    Ok(Report { accel, basalt, linux })
}

fn basalt(kernel: &Path, files_bytes: u64, accel: Accel) -> anyhow::Result<Figures> {
    let started = |accel| {
        let mut machine = machine(kernel, accel, None, 1);
        machine.memory_mib = MEMORY_MIB;
        machine.nics.push(Nic { network: Network::User(Vec::new()), mac: None });
        guest::run_until(&machine, READY, PATIENCE)
    };
    let (mut walls, mut memory_kib) = (Vec::new(), 0);
    for _ in 0..STARTS {
        let said = started(accel)?;
        walls.push(said.time_of(FIRST_READ)?);
        memory_kib = number_after(said.line_with(IN_USE)?, IN_USE)?;
    }
    let counted = started(Accel::Counted)?;
    let us = number_after(counted.line_with(FIRST_READ)?, FIRST_READ)?;
    let guest = Some(Duration::from_micros(us));
    Ok(Figures { wall: spread(walls), guest, files_bytes, memory_kib })
}

fn linux(files: &Files, accel: Accel) -> anyhow::Result<Figures> {
    let script = format!(
        "until [ -b /dev/nvme0n1 ]; do sleep 0.01; done\n\
         step read dd if=/dev/nvme0n1 of=/dev/null bs=4096 count=1\n\
         awk '/^MemTotal/ {{ all = $2 }} /^MemAvailable/ {{ free = $2 }} \
         END {{ print \"{LINUX_FIRST_READ}\" all - free }}' /proc/meminfo\n"
    );
    let boot = Boot { script: &script, with_fio: false, program: None, modules: &[] };
    let initrd = files.initrd(&boot)?;
    let files_bytes = fs::metadata(files.kernel())?.len() + initrd.as_file().metadata()?.len();
    let machine = Machine {
        initrd: Some(initrd.path().to_path_buf()),
        command_line: Some(COMMAND_LINE.to_owned()),
        memory_mib: MEMORY_MIB,
        ..machine(files.kernel(), accel, None, 1)
    };
    let (mut walls, mut memory_kib) = (Vec::new(), 0);
    for _ in 0..STARTS {
        let said = guest::run_until(&machine, RESULT, PATIENCE)?;
        walls.push(said.time_of(LINUX_FIRST_READ)?);
        memory_kib = number_after(said.line_with(LINUX_FIRST_READ)?, LINUX_FIRST_READ)?;
    }
    Ok(Figures { wall: spread(walls), guest: None, files_bytes, memory_kib })
}

/// Median, least and most.
fn spread(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    [at(times.len() / 2), at(0), at(times.len().saturating_sub(1))]
}

fn number_after(line: &str, mark: &str) -> anyhow::Result<u64> {
    let rest = line.split_once(mark).map(|(_, rest)| rest);
    let digits = rest.and_then(|rest| rest.split_whitespace().next());
    let number = digits.and_then(|digits| digits.parse().ok());
    number.with_context(|| format!("no number after {mark:?}: {line}"))
}

impl guest::Said {
    fn line_with(&self, mark: &str) -> anyhow::Result<&str> {
        let line = self.lines.iter().find(|(_, line)| line.contains(mark));
        line.map(|(_, line)| line.as_str()).with_context(|| format!("no line says {mark:?}"))
    }

    fn time_of(&self, mark: &str) -> anyhow::Result<Duration> {
        let line = self.lines.iter().find(|(_, line)| line.contains(mark));
        let (time, _) = line.with_context(|| format!("no line says {mark:?}"))?;
        ensure!(!time.is_zero(), "QEMU said {mark:?} before it was started");
        Ok(*time)
    }
}

impl beside::Figures for Figures {
    const LEAST: f64 = 0.001;
    const ROWS: &'static [Row<Self>] = &[
        ("first read, median, ms", |f| Some(ms(f.wall[0]))),
        ("first read, fastest, ms", |f| Some(ms(f.wall[1]))),
        ("first read, slowest, ms", |f| Some(ms(f.wall[2]))),
        ("guest time (-icount), ms", |f| f.guest.map(ms)),
        ("boot files, MiB", |f| Some(f.files_bytes as f64 / 1_048_576.0)),
        ("memory in use, MiB", |f| Some(f.memory_kib as f64 / 1024.0)),
    ];

    fn title() -> String {
        let what = "From QEMU's start to the first completed NVMe read";
        format!("{what}, one core, {MEMORY_MIB} MiB")
    }

    /// Times in microseconds.
    fn to_json(&self) -> Value {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        json!({
            "first_read_us": us(self.wall[0]),
            "first_read_min_us": us(self.wall[1]),
            "first_read_max_us": us(self.wall[2]),
            "guest_us": self.guest.map(us),
            "files_bytes": self.files_bytes,
            "memory_in_use_kib": self.memory_kib,
        })
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_the_mean() {
        let ms = Duration::from_millis;
        assert_eq!(spread(vec![ms(9), ms(1), ms(2)]), [ms(2), ms(1), ms(9)]);
    }

    #[test]
    fn the_number_after_a_mark_is_read() {
        let line = "[0.07] INFO bdev: Nvme0n1: first block read 70297 us after the start";
        assert_eq!(number_after(line, FIRST_READ).unwrap(), 70_297);
        assert!(number_after("first block read soon", FIRST_READ).is_err());
    }

    #[test]
    fn both_sides_are_shown_with_their_ratio() {
        let wall = [Duration::from_millis(200); 3];
        let guest = Some(Duration::from_millis(31));
        let basalt = Figures { wall, guest, files_bytes: 1 << 20, memory_kib: 2048 };
        let wall = [Duration::from_secs(4); 3];
        let linux = Figures { wall, guest: None, ..basalt.clone() };
        let report = Report { accel: Accel::Tcg, basalt, linux: Some(linux) };
        let text = report.to_string();
        assert!(text.contains("20.0x") && text.contains("31.0") && text.contains('–'), "{text}");
        assert_eq!(report.to_json()["linux"]["first_read_us"], 4_000_000);
    }
}
