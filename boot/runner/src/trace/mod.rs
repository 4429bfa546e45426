//! `cargo run -- trace`: what a machine does, as a file for chrome://tracing and Perfetto.

mod capture;
mod chrome;
mod saved;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use self::capture::Capture;
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

    /// Take answers of trace_get_events that were saved in this file instead; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "groups", "seconds"])]
    pub from: Vec<PathBuf>,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Captures, or reads what was saved, and writes the file.
///
/// # Errors
/// The machine does not answer, what was saved is no trace, or the file cannot be written.
pub fn run(arguments: &TraceArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.output;
    if !arguments.from.is_empty() {
        let capture = saved::read(&arguments.from)?;
        return write(create(path)?, path, "Basalt, saved", &capture);
    }
    let seconds = arguments.seconds;
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    let time = time.with_context(|| format!("--seconds {seconds}: give a positive number"))?;
    let mut client = Client::connect(&arguments.address)?;
    // Before anything is traced for nothing.
    let file = create(path)?;
    let capture = capture::run(&mut client, &arguments.groups, time)?;
    write(file, path, &format!("Basalt at {}", client.address()), &capture)
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `capture`, of the machine called `name`, and says what there is.
fn write(file: File, path: &Path, name: &str, capture: &Capture) -> anyhow::Result<ExitCode> {
    let mut writer = BufWriter::new(file);
    let written = chrome::write(&mut writer, name, capture).and_then(|()| Ok(writer.flush()?));
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
