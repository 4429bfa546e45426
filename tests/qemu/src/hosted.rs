//! The hosted twin of the image, as a process of this host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use basalt_runner::{Build, Workspace};

use crate::basalt::{free_ports, write_config};
use crate::{Guest, host};

/// Describes a hosted twin; [`start`](Self::start) starts it.
#[derive(Debug)]
pub struct HostedTwin {
    name: String,
    command: Command,
    config: Option<String>,
    /// NVMe/TCP.
    pub nvmf: u16,
    /// NVMe/TCP discovery.
    pub discovery: u16,
    /// JSON-RPC.
    pub rpc: u16,
    /// HTTP.
    pub http: u16,
}

impl HostedTwin {
    /// Two cores and nothing to serve, on free ports of 127.0.0.1; built with all checks.
    ///
    /// # Panics
    /// It does not build, or the host has no free port.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let [nvmf, discovery, rpc, http] = free_ports([4420, 8009, 5260, 9090]);
        let command = Command::new(program());
        Self { name: name.to_owned(), command, config: None, nvmf, discovery, rpc, http }
    }

    /// Serves the file at `path`.
    #[must_use]
    pub fn file(self, path: &Path) -> Self {
        self.argument("--file").argument(&path.to_string_lossy())
    }

    /// Hands over this configuration (SPDK's JSON form).
    #[must_use]
    pub fn config(mut self, json: &str) -> Self {
        self.config = Some(json.to_owned());
        self
    }

    /// Passes one more argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Starts it. Its console is its standard output.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(mut self) -> Guest {
        for (option, port) in [
            ("--nvmf-port", self.nvmf),
            ("--discovery-port", self.discovery),
            ("--rpc-port", self.rpc),
            ("--http-port", self.http),
        ] {
            self.command.arg(option).arg(port.to_string());
        }
        let config = self.config.map(|json| match write_config(&json) {
            Ok(file) => file,
            Err(error) => panic!("{error:#}"),
        });
        if let Some(file) = &config {
            self.command.arg("--config").arg(file.path());
        }
        let guest = Guest::run(&self.name, &self.command);
        config.into_iter().fold(guest, Guest::keep)
    }
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let workspace: &Workspace = &host().workspace;
    PROGRAM.get_or_init(|| match workspace.build_hosted(Build::Checked) {
        Ok(program) => program,
        Err(error) => panic!("{error:#}"),
    })
}
