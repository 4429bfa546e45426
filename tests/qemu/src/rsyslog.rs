//! Debian's rsyslogd, which writes what it has read out of each message to a file.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::Context as _;
use basalt_runner::launch::tied;
use basalt_runner::{Workspace, packages};
use tempfile::TempDir;

/// One that listens to a port of 127.0.0.1.
pub struct Rsyslogd {
    child: Child,
    port: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Rsyslogd {
    /// Starts one, which is installed if it is not there. Each line of its log is made by its
    /// template `fields`.
    ///
    /// # Errors
    /// It cannot be installed or started.
    pub fn start(fields: &str) -> anyhow::Result<Self> {
        packages::ensure(&Workspace::locate()?, "rsyslogd", &["rsyslog"])?;
        let directory = TempDir::new()?;
        let [log, config, pid] = ["log", "conf", "pid"].map(|name| directory.path().join(name));
        // A port of UDP that is free now.
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let text = format!(
            "module(load=\"imudp\")\n\
             template(name=\"fields\" type=\"string\" string=\"{fields}\\n\")\n\
             ruleset(name=\"basalt\")\n\
             {{ action(type=\"omfile\" file=\"{}\" template=\"fields\") }}\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"basalt\")\n",
            log.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(config).arg("-i").arg(pid);
        let mut command = tied(&command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().context("rsyslogd")?;
        Ok(Self { child, port, log, _directory: directory })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its lines, once one of them has `part` in it, or those that there are after `limit`.
    pub fn until(&self, part: &str, limit: Duration) -> Vec<String> {
        let end = Instant::now() + limit;
        loop {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            if text.contains(part) || Instant::now() > end {
                return text.lines().map(str::to_owned).collect();
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
