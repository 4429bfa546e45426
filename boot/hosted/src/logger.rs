//! The `log` facade on standard output, in the form of the metal's console:
//! `[seconds.micros] LEVEL target: message`.

use std::io::Write as _;

use basalt_env::{keep_log_line, logs_details_of};
use basalt_hosted::Clock;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Console {
    clock: Clock,
}

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
        let mut out = std::io::stdout().lock();
        let us = self.clock.now().as_us();
        keep_log_line(level as u8, target, us, *record.args());
        let (seconds, us) = (us / 1_000_000, us % 1_000_000);
        // There is nobody to tell that the output is gone.
        let _ = writeln!(out, "[{seconds}.{us:06}] {level} {target}: {}", record.args());
    }

    fn flush(&self) {}
}

/// Directs the facade to standard output, at level `info`.
pub fn init(clock: Clock) -> anyhow::Result<()> {
    log::set_logger(Box::leak(Box::new(Console { clock })))
        .map_err(|error| anyhow::anyhow!("cannot log: {error}"))?;
    log::set_max_level(LevelFilter::Info);
    Ok(())
}
