//! Starts QEMU in the foreground, passes its console on, and ends it when asked.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::packages::find_program;

const POLL_PERIOD: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How a guest in the foreground ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The user asked for it (Ctrl-C, or a termination signal).
    Stopped,
    /// By itself, with QEMU's exit code (`None` if a signal ended it) and what QEMU said.
    Ended {
        /// QEMU's exit code.
        code: Option<i32>,
        /// What QEMU wrote to standard error.
        stderr: String,
    },
}

/// Runs `command` (a QEMU whose console is its standard output) until it ends or the user stops
/// it. The process is reaped in either case.
///
/// # Errors
/// QEMU cannot be started or waited for.
pub fn foreground(command: &Command) -> anyhow::Result<Ending> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || asked.store(true, Ordering::Release))
        .context("cannot watch for Ctrl-C")?;
    let mut child = tied(command)
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C reaches the runner alone, which then ends QEMU in order.
        .process_group(0)
        .spawn()
        .context("cannot start QEMU")?;
    let words = child.stderr.take().map(collect);
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if stop.load(Ordering::Acquire) {
            terminate(&mut child)?;
            break None;
        }
        thread::sleep(POLL_PERIOD);
    };
    let stderr = words.and_then(|words| words.join().ok()).unwrap_or_default();
    Ok(match ended {
        Some(status) => Ending::Ended { code: status.code(), stderr },
        None => Ending::Stopped,
    })
}

/// The same command, with QEMU tied to the life of the thread that starts it where `setpriv` can
/// do that, so that not even a killed runner leaves a guest behind.
#[must_use]
pub fn tied(command: &Command) -> Command {
    let Some(setpriv) = find_program("setpriv") else {
        let mut plain = Command::new(command.get_program());
        plain.args(command.get_args());
        return plain;
    };
    let mut tied = Command::new(setpriv);
    tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    tied
}

/// Ends a QEMU in order, by force if it does not follow within some seconds, and reaps it.
///
/// # Errors
/// It can be neither signalled nor waited for.
pub fn terminate(child: &mut Child) -> anyhow::Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    // Not yet reaped, so the number still names this process.
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGTERM).context("cannot signal QEMU")?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL_PERIOD);
    }
    child.kill()?;
    Ok(child.wait()?)
}

/// Asks a program to end as Ctrl-C would.
///
/// # Errors
/// It cannot be signalled.
pub fn interrupt(child: &Child) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGINT).context("cannot signal it")
}

/// Shows each line as it comes and keeps them all.
fn collect(source: impl io::Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            // QEMU names who ended it; the runner says that itself.
            if line.contains("terminating on signal") {
                continue;
            }
            eprintln!("{line}");
            all.push_str(&line);
            all.push('\n');
        }
        all
    })
}
