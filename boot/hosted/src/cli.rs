//! The command line.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use basalt_app::Ports;
use clap::Parser;

/// Least DMA memory of a core: its queues and the buffers of some connections.
const DMA_MIB_MIN: usize = 8;
const DMA_MIB_MAX: usize = 1 << 20;

/// Serves bdevs by NVMe/TCP, as a process of Linux.
///
/// The same target as the image boots, on the host's processors, sockets and files. Bdevs come
/// from --file, from a configuration or by JSON-RPC (bdev_malloc_create, bdev_null_create,
/// bdev_aio_create, bdev_uring_create). Ctrl-C stops it.
#[derive(Debug, Parser)]
#[command(name = "basalt-hosted-target", bin_name = "cargo run -- hosted", version)]
pub struct Arguments {
    /// Cores; one reactor runs on each, on a thread bound to a processor
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: usize,

    /// Memory for I/O of each core, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub memory: usize,

    /// A file or block device to serve, as bdev Aio0, Aio1, …; may be repeated
    #[arg(long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,

    /// Configuration in SPDK's JSON form
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The address of this host to listen on; 0.0.0.0 is every one
    ///
    /// JSON-RPC asks nobody for a password: mind who can reach the address.
    #[arg(long, value_name = "IP", default_value_t = Ipv4Addr::LOCALHOST)]
    pub address: Ipv4Addr,

    /// Port of NVMe/TCP when no configuration says otherwise
    #[arg(long, value_name = "PORT", default_value_t = Ports::STANDARD.nvmf)]
    pub nvmf_port: u16,

    /// Port of NVMe/TCP discovery when no configuration says otherwise
    #[arg(long, value_name = "PORT", default_value_t = Ports::STANDARD.discovery)]
    pub discovery_port: u16,

    /// Port of JSON-RPC
    #[arg(long, value_name = "PORT", default_value_t = Ports::STANDARD.rpc)]
    pub rpc_port: u16,

    /// Port of HTTP: the page and the metrics
    #[arg(long, value_name = "PORT", default_value_t = Ports::STANDARD.http)]
    pub http_port: u16,

    /// Waits for framework_start_init, and serves nothing by itself
    #[arg(long)]
    pub wait_for_rpc: bool,
}

/// What was asked for, once it is known to be possible.
#[derive(Debug)]
pub struct Checked {
    pub ports: Ports,
    pub dma_bytes: usize,
    pub config: Vec<u8>,
}

impl Arguments {
    /// Checks everything that can be checked before anything is started.
    ///
    /// # Errors
    /// The first thing that is wrong, with its remedy.
    pub fn check(&self, processors: usize) -> anyhow::Result<Checked> {
        ensure!(self.cpus >= 1, "--cpus 0: give at least 1");
        ensure!(
            self.cpus <= processors,
            "--cpus {}: this process may use {processors} processors only; give at most that many",
            self.cpus
        );
        ensure!(
            (DMA_MIB_MIN..=DMA_MIB_MAX).contains(&self.memory),
            "--memory {}: give from {DMA_MIB_MIN} to {DMA_MIB_MAX} MiB for each core",
            self.memory
        );
        let config = match &self.config {
            Some(path) => fs::read(path).with_context(|| {
                let path = path.display();
                format!("--config {path}: cannot read the configuration; check the path")
            })?,
            None => Vec::new(),
        };
        let ports = Ports {
            nvmf: self.nvmf_port,
            discovery: self.discovery_port,
            rpc: self.rpc_port,
            http: self.http_port,
        };
        check_ports(self.address, ports)?;
        Ok(Checked { ports, dma_bytes: self.memory << 20, config })
    }
}

/// Every core listens on the same ports, which the host would also let another program join: so it
/// is asked first whether anybody else has them.
fn check_ports(address: Ipv4Addr, ports: Ports) -> anyhow::Result<()> {
    let options = [
        ("--nvmf-port", ports.nvmf),
        ("--discovery-port", ports.discovery),
        ("--rpc-port", ports.rpc),
        ("--http-port", ports.http),
    ];
    for (at, (option, port)) in options.into_iter().enumerate() {
        ensure!(port != 0, "{option} 0: give a port from 1 to 65535");
        if let Some((other, _)) = options[..at].iter().find(|(_, other)| *other == port) {
            bail!("{other} and {option} are both {port}; choose two ports");
        }
        TcpListener::bind((IpAddr::V4(address), port)).with_context(|| {
            format!("cannot listen on {address}:{port}; choose another with {option} PORT")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = [&["basalt-hosted"], arguments].concat();
        format!("{:#}", Arguments::try_parse_from(arguments).unwrap().check(2).unwrap_err())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_option() {
        for (arguments, says) in [
            (&["--cpus", "0"], "--cpus 0"),
            (&["--cpus", "3"], "2 processors only"),
            (&["--memory", "1"], "from 8 to"),
            (&["--config", "/no/such/file"], "/no/such/file"),
            (&["--rpc-port", "0"], "--rpc-port 0"),
            (&["--rpc-port", "4420"], "--nvmf-port and --rpc-port"),
            (&["--address", "192.0.2.1"], "192.0.2.1"),
        ] {
            let refusal = refusal(arguments);
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let refusal = refusal(&["--nvmf-port", &port]);
        assert!(refusal.contains("--nvmf-port PORT") && refusal.contains(&port), "{refusal}");
    }
}
