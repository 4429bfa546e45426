//! SPDK's own client, as it comes from PyPI, and one that can break the rules.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use basalt_runner::{Workspace, packages};
use serde_json::Value;
use tempfile::NamedTempFile;

/// The package and the version these tests were written against.
const PACKAGE: &str = "spdk==26.9";
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls a machine's methods by running `spdk-rpc`.
pub struct SpdkRpc {
    port: u16,
}

impl SpdkRpc {
    /// A client of the server at `port` of 127.0.0.1.
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    /// The methods that the client has commands for.
    ///
    /// # Panics
    /// It does not tell.
    #[must_use]
    pub fn methods() -> Vec<String> {
        let output = Command::new(program()).arg("--help").output();
        let output = output.unwrap_or_else(|error| panic!("spdk-rpc does not start: {error}"));
        let help = String::from_utf8_lossy(&output.stdout);
        // Each is at the start of a line, set in by four columns.
        let name = |line: &str| {
            let rest = line.strip_prefix("    ")?;
            let name = rest.split_whitespace().next()?;
            let is_method = rest.starts_with(name) && name.contains('_');
            is_method.then(|| name.to_owned())
        };
        help.lines().filter_map(name).collect()
    }

    /// What a command prints; JSON if it is some, else a text.
    #[track_caller]
    pub fn call(&self, arguments: &str) -> Value {
        let text = self.text(arguments);
        serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.trim_end()))
    }

    /// What a command prints, as it is.
    #[track_caller]
    pub fn text(&self, arguments: &str) -> String {
        match self.run(arguments) {
            Ok(text) => text,
            Err(complaint) => panic!("spdk-rpc {arguments}: {complaint}"),
        }
    }

    /// What a command that must fail complains about.
    #[track_caller]
    pub fn complaint(&self, arguments: &str) -> String {
        match self.run(arguments) {
            Ok(text) => panic!("spdk-rpc {arguments} went well: {text}"),
            Err(complaint) => complaint,
        }
    }

    /// What a command prints that reads `input`: a configuration, or commands, one a line.
    ///
    /// # Errors
    /// What it complains about.
    pub fn feed(&self, arguments: &str, input: &str) -> Result<String, String> {
        let file = NamedTempFile::new().and_then(|file| {
            std::fs::write(file.path(), input)?;
            Ok(file)
        });
        let file = file.and_then(|file| file.reopen());
        let file = file.unwrap_or_else(|error| panic!("no place for the input: {error}"));
        self.run_with(arguments, file.into())
    }

    fn run(&self, arguments: &str) -> Result<String, String> {
        self.run_with(arguments, Stdio::null())
    }

    fn run_with(&self, arguments: &str, input: Stdio) -> Result<String, String> {
        let output = Command::new(program())
            .args(["-s", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments.split_whitespace())
            .stdin(input)
            .output();
        let output = output.unwrap_or_else(|error| panic!("spdk-rpc does not start: {error}"));
        let [out, complaints] = [output.stdout, output.stderr].map(|bytes| {
            String::from_utf8(bytes).unwrap_or_else(|error| panic!("spdk-rpc says {error}"))
        });
        if output.status.success() { Ok(out) } else { Err(out + &complaints) }
    }
}

/// The client's program; installed at the first call.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        install().unwrap_or_else(|error| panic!("SPDK's client cannot be installed: {error:#}"))
    })
}

fn install() -> anyhow::Result<PathBuf> {
    let workspace = Workspace::locate()?;
    let directory = workspace.target().join(PACKAGE.replace("==", "-"));
    let program = directory.join("bin/spdk-rpc");
    let _lock = workspace.lock("spdk-client")?;
    if program.exists() {
        return Ok(program);
    }
    packages::ensure_that(&workspace, "python3 with venv", &["python3", "python3-venv"], || {
        run(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
    })?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    run(Command::new(directory.join("bin/pip")).args([
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        PACKAGE,
    ]))?;
    if !program.exists() {
        bail!("{PACKAGE} has no spdk-rpc");
    }
    Ok(program)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A connection that sends whatever it is told to.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects to `port` of 127.0.0.1.
    pub fn connect(port: u16) -> Self {
        Self::connect_at((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Connects to that address.
    pub fn connect_at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.unwrap_or_else(|error| panic!("no connection: {error}"));
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.get_mut().write_all(bytes) {
            panic!("cannot send: {error}");
        }
    }

    /// Receives a reply.
    #[track_caller]
    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(len) if len > 0 => {}
            ended => panic!("no reply: {ended:?}"),
        }
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no reply: {error}"))
    }

    /// Calls a method without parameters and gives the whole reply.
    #[track_caller]
    pub fn call(&mut self, method: &str) -> Value {
        self.send(format!(r#"{{"jsonrpc": "2.0", "id": 7, "method": "{method}"}}"#).as_bytes());
        self.receive()
    }

    /// Whether the connection ends, in whatever way, without a word for a call.
    pub fn is_cut_off(&mut self) -> bool {
        let call = br#"{"id": 7, "method": "framework_wait_init"}"#;
        // It may be cut off before.
        let _ = self.stream.get_mut().write_all(call);
        let mut rest = Vec::new();
        let ended = self.stream.read_to_end(&mut rest);
        let timed_out = ended.is_err_and(|error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        });
        rest.is_empty() && !timed_out
    }

    /// Whether the server has closed its end, or does within a minute.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }
}
