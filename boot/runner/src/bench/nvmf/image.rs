//! What a read costs the image, by layer: the instructions that QEMU executes for it.
//!
//! QEMU logs every block of code it runs; of two runs of different length the difference is taken,
//! which leaves out everything but reads. Writing so much of a log slows the guest down until it
//! has always work, so that hardly a round of its loop finds nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::layers::{Counts, Layer};
use super::monitor::Monitor;
use super::trace::{self, Trace};
use super::{BOOT, client, servers};
use crate::accel::Accel;
use crate::bench::{Plan, guest};

/// I/Os in flight: enough that the guest always has some to do.
pub(super) const DEPTH: u32 = 32;
const WORKLOAD: &str = "randread";
/// Reads of the two runs.
const READS: [u64; 2] = [200, 1000];

/// Instructions of each layer per read. `symbols` is the program with its lines of source.
///
/// # Errors
/// The image does not come up, or the client cannot use it, or QEMU does not log.
pub(super) fn instructions(
    client: &Path,
    kernel: &Path,
    symbols: &Path,
    accel: Accel,
    plan: &Plan,
) -> anyhow::Result<BTreeMap<Layer, f64>> {
    let place = tempfile::tempdir().context("no place for the log")?;
    let (socket, log) = (place.path().join("qmp"), place.path().join("log"));
    mkfifo(&log, Mode::S_IRUSR | Mode::S_IWUSR).context("no pipe for the log")?;
    let target = servers::target(servers::IMAGE_SUBSYSTEM)?;
    let mut machine = servers::image(kernel, accel, target.port);
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    machine.extra.extend(["-qmp".into(), monitor.into()]);
    let _server = guest::start_until(&machine, servers::IMAGE_MARK, BOOT)?;
    let mut monitor = Monitor::connect(&socket)?;
    let plan = Plan { depths: vec![DEPTH], ..plan.clone() };
    let mut trace = Trace::default();
    let mut count = |reads| {
        trace = traced(std::mem::take(&mut trace), &mut monitor, &log, || {
            let amount = client::Amount::Ios(reads);
            client::measure(client, &target, &plan, (1, WORKLOAD), amount).map(drop)
        })?;
        trace.by_layer(symbols)
    };
    let [few, many] = READS;
    let (short, long) = (count(few)?, count(many)?);
    let of = |counts: &Counts, layer| counts.get(&layer).copied().unwrap_or_default() as f64;
    let reads = (many - few) as f64;
    let per_read = |layer| (layer, (of(&long, layer) - of(&short, layer)).max(0.0) / reads);
    Ok(Layer::ALL.map(per_read).into())
}

/// What the guest executes while `run` runs; `known` has been told before.
fn traced(
    known: Trace,
    monitor: &mut Monitor,
    log: &Path,
    run: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Trace> {
    let pipe = log.to_path_buf();
    // Opening a pipe waits for its other end, and QEMU opens it at the first of these commands.
    let reader =
        thread::spawn(move || known.count(BufReader::with_capacity(1 << 20, File::open(pipe)?)));
    monitor.run(&format!("logfile {}", log.display()))?;
    monitor.run("log in_asm,exec,nochain")?;
    let ran = run();
    monitor.run("log none")?;
    // QEMU keeps the pipe open for a while, so that its end has to be said.
    File::options().write(true).open(log)?.write_all(trace::END.as_bytes())?;
    let counted = reader.join().map_err(|_| anyhow!("reading QEMU's log failed"))?;
    ran.context("the image could not be measured")?;
    counted.context("QEMU's log cannot be read")
}
