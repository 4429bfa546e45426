use alloc::vec::Vec;
use core::fmt;

use serde_json::Value;

/// Most bytes of one message, white space before it left out: SPDK's receive buffer.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting of arrays and objects, as in SPDK.
pub const DEPTH_MAX: usize = 64;

/// Most values in one message, as in SPDK; counted as its brackets, commas and colons.
pub const VALUES_MAX: usize = 8192;

/// Why the bytes received are not a message. The connection cannot be resynchronised after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FramingError {
    /// A message starts with something other than `{` or `[`.
    NotAMessage(u8),
    /// More than [`MESSAGE_BYTES_MAX`] bytes without the message closing.
    TooLong,
    /// Nested more than [`DEPTH_MAX`] deep.
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    TooMany,
    /// Brackets balance, but this is not JSON.
    Syntax {
        /// Line within the message, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMessage(byte) => {
                write!(f, "a message starts with {{ or [, not with byte {byte:#04x}")
            }
            Self::TooLong => write!(f, "the message is longer than {MESSAGE_BYTES_MAX} bytes"),
            Self::TooDeep => write!(f, "the message is nested more than {DEPTH_MAX} deep"),
            Self::TooMany => write!(f, "the message holds more than {VALUES_MAX} values"),
            Self::Syntax { line, column } => {
                write!(f, "not JSON at line {line}, column {column}")
            }
        }
    }
}

/// Cuts a byte stream into JSON values that follow each other without a delimiter.
///
/// Each byte is looked at once: a scanner that only knows strings and brackets finds where the
/// value closes, and the bytes up to there are parsed.
#[derive(Debug, Default)]
pub struct Framer {
    message: Vec<u8>,
    scan: Scan,
}

impl Framer {
    /// Takes bytes up to the end of the first complete message; gives how many were taken and the
    /// message, if it is complete. Call again with the rest.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), FramingError> {
        let mut taken = 0;
        if self.message.is_empty() {
            taken = bytes.iter().take_while(|byte| is_space(**byte)).count();
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        let (used, closed) = self.scan.run(rest)?;
        if self.message.len() + used > MESSAGE_BYTES_MAX {
            return Err(FramingError::TooLong);
        }
        self.message.extend_from_slice(rest.get(..used).unwrap_or_default());
        taken += used;
        if !closed {
            return Ok((taken, None));
        }
        let parsed = serde_json::from_slice(&self.message);
        self.message.clear();
        self.scan = Scan::default();
        match parsed {
            Ok(value) => Ok((taken, Some(value))),
            Err(error) => Err(FramingError::Syntax { line: error.line(), column: error.column() }),
        }
    }

    /// Whether part of a message has arrived.
    pub fn is_mid_message(&self) -> bool {
        !self.message.is_empty()
    }
}

/// What the scanner remembers between two chunks.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    values: usize,
    text: Text,
}

/// Where the scanner is relative to a JSON string.
#[derive(Clone, Copy, Debug, Default)]
enum Text {
    #[default]
    Outside,
    Inside,
    AfterBackslash,
}

impl Scan {
    /// Runs to the byte that closes the value or to the end; gives the bytes used and whether the
    /// value closed.
    fn run(&mut self, bytes: &[u8]) -> Result<(usize, bool), FramingError> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.step(byte)?;
            if self.depth == 0 {
                return Ok((index + 1, true));
            }
        }
        Ok((bytes.len(), false))
    }

    fn step(&mut self, byte: u8) -> Result<(), FramingError> {
        self.text = match (self.text, byte) {
            (Text::Outside, b'"') if self.depth > 0 => Text::Inside,
            (Text::Outside, _) => return self.structure(byte),
            (Text::Inside, b'"') => Text::Outside,
            (Text::Inside, b'\\') => Text::AfterBackslash,
            (Text::Inside | Text::AfterBackslash, _) => Text::Inside,
        };
        Ok(())
    }

    fn structure(&mut self, byte: u8) -> Result<(), FramingError> {
        match byte {
            b'{' | b'[' => self.depth += 1,
            _ if self.depth == 0 => return Err(FramingError::NotAMessage(byte)),
            b'}' | b']' => self.depth -= 1,
            b',' | b':' => {}
            _ => return Ok(()),
        }
        self.values += 1;
        if self.depth > DEPTH_MAX {
            return Err(FramingError::TooDeep);
        }
        if self.values > VALUES_MAX {
            return Err(FramingError::TooMany);
        }
        Ok(())
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
