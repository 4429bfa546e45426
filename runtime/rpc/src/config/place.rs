//! Where something stands in a configuration, as a path and as a place in its text.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// From an object or array to a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// From the root of a configuration to something in it: `subsystems[1].config[0].params`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// The member `key` of what is there.
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.into()))
    }

    /// The element `index` of what is there.
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// What is at `path` there, of keys that are names: `namespace` or `priorities[1]`.
    pub fn below(&self, path: &str) -> Self {
        let mut below = self.clone();
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let index = part.strip_suffix(']').and_then(|index| index.parse().ok());
            below.0.push(index.map_or_else(|| Step::Key(part.into()), Step::Index));
        }
        below
    }

    fn then(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// Line and column (bytes) in `text`, both from 1, of what is at this path, or else of what is
    /// next above it. A member is where its key is. `text` is JSON.
    pub fn locate(&self, text: &[u8]) -> (usize, usize) {
        let mut cursor = Cursor { text, at: 0 };
        cursor.skip_space();
        let mut place = cursor.at;
        for step in &self.0 {
            let entered = match step {
                Step::Key(key) => cursor.enter_object(key),
                Step::Index(index) => cursor.enter_array(*index),
            };
            let Some(at) = entered else { break };
            place = at;
        }
        let before = text.get(..place).unwrap_or_default();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        (lines + 1, place - line_start + 1)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// A place in text that has been found to be JSON. In other text it only gets lost.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// From an object to the value of its member `key`, the last one, as that is the one that
    /// counts; where its key is.
    fn enter_object(&mut self, key: &str) -> Option<usize> {
        let mut found = None;
        self.take(b'{')?;
        while self.peek()? != b'}' {
            let place = self.at;
            let name = self.skip_string();
            self.skip_space();
            self.take(b':')?;
            if serde_json::from_slice::<String>(name).is_ok_and(|name| name == key) {
                found = Some((place, self.at));
            }
            self.skip_member();
        }
        let (place, value) = found?;
        self.at = value;
        Some(place)
    }

    /// From an array to its element `index`; where it is.
    fn enter_array(&mut self, index: usize) -> Option<usize> {
        self.take(b'[')?;
        for _ in 0..index {
            self.peek().filter(|byte| *byte != b']')?;
            self.skip_member();
        }
        self.peek().filter(|byte| *byte != b']').map(|_| self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.peek().filter(|next| *next == byte)?;
        self.at += 1;
        self.skip_space();
        Some(())
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Passes over a value and the comma after it.
    fn skip_member(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => drop(self.skip_string()),
                b',' if depth == 0 => break,
                b'}' | b']' if depth == 0 => break,
                b'{' | b'[' => (depth, self.at) = (depth + 1, self.at + 1),
                b'}' | b']' => (depth, self.at) = (depth - 1, self.at + 1),
                _ => self.at += 1,
            }
        }
        self.take(b',');
    }

    /// Passes over a string; the string, with its quotes.
    fn skip_string(&mut self) -> &'a [u8] {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek().filter(|byte| *byte != b'"') {
            self.at += if byte == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        self.text.get(start..self.at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const TEXT: &[u8] = br#"{
  "a\"]": "}\\", "b": [1, {"c": null}, [
    "x,", { "d.e": 2,
      "twice": 1, "twice": [3] }
  ]]
}"#;

    #[test]
    fn paths_lead_to_keys_and_elements() {
        let root = Path::default();
        let b = root.key("b");
        let inner = b.index(2).index(1);
        for (path, place) in [
            (root.clone(), (1, 1)),
            (root.key("a\"]"), (2, 3)),
            (b.clone(), (2, 18)),
            (b.index(0), (2, 24)),
            (b.index(1).key("c"), (2, 28)),
            (b.index(2), (2, 40)),
            (inner.clone(), (3, 11)),
            (inner.key("d.e"), (3, 13)),
            (inner.key("twice").index(0), (4, 29)),
        ] {
            assert_eq!(path.locate(TEXT), place, "{path}");
        }
        assert_eq!(inner.key("twice").locate(TEXT), (4, 19), "the last one counts");
    }

    #[test]
    fn what_is_missing_is_where_it_should_be() {
        let b = Path::default().key("b");
        assert_eq!(b.index(1).key("missing").locate(TEXT), b.index(1).locate(TEXT));
        assert_eq!(b.index(3).locate(TEXT), b.locate(TEXT));
        assert_eq!(b.key("no object").locate(TEXT), b.locate(TEXT));
        assert_eq!(Path::default().key("a").locate(b""), (1, 1));
        assert_eq!(Path::default().key("a").locate(b"{\"a"), (1, 1));
    }

    #[test]
    fn paths_are_written_as_in_javascript() {
        let path = Path::default().key("subsystems").index(1).key("config").index(0);
        assert_eq!(path.to_string(), "subsystems[1].config[0]");
        let path = path.key("params").below("priorities[2].core");
        assert_eq!(path.to_string(), "subsystems[1].config[0].params.priorities[2].core");
        assert_eq!(path, path.below(""));
    }
}
