use alloc::string::String;
use core::fmt::Write as _;

use basalt_bdev::json_string;

/// JSON (RFC 8259), written from left to right. Members of objects have a name, elements of arrays
/// an empty one.
#[derive(Debug, Default)]
pub struct Json {
    text: String,
}

impl Json {
    /// The text so far.
    pub fn finish(self) -> String {
        self.text
    }

    fn name(&mut self, name: &str) {
        let is_first = matches!(self.text.as_bytes().last(), None | Some(b'{' | b'['));
        if !is_first {
            self.text.push(',');
        }
        if !name.is_empty() {
            self.text.push('"');
            self.text.push_str(name);
            self.text.push_str("\":");
        }
    }

    /// Begins an object or an array, by its bracket.
    pub fn open(&mut self, name: &str, bracket: char) {
        self.name(name);
        self.text.push(bracket);
    }

    /// Ends it.
    pub fn close(&mut self, bracket: char) {
        self.text.push(bracket);
    }

    /// A number, or null.
    pub fn number(&mut self, name: &str, number: impl Into<Option<u64>>) {
        self.name(name);
        match number.into() {
            // Writing to a string does not fail.
            Some(number) => drop(write!(self.text, "{number}")),
            None => self.text.push_str("null"),
        }
    }

    /// Some numbers.
    pub fn numbers(&mut self, numbers: &[(&str, u64)]) {
        for (name, number) in numbers {
            self.number(name, *number);
        }
    }

    /// A text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.text.push_str(&json_string(text));
    }

    /// Something that is JSON already: `true`, `null`.
    pub fn literal(&mut self, name: &str, json: &str) {
        self.name(name);
        self.text.push_str(json);
    }
}
