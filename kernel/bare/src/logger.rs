//! The `log` facade on the console: `[seconds.micros] LEVEL target: message`.

use core::fmt;

use basalt_env::{keep_log_line, logs_details_of};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::{clock, console};

struct Console;

static CONSOLE: Console = Console;

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = metadata.level();
        let is_detail = level >= Level::Debug;
        level <= log::max_level() && (!is_detail || logs_details_of(metadata.target()))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, target) = (record.level(), record.target());
        let us = clock::since_start().as_us();
        keep_log_line(level as u8, target, us, *record.args());
        console::print(format_args!("[{Stamp}] {level} {target}: {}\n", record.args()));
    }

    fn flush(&self) {}
}

/// Prints the time at which it is printed: with the console locked, so that lines are in order.
struct Stamp;

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = clock::since_start().as_us();
        write!(f, "{}.{:06}", us / 1_000_000, us % 1_000_000)
    }
}

/// Directs the facade to the console, at level `info`.
pub(crate) fn init() {
    // Fails only if a logger is set already, which is then this one.
    let _ = log::set_logger(&CONSOLE);
    log::set_max_level(LevelFilter::Info);
}
