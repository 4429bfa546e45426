//! `cargo run -- trace`: what a machine does, as a file for chrome://tracing and Perfetto.

mod capture;
mod chrome;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::rpc::{Client, DEFAULT_ADDRESS};

/// What is to be traced, and where that goes to.
#[derive(Debug, clap::Args)]
pub struct TraceArguments {
    /// Where the machine takes JSON-RPC calls
    #[arg(value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    pub address: String,

    /// Groups of tracepoints: bdev, nvmf_tcp, thread, nvme_pcie, sock; separated by commas
    /// [default: all]
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,

    /// How long
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub seconds: f64,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Captures and writes the file.
///
/// # Errors
/// The machine does not answer, or the file cannot be written.
pub fn run(arguments: &TraceArguments) -> anyhow::Result<ExitCode> {
    let seconds = arguments.seconds;
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    let time = time.with_context(|| format!("--seconds {seconds}: give a positive number"))?;
    let mut client = Client::connect(&arguments.address)?;
    // Before anything is traced for nothing.
    let path = &arguments.output;
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let capture = capture::run(&mut client, &arguments.groups, time)?;
    let name = format!("Basalt at {}", client.address());
    let mut writer = BufWriter::new(file);
    let written = chrome::write(&mut writer, &name, &capture).and_then(|()| Ok(writer.flush()?));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} events of {} cores: {}", capture.events(), capture.cores.len(), path.display());
    if capture.lost() > 0 {
        println!(
            "{} more were overwritten before they were read: trace fewer groups (--groups), or \
             have more kept (trace_set_options)",
            capture.lost()
        );
    }
    Ok(ExitCode::SUCCESS)
}
