//! The `log` facade on the serial console: `[seconds.micros] LEVEL target: message`.

use log::{LevelFilter, Log, Metadata, Record};

use crate::{clock, serial};

struct Console;

static CONSOLE: Console = Console;

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let us = clock::since_start().as_us();
        serial::print(format_args!(
            "[{}.{:06}] {} {}: {}\n",
            us / 1_000_000,
            us % 1_000_000,
            record.level(),
            record.target(),
            record.args()
        ));
    }

    fn flush(&self) {}
}

/// Directs the facade to the console, at level `info`.
pub(crate) fn init() {
    // Fails only if a logger is set already, which is then this one.
    let _ = log::set_logger(&CONSOLE);
    log::set_max_level(LevelFilter::Info);
}
