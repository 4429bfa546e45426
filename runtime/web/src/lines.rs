//! `/api/log`: the last lines of the log, as many as are kept.

use basalt_env::{log_lines, log_lines_count, log_lines_lost};
use log::Level;

use crate::json::Json;

/// The lines of the log from some number on, a few at a time.
pub struct Lines {
    since: u64,
    next: u64,
    end: u64,
    dropped: Option<u64>,
}

impl Lines {
    /// From number `since` on, or all if there is no such number: it is of an earlier start.
    pub fn new(since: u64) -> Self {
        let end = log_lines_count();
        let since = if since > end { 0 } else { since };
        Self { since, next: since, end, dropped: None }
    }

    /// Writes what comes before all lines.
    pub fn begin(json: &mut Json) {
        json.open("", '{');
        json.open("lines", '[');
    }

    /// Writes some lines; says whether there may be more. What comes behind them follows the last.
    #[inline(never)]
    pub fn step(&mut self, json: &mut Json) -> bool {
        let lines = if self.next < self.end { log_lines(self.next) } else { Default::default() };
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
            json.close(']');
            let dropped = self.dropped.unwrap_or(0);
            let numbers = [("next", self.next), ("dropped", dropped), ("lost", log_lines_lost())];
            json.numbers(&numbers);
            json.close('}');
            return false;
        };
        self.dropped.get_or_insert(first.n.saturating_sub(self.since));
        self.next = last.n + 1;
        for line in &lines {
            let level = Level::iter().nth(usize::from(line.level).saturating_sub(1));
            json.open("", '{');
            json.numbers(&[("n", line.n), ("us", line.us)]);
            json.text("level", level.unwrap_or(Level::Error).as_str());
            json.text("target", &line.target);
            json.text("message", &line.message);
            json.close('}');
        }
        true
    }
}
