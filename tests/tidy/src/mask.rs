/// Blanks comments, and the insides of strings and character literals, keeping every line and
/// column.
///
/// What remains is code: a brace or a word in it means what it seems to mean.
pub fn mask(source: &str) -> String {
    let mut masker = Masker { chars: source.chars().collect(), at: 0, out: String::new() };
    while masker.at < masker.chars.len() {
        masker.token();
    }
    masker.out
}

struct Masker {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Masker {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn keep(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        self.out.extend(&self.chars[self.at..end]);
        self.at = end;
    }

    fn blank(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
        self.out.extend(self.chars[self.at..end].iter().map(blank));
        self.at = end;
    }

    fn token(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.line_comment(),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            (c, _) if c.is_alphanumeric() || c == '_' => self.word(),
            _ => self.keep(1),
        }
    }

    fn line_comment(&mut self) {
        let rest = &self.chars[self.at..];
        let len = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
        self.blank(len);
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.blank(1);
                    continue;
                }
            }
            self.blank(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep(1);
        while self.at < self.chars.len() && self.peek(0) != '"' {
            self.blank(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.keep(1);
    }

    /// A character literal, or the start of a lifetime.
    fn quote(&mut self) {
        self.keep(1);
        if self.peek(0) == '\\' {
            self.blank(2);
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.blank(1);
            }
            self.keep(1);
        } else if self.peek(1) == '\'' {
            self.blank(1);
            self.keep(1);
        }
    }

    /// An identifier or number; a raw string if it is the prefix of one.
    fn word(&mut self) {
        let rest = &self.chars[self.at..];
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        let len = rest.iter().position(|c| !is_word(c)).unwrap_or(rest.len());
        let prefix: String = rest[..len].iter().collect();
        self.keep(len);
        if matches!(prefix.as_str(), "r" | "br" | "cr") {
            self.raw_string();
        }
    }

    fn raw_string(&mut self) {
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) != '"' {
            return;
        }
        self.keep(hashes + 1);
        let end: Vec<char> = std::iter::once('"').chain((0..hashes).map(|_| '#')).collect();
        while self.at < self.chars.len() && !self.chars[self.at..].starts_with(&end) {
            self.blank(1);
        }
        self.keep(end.len());
    }
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn comments_are_blanked_and_lines_kept() {
        assert_eq!(
            mask("a // b {\nc /* d /* e */ \n f */ g"),
            "a       \nc              \n      g"
        );
    }

    #[test]
    fn insides_of_strings_are_blanked_whatever_they_escape() {
        assert_eq!(mask(r#"x("a\"{", b"}")"#), r#"x("    ", b" ")"#);
        assert_eq!(mask(r###"r#"a"{"# r"\" b"###), r###"r#"   "# r" " b"###);
    }

    #[test]
    fn a_lifetime_is_no_character_and_a_character_no_brace() {
        assert_eq!(mask("fn f<'a>(x: &'a u8) { '{' '\\'' '\\u{7d}' }"), {
            "fn f<'a>(x: &'a u8) { ' ' '  ' '      ' }"
        });
    }

    #[test]
    fn what_is_never_closed_ends_with_the_file() {
        for open in ["\"abc", "/* abc", "r#\"abc", "'\\"] {
            assert_eq!(mask(open).chars().count(), open.chars().count());
        }
    }
}
