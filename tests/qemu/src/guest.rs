//! A running QEMU.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use basalt_runner::{DebugExit, Machine, launch};
use tempfile::NamedTempFile;

use crate::console::{Console, Missing};

const POLL_PERIOD: Duration = Duration::from_millis(10);

/// A running guest; ended when dropped.
#[derive(Debug)]
pub struct Guest {
    name: String,
    child: Child,
    console: Console,
    complaints: Console,
    started: Instant,
    /// Files that must stay as long as it runs.
    files: Vec<NamedTempFile>,
}

impl Guest {
    /// Starts `machine`; `name` tells its console from those of other guests.
    ///
    /// # Panics
    /// QEMU does not start.
    #[must_use]
    pub fn start(name: &str, machine: &Machine) -> Self {
        Self::run(name, &machine.command())
    }

    /// Starts a program that stands for a guest; its console is its standard output.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn run(name: &str, command: &Command) -> Self {
        Self::try_run(name, command).unwrap_or_else(|error| panic!("guest {name}: {error:#}"))
    }

    fn try_run(name: &str, command: &Command) -> anyhow::Result<Self> {
        let mut child = launch::tied(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start it")?;
        let console = child.stdout.take().context("no console")?;
        let complaints = child.stderr.take().context("no standard error")?;
        Ok(Self {
            name: name.to_owned(),
            child,
            console: Console::capture(console),
            complaints: Console::capture(complaints),
            started: Instant::now(),
            files: Vec::new(),
        })
    }

    /// Keeps `file` until the guest is dropped.
    pub fn keep(mut self, file: NamedTempFile) -> Self {
        self.files.push(file);
        self
    }

    /// Waits until a console line contains `pattern` (lines already there count) and returns it.
    ///
    /// # Panics
    /// None does within `timeout`, or the guest ends without one.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, timeout: Duration) -> String {
        self.wait_for_nth_line(pattern, 1, timeout)
    }

    /// Like [`wait_for_line`](Self::wait_for_line) for the `nth` such line, from 1.
    ///
    /// # Panics
    /// There are not that many within `timeout`, or before the guest ends.
    #[track_caller]
    pub fn wait_for_nth_line(&self, pattern: &str, nth: usize, timeout: Duration) -> String {
        match self.console.wait_for(pattern, nth, Instant::now() + timeout) {
            Ok(line) => line,
            Err(Missing::Ended) => {
                panic!("guest {} ended without line {nth} with {pattern:?}", self.name)
            }
            Err(Missing::TimedOut) => {
                panic!("guest {}: no line {nth} with {pattern:?} in {timeout:?}", self.name)
            }
        }
    }

    /// Waits until it complains of `pattern` on its standard error and returns that line.
    ///
    /// # Panics
    /// It does not within `timeout`, or ends without.
    #[track_caller]
    pub fn wait_for_complaint(&self, pattern: &str, timeout: Duration) -> String {
        match self.complaints.wait_for(pattern, 1, Instant::now() + timeout) {
            Ok(line) => line,
            Err(missing) => {
                panic!("guest {}: no complaint of {pattern:?}: {missing:?}", self.name)
            }
        }
    }

    /// Asks it to end as Ctrl-C would.
    ///
    /// # Panics
    /// It cannot be signalled.
    pub fn interrupt(&self) {
        let interrupted = launch::interrupt(&self.child);
        assert!(interrupted.is_ok(), "guest {}: {interrupted:?}", self.name);
    }

    /// All console lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.console.lines()
    }

    /// Waits until QEMU ends by itself, and until its console is read to the end.
    ///
    /// # Panics
    /// It still runs after `timeout`.
    #[track_caller]
    pub fn wait_for_exit(&mut self, timeout: Duration) -> DebugExit {
        let code = self.wait_for_code(timeout);
        DebugExit::decode(code, &self.complaints.lines().join("\n"))
    }

    /// The same for a program that is no QEMU: its exit code, or none if a signal ended it.
    ///
    /// # Panics
    /// It still runs after `timeout`.
    #[track_caller]
    pub fn wait_for_code(&mut self, timeout: Duration) -> Option<i32> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    // No line contains a line break: this waits for the end of each stream.
                    let _ = self.console.wait_for("\n", 1, deadline);
                    let _ = self.complaints.wait_for("\n", 1, deadline);
                    return status.code();
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(POLL_PERIOD),
                Ok(None) => panic!("guest {} still runs after {timeout:?}", self.name),
                Err(error) => panic!("guest {} cannot be waited for: {error}", self.name),
            }
        }
    }

    /// Ends the guest at once, as a power cut would.
    ///
    /// # Panics
    /// QEMU cannot be killed.
    pub fn kill(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        assert!(killed.is_ok(), "guest {}: {killed:?}", self.name);
    }

    fn print(&self) {
        let age = self.started.elapsed().as_secs_f32();
        eprintln!("---- console of guest {} after {age:.1} s ----", self.name);
        for line in self.console.lines() {
            eprintln!("{line}");
        }
        for line in self.complaints.lines() {
            eprintln!("it complains: {line}");
        }
        eprintln!("---- end of console of guest {} ----", self.name);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let ended = launch::terminate(&mut self.child);
        if thread::panicking() {
            self.print();
        }
        if let Err(error) = ended {
            eprintln!("guest {} could not be ended: {error:#}", self.name);
        }
    }
}
