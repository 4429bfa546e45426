//! A guest's console, captured line by line.

use std::io::{BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// The lines so far; grows in the background until the source ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

/// Why no matching line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The console ended first.
    Ended,
    /// The time ran out first.
    TimedOut,
}

impl Console {
    /// Captures everything `source` gives.
    pub(crate) fn capture(source: impl Read + Send + 'static) -> Self {
        let console = Self::default();
        let writer = console.clone();
        thread::spawn(move || writer.fill(BufReader::new(source)));
        console
    }

    fn fill(&self, mut source: impl std::io::BufRead) {
        let mut line = Vec::new();
        // Up to the end or an error; a pipe to a dead QEMU gives the one or the other.
        while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            self.lock().lines.push(text);
            self.shared.changed.notify_all();
        }
        self.lock().ended = true;
        self.shared.changed.notify_all();
    }

    /// Waits for the `nth` line (from 1) that contains `pattern`.
    pub(crate) fn wait_for(
        &self,
        pattern: &str,
        nth: usize,
        deadline: Instant,
    ) -> Result<String, Missing> {
        let mut state = self.lock();
        loop {
            let mut matching = state.lines.iter().filter(|line| line.contains(pattern));
            if let Some(line) = matching.nth(nth.saturating_sub(1)) {
                return Ok(line.clone());
            }
            if state.ended {
                return Err(Missing::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missing::TimedOut);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another test thread cannot leave the lines half written.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_is_found_before_and_after_the_console_ends() {
        let console = Console::capture("one\r\ntwo a\ntwo b\nrest".as_bytes());
        let soon = Instant::now() + Duration::from_secs(5);
        assert_eq!(console.wait_for("two", 1, soon).unwrap(), "two a");
        assert_eq!(console.wait_for("two", 2, soon).unwrap(), "two b");
        assert_eq!(console.wait_for("rest", 1, soon).unwrap(), "rest");
        assert_eq!(console.wait_for("two", 3, soon), Err(Missing::Ended));
        assert_eq!(console.lines().len(), 4);
    }

    #[test]
    fn a_silent_console_is_waited_for_no_longer_than_asked() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let console = Console::capture(reader);
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(console.wait_for("x", 1, soon), Err(Missing::TimedOut));
    }
}
