//! The little JSON this crate prints.

use core::fmt::{self, Write};

/// A text as a JSON string. Devices choose some of these texts, so everything is escaped that must
/// be (RFC 8259 §7), and nothing outside ASCII gets through.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ' '..='~' => f.write_char(c)?,
                _ => f.write_char('?')?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_a_device_says_cannot_break_out_of_the_string() {
        assert_eq!(Text("QEMU \"NVMe\" \\ Ctrl").to_string(), r#""QEMU \"NVMe\" \\ Ctrl""#);
        assert_eq!(Text("a\nb\u{0}ü").to_string(), "\"a?b??\"");
    }
}
