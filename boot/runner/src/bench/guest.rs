//! Runs a guest, or another program, to its end and keeps what it says.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{DebugExit, Machine, launch};

/// How long a program may take to end once its console has.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The unit of processor times in /proc, on every Linux for x86-64 (sysconf(3), `_SC_CLK_TCK`).
const TICKS_PER_SECOND: u64 = 100;

/// What a guest that came to its end has said.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its console's lines.
    pub(super) lines: Vec<String>,
    /// How it ended.
    pub(super) exit: DebugExit,
}

/// What a guest has said, and when, counted from QEMU's start.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) lines: Vec<(Duration, String)>,
}

/// A guest that has come so far and goes on. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// What it had said by then.
    pub(super) said: Said,
    /// Keeps its console read.
    _receiver: Receiver<Line>,
}

/// Runs `machine` until a console line contains `mark`, and leaves it running.
///
/// # Errors
/// It does not start, or says no such thing within `limit`; what it said is in the error.
pub(super) fn start_until(
    machine: &Machine,
    mark: &str,
    limit: Duration,
) -> anyhow::Result<Running> {
    start_command_until(&machine.command(), mark, limit)
}

/// The same with any program.
///
/// # Errors
/// As [`start_until`].
pub(super) fn start_command_until(
    command: &Command,
    mark: &str,
    limit: Duration,
) -> anyhow::Result<Running> {
    let started = Instant::now();
    let mut child = start(command)?;
    let receiver = listen(&mut child)?;
    let (mut lines, mut complaints) = (Vec::new(), Vec::new());
    let deadline = started + limit;
    let found = loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Line::Console(line)) => {
                lines.push((started.elapsed(), line));
                if lines.last().is_some_and(|(_, line)| line.contains(mark)) {
                    break true;
                }
            }
            Ok(Line::Complaint(line)) => complaints.push(line),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break false,
        }
    };
    if !found {
        launch::terminate(&mut child)?;
        let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
        bail!("it did not say {mark:?}; {}", said(&lines, &complaints));
    }
    Ok(Running { child, said: Said { lines }, _receiver: receiver })
}

/// The same, and ends it then.
///
/// # Errors
/// As [`start_until`].
pub(super) fn run_until(machine: &Machine, mark: &str, limit: Duration) -> anyhow::Result<Said> {
    let mut running = start_until(machine, mark, limit)?;
    Ok(std::mem::take(&mut running.said))
}

impl Running {
    /// The processor time that QEMU has taken so far, of all its threads (proc(5)).
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which is in parentheses and may hold anything.
        let (_, rest) = stat.rsplit_once(')').context("/proc tells nothing of QEMU")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).context("/proc tells no times of QEMU")?;
        Ok(Duration::from_millis((ticks.0 + ticks.1) * 1000 / TICKS_PER_SECOND))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = launch::terminate(&mut self.child) {
            eprintln!("warning: a guest is left running: {error:#}");
        }
    }
}

/// Runs `machine` until it ends by itself.
///
/// # Errors
/// It does not start, or does not end within `limit`; what it said is in the error.
pub(super) fn run(machine: &Machine, limit: Duration) -> anyhow::Result<Finished> {
    let Output { lines, complaints, code } = run_command(&machine.command(), limit)?;
    match DebugExit::decode(code, &complaints.join("\n")) {
        DebugExit::Failed => bail!("QEMU could not run the guest; {}", said(&lines, &complaints)),
        exit => Ok(Finished { lines, exit }),
    }
}

/// What a program that came to its end has said.
#[derive(Debug)]
pub(super) struct Output {
    /// On standard output.
    pub(super) lines: Vec<String>,
    /// On standard error.
    pub(super) complaints: Vec<String>,
    /// Its exit code; none if a signal ended it.
    pub(super) code: Option<i32>,
}

impl Output {
    /// An error that shows what was said.
    pub(super) fn failure(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!("{what}; {}", said(&self.lines, &self.complaints))
    }
}

/// Runs a program until it ends by itself.
///
/// # Errors
/// It does not start, or does not end within `limit`; what it said is in the error.
pub(super) fn run_command(command: &Command, limit: Duration) -> anyhow::Result<Output> {
    let mut child = start(command)?;
    let receiver = listen(&mut child)?;
    let (mut lines, mut complaints) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + limit;
    // Until both streams end, which they do when the program does.
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Line::Console(line)) => lines.push(line),
            Ok(Line::Complaint(line)) => complaints.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                launch::terminate(&mut child)?;
                let said = said(&lines, &complaints);
                bail!("it did not end in {} s; {said}", limit.as_secs());
            }
        }
    }
    Ok(Output { lines, complaints, code: ended(&mut child)? })
}

impl Finished {
    /// An error that shows the console.
    pub(super) fn failure(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!("{what}; {}", said(&self.lines, &[]))
    }
}

fn start(command: &Command) -> anyhow::Result<Child> {
    launch::tied(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// All lines of both streams, as they come, until both end.
fn listen(child: &mut Child) -> anyhow::Result<Receiver<Line>> {
    let (sender, receiver) = mpsc::channel();
    read(child.stdout.take().context("no console")?, Line::Console, sender.clone());
    read(child.stderr.take().context("no standard error")?, Line::Complaint, sender);
    Ok(receiver)
}

#[derive(Debug)]
enum Line {
    Console(String),
    Complaint(String),
}

fn read(source: impl Read + Send + 'static, wrap: fn(String) -> Line, sender: Sender<Line>) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        while matches!(source.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if sender.send(wrap(text)).is_err() {
                return;
            }
        }
    });
}

/// The exit code of a program whose streams have ended.
fn ended(child: &mut std::process::Child) -> anyhow::Result<Option<i32>> {
    let deadline = Instant::now() + LAST_WORDS;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(launch::terminate(child)?.code())
}

fn said(lines: &[String], complaints: &[String]) -> String {
    const LINES_MAX: usize = 60;
    let all: Vec<&str> = lines.iter().chain(complaints).map(String::as_str).collect();
    if all.is_empty() {
        return "it said nothing".to_owned();
    }
    let last = &all[all.len().saturating_sub(LINES_MAX)..];
    format!("its last words:\n{}", last.join("\n"))
}
