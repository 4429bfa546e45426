//! `cargo run -- top`: what a machine is busy with, second by second.

mod sample;
mod screen;
mod table;
mod view;

use std::io::{IsTerminal as _, Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::rpc::{Client, DEFAULT_ADDRESS};
use sample::Sample;
use table::Sorting;
use view::{Section, tables};

/// Columns of what is printed where there is no terminal.
const PRINTED_WIDTH: usize = 120;

/// Which machine, and how it is shown.
#[derive(Debug, clap::Args)]
pub struct TopArguments {
    /// Where the machine takes JSON-RPC calls
    #[arg(value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    pub address: String,

    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub interval: f64,

    /// Print so many looks as text and end; so it is, once, where there is no terminal
    #[arg(long, value_name = "N", conflicts_with = "once")]
    pub batch: Option<u32>,

    /// Print one look as text and end
    #[arg(long)]
    pub once: bool,
}

/// Shows the machine until it is told to end.
///
/// # Errors
/// The machine does not answer, or goes away.
pub fn run(arguments: &TopArguments) -> anyhow::Result<ExitCode> {
    let seconds = arguments.interval;
    let interval = Duration::try_from_secs_f64(seconds).ok();
    let interval = interval.filter(|interval| *interval >= Duration::from_millis(100));
    let interval = interval
        .with_context(|| format!("--interval {seconds}: give a number of seconds from 0.1 up"))?;
    let client = Client::connect(&arguments.address)?;
    let looks = arguments.batch.or(arguments.once.then_some(1));
    match looks.or((!stdout().is_terminal()).then_some(1)) {
        Some(looks) => print(&mut stdout().lock(), client, interval, looks)?,
        None => screen::run(client, interval)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints so many looks as text.
///
/// # Errors
/// The machine does not answer, or `out` takes nothing.
pub fn print(
    out: &mut impl Write,
    mut client: Client,
    interval: Duration,
    looks: u32,
) -> anyhow::Result<()> {
    let mut before = Sample::take(&mut client)?;
    for _ in 0..looks {
        thread::sleep(interval);
        let now = Sample::take(&mut client)?;
        for (section, table) in Section::ALL.into_iter().zip(tables(&before, &now)) {
            writeln!(out, "{}", section.title())?;
            for line in table.lines(PRINTED_WIDTH, Sorting::default()) {
                writeln!(out, "  {line}")?;
            }
            writeln!(out)?;
        }
        before = now;
    }
    Ok(())
}
