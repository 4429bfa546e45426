//! The last lines of the log, for who asks later. The log is the program's own, as its level is, so
//! this is too.
//!
//! A line is put down by the core that logs, under a lock that is held for a copy of some hundred
//! bytes. A core that does not get it soon gives its line up, so that none ever waits for another
//! that was stopped in the middle of it.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

/// Most lines that are kept.
pub const LOG_LINES_MAX: usize = 1000;
/// Most bytes of them; long lines displace more than one short one.
const BYTES: usize = 128 << 10;
/// Most bytes of a message; what is longer is cut.
pub const LOG_MESSAGE_MAX: usize = 480;
/// Most bytes of a target.
const TARGET_MAX: usize = 48;
/// Bytes before a line's texts: time in µs (8), bytes of the message (2), level, bytes of the
/// target.
const HEAD: usize = 12;
/// Bytes that are handed out at once, more than the longest line.
const BATCH: usize = 4096;
/// Attempts to get the lock: longer than anybody holds it who runs.
const ATTEMPTS_MAX: u32 = 10_000;

static LINES: Mutex<Lines> = Mutex::new(Lines::new());
static LOST: AtomicU64 = AtomicU64::new(0);

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// Its number since the start, from 0.
    pub n: u64,
    /// When it was logged, µs since the start.
    pub us: u64,
    /// Its level, from 1 for an error to 5 for a trace.
    pub level: u8,
    /// Which part of the program logged it.
    pub target: String,
    /// What it says, as far as it was kept.
    pub message: String,
}

/// Keeps a line: its level from 1 (error) to 5 (trace), who logged it, when in µs since the start,
/// and what it says. For loggers.
pub fn keep_log_line(level: u8, target: &str, us: u64, message: fmt::Arguments<'_>) {
    let mut text = Cut { bytes: [0; LOG_MESSAGE_MAX], len: 0 };
    // It never fails; what is too long is cut.
    let _ = text.write_fmt(message);
    let target = &target.as_bytes()[..boundary(target, TARGET_MAX)];
    let message = &text.bytes[..text.len];
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&us.to_le_bytes());
    head[8..10].copy_from_slice(&(message.len() as u16).to_le_bytes());
    head[10] = level;
    head[11] = target.len() as u8;
    for _ in 0..ATTEMPTS_MAX {
        if let Some(mut lines) = LINES.try_lock() {
            return lines.push([&head, target, message]);
        }
        core::hint::spin_loop();
    }
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// Lines that no room was left for as another core held the log.
pub fn log_lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// How many lines there were since the start: the number of the next one.
pub fn log_lines_count() -> u64 {
    LINES.lock().next
}

/// Some lines of the log from number `since` on, or from the first that is kept if that is later:
/// at most 4 KiB of them. None if there are none yet.
pub fn log_lines(since: u64) -> Vec<LogLine> {
    let mut bytes = vec![0; BATCH];
    let (first, len) = LINES.lock().copy(since, &mut bytes);
    let mut rest = &bytes[..len];
    let mut lines = Vec::new();
    for n in first.. {
        let Some((line, after)) = decode(n, rest) else { break };
        lines.push(line);
        rest = after;
    }
    lines
}

fn decode(n: u64, bytes: &[u8]) -> Option<(LogLine, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let us = u64::from_le_bytes(*head.first_chunk()?);
    let (target, rest) = rest.split_at_checked(usize::from(head[11]))?;
    let message_len = usize::from(u16::from_le_bytes([head[8], head[9]]));
    let (message, rest) = rest.split_at_checked(message_len)?;
    let text = |bytes: &[u8]| core::str::from_utf8(bytes).map(String::from).unwrap_or_default();
    let line = LogLine { n, us, level: head[10], target: text(target), message: text(message) };
    Some((line, rest))
}

/// The end of the last character of `text` that ends within `max` bytes.
fn boundary(text: &str, max: usize) -> usize {
    text.floor_char_boundary(max)
}

/// The beginning of a text.
struct Cut {
    bytes: [u8; LOG_MESSAGE_MAX],
    len: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = boundary(text, LOG_MESSAGE_MAX - self.len);
        self.bytes[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        // Once a part was left out, so is what comes after it.
        if len < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Lines one after the other in a ring of bytes.
struct Lines {
    bytes: [u8; BYTES],
    /// Where the first line begins and the last ends, in bytes since the start.
    start: usize,
    end: usize,
    /// The number of the first line, and of the next to come.
    first: u64,
    next: u64,
}

impl Lines {
    const fn new() -> Self {
        Self { bytes: [0; BYTES], start: 0, end: 0, first: 0, next: 0 }
    }

    #[inline(never)]
    fn push(&mut self, parts: [&[u8]; 3]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        while self.end + len - self.start > BYTES || self.next - self.first >= LOG_LINES_MAX as u64
        {
            self.start += self.len_at(self.start);
            self.first += 1;
        }
        for part in parts {
            let at = self.end % BYTES;
            let (here, around) = part.split_at(part.len().min(BYTES - at));
            self.bytes[at..at + here.len()].copy_from_slice(here);
            self.bytes[..around.len()].copy_from_slice(around);
            self.end += part.len();
        }
        self.next += 1;
    }

    /// Bytes of the line that begins at `at`.
    fn len_at(&self, at: usize) -> usize {
        let byte = |offset| self.bytes[(at + offset) % BYTES];
        let message = u16::from_le_bytes([byte(8), byte(9)]);
        HEAD + usize::from(message) + usize::from(byte(11))
    }

    /// Copies whole lines from number `since` on to `to`; gives the number of the first, and bytes.
    fn copy(&self, since: u64, to: &mut [u8]) -> (u64, usize) {
        let (mut number, mut at) = (self.first, self.start);
        while number < since && at < self.end {
            at += self.len_at(at);
            number += 1;
        }
        let mut len = 0;
        while at < self.end {
            let line = self.len_at(at);
            let Some(room) = to.get_mut(len..len + line) else { break };
            let begin = at % BYTES;
            let (here, around) = room.split_at_mut(line.min(BYTES - begin));
            here.copy_from_slice(&self.bytes[begin..begin + here.len()]);
            around.copy_from_slice(&self.bytes[..around.len()]);
            (at, len) = (at + line, len + line);
        }
        (number, len)
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::format;

    use super::*;

    fn push(lines: &mut Lines, message: &str) {
        let mut head = [0; HEAD];
        head[8..10].copy_from_slice(&(message.len() as u16).to_le_bytes());
        head[11] = 1;
        lines.push([&head, b"t", message.as_bytes()]);
    }

    fn read(lines: &Lines, since: u64) -> Vec<LogLine> {
        let mut bytes = vec![0; BATCH];
        let (first, len) = lines.copy(since, &mut bytes);
        let mut rest = &bytes[..len];
        let next = |n| {
            let (line, after) = decode(n, rest)?;
            rest = after;
            Some(line)
        };
        (first..).map_while(next).collect()
    }

    #[test]
    fn the_last_thousand_lines_are_kept_with_their_numbers() {
        let mut lines = Box::new(Lines::new());
        (0..2500).for_each(|n| push(&mut lines, &format!("line {n}")));
        let kept = read(&lines, 0);
        assert_eq!((kept[0].n, kept[0].message.as_str()), (1500, "line 1500"));
        let last = read(&lines, 2499);
        assert_eq!(last.len(), 1);
        assert_eq!((last[0].n, last[0].message.as_str()), (2499, "line 2499"));
        assert_eq!(read(&lines, 2500), []);
        assert_eq!(read(&lines, u64::MAX), []);
    }

    #[test]
    fn long_lines_displace_older_ones_and_stay_whole_around_the_end_of_the_ring() {
        let mut lines = Box::new(Lines::new());
        let text = |n: usize| format!("{n} {}", "x".repeat(n % LOG_MESSAGE_MAX));
        (0..3000).for_each(|n| push(&mut lines, &text(n)));
        let (mut since, mut count) = (0, 0);
        loop {
            let some = read(&lines, since);
            let Some(last) = some.last() else { break };
            some.iter().for_each(|line| assert_eq!(line.message, text(line.n as usize)));
            (since, count) = (last.n + 1, count + some.len());
        }
        assert_eq!(since, 3000);
        assert!((400..1000).contains(&count), "{count}");
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters() {
        let before = log_lines(0).last().map_or(0, |line| line.n + 1);
        let long = "ü".repeat(LOG_MESSAGE_MAX);
        keep_log_line(2, "a_target", 77, format_args!("x{long}{}", "behind"));
        let lines = log_lines(before);
        let line = &lines[0];
        assert_eq!((line.level, line.us, line.target.as_str()), (2, 77, "a_target"));
        let kept = format!("x{}", "ü".repeat((LOG_MESSAGE_MAX - 1) / 2));
        assert_eq!(line.message, kept);
    }
}
