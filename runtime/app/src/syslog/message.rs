//! A line of the log as a message of syslog (RFC 5424 §6).

use alloc::string::String;
use core::fmt::Write as _;

use basalt_env::LogLine;
use time::UtcDateTime;

/// What a field without a value is.
const NIL: &str = "-";
/// The program's name.
const APP_NAME: &str = "basalt";
/// Most bytes of the kind of a message, which is the part of the program that logs.
const MSGID_BYTES_MAX: usize = 32;
/// What a text that has more than ASCII begins with.
const BOM: char = '\u{feff}';
/// Severities (§6.2.1) by level, from 1 for an error to 5 for a trace.
const SEVERITIES: [u8; 5] = [3, 4, 6, 7, 7];
/// The last number before 1 comes again (§7.3.1).
const SEQUENCE_MAX: u32 = i32::MAX as u32;

/// What the messages of a machine have in common.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// What kind of program says it (§6.2.1), from 0 to 23.
    pub facility: u8,
    /// The machine's name or address, if it is known.
    pub hostname: Option<&'a str>,
    /// The time of day when the clock started, in seconds since 1970, if it is known.
    pub started_at: Option<u64>,
}

/// The number of the message after that one (§7.3.1).
pub fn next_sequence(sequence: u32) -> u32 {
    if sequence >= SEQUENCE_MAX { 1 } else { sequence + 1 }
}

/// A line as a message of that number. Gives with it how many bytes come before its text.
pub fn message(sender: &Sender<'_>, line: &LogLine, sequence: u32) -> (String, usize) {
    let Sender { facility, hostname, started_at } = *sender;
    let level = usize::from(line.level.clamp(1, 5));
    let priority = facility * 8 + SEVERITIES[level - 1];
    let mut text = String::with_capacity(160 + line.message.len());
    // Writing to a string does not fail.
    let _ = write!(text, "<{priority}>1 ");
    write_time(&mut text, started_at, line.us);
    let _ = write!(text, " {} {APP_NAME} {NIL} ", hostname.unwrap_or(NIL));
    write_kind(&mut text, &line.target);
    // Hundredths of a second (§7.3.2).
    let up = line.us / 10_000;
    let _ = write!(text, " [meta sequenceId=\"{sequence}\" sysUpTime=\"{up}\"] ");
    if !line.message.is_ascii() {
        text.push(BOM);
    }
    let head = text.len();
    // Whatever would break a line where it is read (§6.4).
    text.extend(line.message.chars().map(|char| if char.is_control() { ' ' } else { char }));
    (text, head)
}

/// §6.2.3: in UTC, to the microsecond.
fn write_time(text: &mut String, started_at: Option<u64>, us: u64) {
    let moment = started_at.and_then(|start| {
        UtcDateTime::from_unix_timestamp(i64::try_from(start + us / 1_000_000).ok()?).ok()
    });
    let Some(moment) = moment else { return text.push_str(NIL) };
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.as_hms();
    let (month, us) = (u8::from(month), us % 1_000_000);
    let _ =
        write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z");
}

/// §6.2.7: what can be seen of ASCII.
fn write_kind(text: &mut String, target: &str) {
    let before = text.len();
    let kind = target.chars().filter(char::is_ascii_graphic).take(MSGID_BYTES_MAX);
    text.extend(kind);
    if text.len() == before {
        text.push_str(NIL);
    }
}
