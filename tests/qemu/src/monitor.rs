//! QEMU's machine protocol (QMP): for what happens to a machine while it runs.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::BasaltGuest;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a machine's monitor listens; [`Self::connect`] once it has started.
#[derive(Debug)]
pub struct MonitorSocket {
    directory: TempDir,
}

impl BasaltGuest {
    /// Gives the machine a monitor.
    ///
    /// # Panics
    /// There is no place for its socket.
    #[must_use]
    pub fn monitor(self) -> (Self, MonitorSocket) {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no socket: {error}"));
        let socket = MonitorSocket { directory };
        let option = format!("unix:{},server=on,wait=off", socket.path().display());
        (self.qemu_arg("-qmp").qemu_arg(&option), socket)
    }
}

impl MonitorSocket {
    fn path(&self) -> PathBuf {
        self.directory.path().join("qmp")
    }

    /// Connects to a machine that was started.
    ///
    /// # Panics
    /// Nothing answers as a monitor does.
    #[must_use]
    pub fn connect(&self) -> Monitor {
        Monitor::connect(self).unwrap_or_else(|error| panic!("no monitor: {error:#}"))
    }
}

/// A connected monitor.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
    /// Events that came while an answer was waited for.
    events: Vec<Value>,
}

impl Monitor {
    fn connect(socket: &MonitorSocket) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket.path())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self { stream: BufReader::new(stream), events: Vec::new() };
        monitor.receive().context("no greeting")?;
        monitor.try_execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Carries out a command.
    ///
    /// # Panics
    /// QEMU refuses it.
    #[track_caller]
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Value {
        match self.try_execute(command, arguments) {
            Ok(answer) => answer,
            Err(error) => panic!("{command} {arguments}: {error:#}"),
        }
    }

    /// Carries out a command of the monitor for humans that is the machine's end, which may come
    /// before QEMU's answer.
    ///
    /// # Panics
    /// QEMU refuses it, or does not know it.
    #[track_caller]
    pub fn end_by(&mut self, line: &str) {
        let answer = self.try_execute("human-monitor-command", &json!({"command-line": line}));
        let refused = match answer {
            Ok(printed) => printed.as_str().is_some_and(|printed| !printed.is_empty()),
            Err(error) => !error.chain().any(|cause| cause.is::<io::Error>()),
        };
        assert!(!refused, "QEMU refuses {line:?}");
    }

    /// Waits for an event whose data has `value` in its field `field`.
    ///
    /// # Panics
    /// It does not come.
    #[track_caller]
    pub fn wait_for_event(&mut self, event: &str, field: &str, value: &str) {
        let is_it = |seen: &Value| seen["event"] == event && seen["data"][field] == value;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(at) = self.events.iter().position(is_it) {
                self.events.remove(at);
                return;
            }
            // Events are only looked for with an answer, so that the wait has an end.
            self.execute("query-status", &json!({}));
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no {event} of {field} {value}");
    }

    fn try_execute(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream.get_mut(), "{request}")?;
        loop {
            let message = self.receive()?;
            if message.get("event").is_some() {
                self.events.push(message);
            } else if let Some(error) = message.get("error") {
                bail!("{error}");
            } else {
                return Ok(message["return"].clone());
            }
        }
    }

    fn receive(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let len = self.stream.read_line(&mut line).context("QEMU does not answer")?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("QEMU is gone");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
