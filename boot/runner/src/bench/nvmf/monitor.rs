//! QEMU's machine protocol (QMP), as far as a benchmark needs it: commands of its human monitor.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connected monitor.
#[derive(Debug)]
pub(super) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to a machine that listens at `socket`.
    pub(super) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's monitor is out of reach")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self(BufReader::new(stream));
        let _greeting = monitor.read()?;
        monitor.execute(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Runs a command of the human monitor, which says nothing if all is well.
    pub(super) fn run(&mut self, command: &str) -> anyhow::Result<()> {
        let arguments = json!({"command-line": command});
        let answer =
            self.execute(&json!({"execute": "human-monitor-command", "arguments": arguments}))?;
        match answer.as_str().map(str::trim) {
            Some("") => Ok(()),
            _ => bail!("QEMU does not do {command:?}: {answer}"),
        }
    }

    fn execute(&mut self, command: &Value) -> anyhow::Result<Value> {
        self.0.get_mut().write_all(format!("{command}\n").as_bytes())?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's monitor: {error}");
            }
            // What is none is an event.
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("QEMU's monitor does not answer")?;
        serde_json::from_str(&line).context("QEMU's monitor says no JSON")
    }
}
