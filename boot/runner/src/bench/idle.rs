//! `cargo run -- bench --idle`: what a machine without work costs its host, and how fast it is
//! there when work comes, beside Linux.
//!
//! The host sends an ARP request over an Ethernet cable and waits for the reply, which takes one
//! interrupt, one frame in and one out on either side: after a pause, when the guest has gone to
//! rest, and without one, when it hardly has.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::beside::{self, Report, Row};
use super::wire::{GUEST, Wire};
use super::{guest, machine};
use crate::accel::Accel;
use crate::linux::{Boot, COMMAND_LINE, Files, STEP_OK};
use crate::{Machine, Network, Nic, Workspace};

const READY: &str = "basalt: ready";
const PATIENCE: Duration = Duration::from_secs(60);
/// Time to come to rest after the start, and to be watched then.
const SETTLING: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(10);
/// Questions of each kind, and the pause before those that find the guest at rest.
const QUESTIONS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// What one side came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Of one processor of the host, while nothing happens.
    cpu_percent: f64,
    /// Until the answer, medians.
    after_a_pause: Duration,
    without_a_pause: Duration,
}

/// Measures Basalt, and Linux unless that is left out.
///
/// # Errors
/// A guest does not come up or answer; its console is in the error.
pub(super) fn run(
    workspace: &Workspace,
    accel: Accel,
    files: Option<&Files>,
) -> anyhow::Result<Report<Figures>> {
    let (kernel, _) = workspace.build_image()?;
    let place = tempfile::tempdir().context("no place for a socket")?;
    eprintln!("Basalt: {} s of rest, then {} questions …", WATCHED.as_secs(), 2 * QUESTIONS);
    let basalt = basalt(&kernel, accel, place.path())?;
    if files.is_some() {
        eprintln!("Linux: the same …");
    }
    let linux = files.map(|files| linux(files, accel, place.path())).transpose()?;
    Ok(Report { accel, basalt, linux })
}

fn basalt(kernel: &Path, accel: Accel, place: &Path) -> anyhow::Result<Figures> {
    let [a, b, c, d] = GUEST;
    let config = json!({"subsystems": [{"subsystem": "net", "config": [{
        "method": "net_set_interface",
        "params": {"name": "net0", "address": format!("{a}.{b}.{c}.{d}/24")},
    }]}]});
    let (file, socket) = (place.join("basalt.json"), place.join("basalt"));
    std::fs::write(&file, config.to_string())?;
    let mut machine = machine(kernel, accel, None, 1);
    machine.initrd = Some(file);
    machine.nics.push(nic(&socket));
    measure(&machine, READY, &socket)
}

fn linux(files: &Files, accel: Accel, place: &Path) -> anyhow::Result<Figures> {
    let script = format!("step ready true\nsleep {}\n", PATIENCE.as_secs());
    let boot = Boot { script: &script, with_fio: false, program: None, modules: &[] };
    let initrd = files.initrd(&boot)?;
    let ([a, b, c, d], socket) = (GUEST, place.join("linux"));
    let mut machine = machine(files.kernel(), accel, None, 1);
    machine.initrd = Some(initrd.path().to_path_buf());
    machine.command_line = Some(format!("{COMMAND_LINE} basalt.address={a}.{b}.{c}.{d}/24"));
    machine.nics.push(nic(&socket));
    measure(&machine, &format!("{STEP_OK} ready."), &socket)
}

fn nic(socket: &Path) -> Nic {
    Nic { network: Network::Listen(socket.to_path_buf()), mac: None }
}

fn measure(machine: &Machine, ready: &str, socket: &Path) -> anyhow::Result<Figures> {
    let guest = guest::start_until(machine, ready, PATIENCE)?;
    let mut wire = Wire::plug_in(socket)?;
    // The first answers take longer: nothing has been translated yet.
    ask(&mut wire, Duration::ZERO)?;
    thread::sleep(SETTLING);
    let (before, began) = (guest.cpu_time()?, Instant::now());
    thread::sleep(WATCHED);
    let taken = guest.cpu_time()?.saturating_sub(before);
    let cpu_percent = taken.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let without_a_pause = ask(&mut wire, Duration::ZERO)?;
    let after_a_pause = ask(&mut wire, PAUSE)?;
    Ok(Figures { cpu_percent, after_a_pause, without_a_pause })
}

/// The median time until the answer of questions that are so far apart.
fn ask(wire: &mut Wire, pause: Duration) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        thread::sleep(pause);
        times.push(wire.ask()?);
    }
    times.sort_unstable();
    times.get(QUESTIONS / 2).copied().context("no answers")
}

impl beside::Figures for Figures {
    /// The host accounts in ticks, of which so much is one in ten seconds.
    const LEAST: f64 = 0.1;
    const ROWS: &'static [Row<Self>] = &[
        ("host processor at rest, %", |figures| Some(figures.cpu_percent)),
        ("answer at rest, median, µs", |figures| Some(us(figures.after_a_pause))),
        ("answer awake, median, µs", |figures| Some(us(figures.without_a_pause))),
    ];

    fn title() -> String {
        String::from("A machine without work, one core")
    }

    /// Times in nanoseconds.
    fn to_json(&self) -> Value {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        json!({
            "cpu_percent": self.cpu_percent,
            "answer_at_rest_ns": ns(self.after_a_pause),
            "answer_awake_ns": ns(self.without_a_pause),
        })
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
