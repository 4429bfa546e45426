//! What takes lines out of the log and sends them.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use basalt_env::LogLine;
use basalt_net::{DatagramError, DatagramId, NetStack};
use basalt_rpc::methods::{SyslogSetting, SyslogState};

use super::message::{Sender, message, next_sequence};

/// What says something here. Its own lines are not sent, so that none of them ever makes another.
pub const TARGET: &str = "syslog";
/// Lines sent at once, before the core does its other work.
const LINES_AT_ONCE: usize = 64;
/// Most bytes of a message: servers take so many, if not more (RFC 5424 §6.1, RFC 5426 §3.2).
const BYTES_MAX: usize = 1024;
/// The level of a warning.
const WARNING: u8 = 2;

/// What there is to read of a log.
pub trait Lines {
    /// How many lines there were since the start.
    fn count(&self) -> u64;

    /// Some lines from number `since` on, or from the first that is kept if that is later.
    fn from(&self, since: u64) -> Vec<LogLine>;

    /// Lines that there was no room to keep.
    fn lost(&self) -> u64;
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All that there was is sent.
    Done,
    /// There is more, which there is no room for now.
    Full,
    /// There is no address to send from, or nowhere to send to.
    Stuck,
}

/// Sends the lines of a log to one server after another.
///
/// Each line is sent once, the first that is kept first. Lines that the log gave up before they
/// could be sent are counted, and told of where they are missing.
pub struct Forwarder {
    to: Option<(DatagramId, SyslogSetting)>,
    started_at: Option<u64>,
    /// The number of the next line.
    next: u64,
    /// Lines that there was no room to keep, as far as they are counted here.
    lost_before: u64,
    /// Lines that are missing, of which the server is not yet told.
    missing: u64,
    sequence: u32,
    lines_sent: u64,
    lines_lost: u64,
}

impl Forwarder {
    /// One that sends nothing. `started_at` is the time of day when the clock started, in seconds
    /// since 1970, if it is known.
    pub fn new(started_at: Option<u64>) -> Self {
        Self {
            to: None,
            started_at,
            next: 0,
            lost_before: 0,
            missing: 0,
            sequence: 1,
            lines_sent: 0,
            lines_lost: 0,
        }
    }

    /// Sends lines as that says from now on; gives what there was before.
    pub fn send_to(&mut self, to: Option<(DatagramId, SyslogSetting)>) -> Option<DatagramId> {
        core::mem::replace(&mut self.to, to).map(|(id, _)| id)
    }

    /// Whether it sends lines.
    pub fn is_set(&self) -> bool {
        self.to.is_some()
    }

    /// Where they are sent to, and how many were.
    pub fn state(&self) -> SyslogState {
        let Self { to, lines_sent, lines_lost, .. } = self;
        let setting = to.as_ref().map(|(_, setting)| setting.clone());
        SyslogState { setting, lines_sent: *lines_sent, lines_lost: *lines_lost }
    }

    /// Sends what there is.
    pub fn step(&mut self, log: &dyn Lines, stack: &mut dyn NetStack) -> Step {
        let mut sent = 0;
        while self.next < log.count() {
            let lines = log.from(self.next);
            if lines.is_empty() {
                break;
            }
            for line in lines {
                if sent >= LINES_AT_ONCE {
                    return Step::Full;
                }
                if let Err(step) = self.send(&line, log.lost(), stack) {
                    return step;
                }
                sent += 1;
            }
        }
        Step::Done
    }

    fn send(&mut self, line: &LogLine, lost: u64, stack: &mut dyn NetStack) -> Result<(), Step> {
        let gone = line.n.saturating_sub(self.next) + lost.saturating_sub(self.lost_before);
        self.missing += gone;
        self.lines_lost += gone;
        (self.next, self.lost_before) = (line.n, lost);
        if self.missing > 0 {
            let note = LogLine {
                n: line.n,
                us: line.us,
                level: WARNING,
                target: TARGET.into(),
                message: format!("{} lines of the log before this are missing", self.missing),
            };
            self.transmit(&note, stack)?;
            self.missing = 0;
        }
        if line.target != TARGET {
            let sent = self.transmit(line, stack)?;
            self.lines_sent += u64::from(sent == Sent::Yes);
            self.lines_lost += u64::from(sent == Sent::NotAtAll);
        }
        self.next = line.n + 1;
        Ok(())
    }

    fn transmit(&mut self, line: &LogLine, stack: &mut dyn NetStack) -> Result<Sent, Step> {
        let Some((id, setting)) = &self.to else { return Err(Step::Stuck) };
        let own = stack.address().map(|address| address.to_string());
        let sender = Sender {
            facility: setting.facility,
            hostname: setting.hostname.as_deref().or(own.as_deref()),
            started_at: self.started_at,
        };
        let (mut text, head) = message(&sender, line, self.sequence);
        cut(&mut text, BYTES_MAX);
        let mut sent = stack.send_datagram(*id, text.as_bytes());
        if let Err(DatagramError::TooLong(most)) = sent {
            if most < head {
                return Ok(Sent::NotAtAll);
            }
            cut(&mut text, most);
            sent = stack.send_datagram(*id, text.as_bytes());
        }
        match sent {
            Ok(()) => {
                self.sequence = next_sequence(self.sequence);
                Ok(Sent::Yes)
            }
            Err(DatagramError::Full) => Err(Step::Full),
            Err(DatagramError::TooLong(_)) => Ok(Sent::NotAtAll),
            Err(DatagramError::NoAddress | DatagramError::Closed) => Err(Step::Stuck),
        }
    }
}

/// What has become of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Yes,
    /// No packet holds what comes before its text.
    NotAtAll,
}

/// Cuts a text after the last character that ends within `most` bytes.
fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}
