//! A syslog server inside the test, which takes no message that is not of RFC 5424's grammar (§6).

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Where messages are sent to.
#[derive(Debug)]
pub struct SyslogServer {
    socket: UdpSocket,
}

/// A message that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyslogMessage {
    /// From 0 to 23.
    pub facility: u8,
    /// From 0 to 7.
    pub severity: u8,
    /// When, if the sender knows (RFC 3339).
    pub timestamp: Option<String>,
    /// From which machine.
    pub hostname: Option<String>,
    /// By which program.
    pub app_name: Option<String>,
    /// Of which kind.
    pub msgid: Option<String>,
    /// Names and values of structured data, each after the name of its element.
    pub data: Vec<(String, String, String)>,
    /// What it says.
    pub text: String,
}

impl SyslogServer {
    /// One at a free port of 127.0.0.1.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        Self { socket: socket.unwrap_or_else(|error| panic!("no syslog server: {error}")) }
    }

    /// Its port.
    ///
    /// # Panics
    /// The host does not say.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self.socket.local_addr() {
            Ok(address) => address.port(),
            Err(error) => panic!("a server without a port: {error}"),
        }
    }

    /// What comes until one with `part` in its text has, which it is the last of.
    ///
    /// # Panics
    /// None does within `limit`, or what comes is no message.
    #[track_caller]
    pub fn until(&self, part: &str, limit: Duration) -> Vec<SyslogMessage> {
        let end = Instant::now() + limit;
        let mut messages = Vec::new();
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            match self.next(rest) {
                Some(message) if message.text.contains(part) => {
                    messages.push(message);
                    return messages;
                }
                Some(message) => messages.push(message),
                None => panic!("no message with {part:?} within {limit:?}, of {messages:#?}"),
            }
        }
    }

    /// The next one, if it comes within `limit`.
    ///
    /// # Panics
    /// What comes is no message.
    #[track_caller]
    pub fn next(&self, limit: Duration) -> Option<SyslogMessage> {
        // None at all means for ever.
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).ok()?;
        let mut bytes = [0; 65536];
        let (len, _) = self.socket.recv_from(&mut bytes).ok()?;
        match SyslogMessage::parse(&bytes[..len]) {
            Ok(message) => Some(message),
            Err(why) => panic!("{why}: {:?}", String::from_utf8_lossy(&bytes[..len])),
        }
    }
}

impl SyslogMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// Which part of the grammar it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > 2048 {
            return Err("longer than every server takes (§6.1)");
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
        let (priority, rest) =
            text.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or("no PRI")?;
        let is_number = priority.bytes().all(|byte| byte.is_ascii_digit());
        let is_short = priority == "0" || !priority.starts_with('0');
        let priority: u8 = priority.parse().map_err(|_| "PRIVAL is no number")?;
        if !is_number || !is_short || priority > 191 {
            return Err("PRIVAL is not from 0 to 191, or has zeros in front");
        }
        let rest = rest.strip_prefix("1 ").ok_or("VERSION is not 1")?;
        let (timestamp, rest) = field(rest, 32)?;
        let (hostname, rest) = field(rest, 255)?;
        let (app_name, rest) = field(rest, 48)?;
        let (_procid, rest) = field(rest, 128)?;
        let (msgid, rest) = field(rest, 32)?;
        if let Some(timestamp) = &timestamp {
            check_timestamp(timestamp)?;
        }
        let (data, rest) = structured_data(rest)?;
        let text = match rest.strip_prefix(' ') {
            Some(text) => text,
            None if rest.is_empty() => rest,
            None => return Err("no space before MSG"),
        };
        let is_marked = text.starts_with('\u{feff}');
        if !text.is_ascii() && !is_marked {
            return Err("MSG is UTF-8 and does not begin with a BOM");
        }
        let text = text.trim_start_matches('\u{feff}').to_owned();
        if text.chars().any(char::is_control) {
            return Err("MSG has control characters (§6.4)");
        }
        let (facility, severity) = (priority / 8, priority % 8);
        Ok(Self { facility, severity, timestamp, hostname, app_name, msgid, data, text })
    }

    /// The value of a parameter of structured data.
    #[must_use]
    pub fn datum(&self, id: &str, name: &str) -> Option<&str> {
        let found = self.data.iter().find(|(of, param, _)| of == id && param == name);
        found.map(|(_, _, value)| value.as_str())
    }
}

/// A field of the header and what is behind the space after it.
fn field(text: &str, len_max: usize) -> Result<(Option<String>, &str), &'static str> {
    let (field, rest) = text.split_once(' ').ok_or("the header ends early")?;
    if !(1..=len_max).contains(&field.len()) || !field.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a field of the header is empty, too long or not of PRINTUSASCII");
    }
    Ok(((field != "-").then(|| field.to_owned()), rest))
}

/// `FULL-DATE "T" FULL-TIME`, of which a fraction has at most 6 digits.
fn check_timestamp(text: &str) -> Result<(), &'static str> {
    let why = "TIMESTAMP is not as RFC 3339 and §6.2.3 have it";
    let (head, tail) = text.split_at_checked(19).ok_or(why)?;
    let form = "dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, form)| match form {
        b'd' => u8::is_ascii_digit(&byte),
        form => byte == form,
    };
    if !head.bytes().zip(form.bytes()).all(fits) {
        return Err(why);
    }
    let number = |at: usize| head[at..at + 2].parse::<u8>().unwrap_or(u8::MAX);
    let [month, day, hour, minute, second] = [5, 8, 11, 14, 17].map(number);
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return Err(why);
    }
    let zone = match tail.strip_prefix('.') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            rest.get(digits..).filter(|_| (1..=6).contains(&digits)).ok_or(why)?
        }
        None => tail,
    };
    if zone == "Z" { Ok(()) } else { Err("the time is not in UTC") }
}

type Data = Vec<(String, String, String)>;

/// `"-" / 1*("[" SD-ID *(SP PARAM-NAME "=" %d34 PARAM-VALUE %d34) "]")`
fn structured_data(text: &str) -> Result<(Data, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('-') {
        return Ok((Vec::new(), rest));
    }
    let (mut data, mut rest) = (Vec::new(), text);
    while let Some(element) = rest.strip_prefix('[') {
        let (id, mut inner) = name(element)?;
        while let Some(param) = inner.strip_prefix(' ') {
            let (name, value) = name(param)?;
            let value = value.strip_prefix("=\"").ok_or("no value of a parameter")?;
            let (value, behind) = value.split_once('"').ok_or("a value without an end")?;
            if value.contains(['\\', ']']) {
                return Err("a value has to escape that");
            }
            data.push((id.to_owned(), name.to_owned(), value.to_owned()));
            inner = behind;
        }
        rest = inner.strip_prefix(']').ok_or("an element without an end")?;
    }
    if data.is_empty() { Err("no STRUCTURED-DATA") } else { Ok((data, rest)) }
}

/// `SD-NAME` and what is behind it.
fn name(text: &str) -> Result<(&str, &str), &'static str> {
    let is_of_name = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    let len = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
    if (1..=32).contains(&len) { Ok(text.split_at(len)) } else { Err("no SD-NAME") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_taken_and_what_breaks_its_grammar_is_not() {
        for example in [
            "<165>1 2003-08-24T05:14:15.000003Z 192.0.2.1 myproc 8710 - - %% It's time",
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root'",
            "<165>1 2003-10-11T22:14:15.003Z m e - ID47 [a@32473 iut=\"3\" s=\"A\"][b x=\"1\"]",
        ] {
            assert!(SyslogMessage::parse(example.as_bytes()).is_ok(), "{example}");
        }
        for wrong in [
            "<192>1 - - - - - - x",
            "<034>1 - - - - - - x",
            "<34>2 - - - - - - x",
            "<34>1 - - - - - x",
            "<34>1  - - - - - - x",
            "<34>1 2003-10-11 22:14:15Z - - - - - x",
            "<34>1 2003-13-11T22:14:15Z - - - - - x",
            "<34>1 2003-10-11T22:14:15.0000003Z - - - - - x",
            "<34>1 - - - - - [a b=1] x",
            "<34>1 - - - - - [a b=\"1\" x",
            "<34>1 - - - - - -x",
            "<34>1 - - - - - - größer",
        ] {
            assert!(SyslogMessage::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let message = SyslogMessage::parse(b"<14>1 - h a - m [e n=\"v\"] text").unwrap();
        assert_eq!((message.facility, message.severity), (1, 6));
        assert_eq!((message.datum("e", "n"), message.text.as_str()), (Some("v"), "text"));
    }
}
