//! The names of the image's functions: the form of the table, and its reader, [`Table`].
//!
//! The table is read while a panic is printed, when nothing else can be relied on. Hence there is
//! no heap, every loop and every expansion is bounded, and a damaged table costs names, never a
//! fault. Functions are many and panics rare, so it is small rather than fast to search.
//!
//! All numbers have seven bits to a byte, the lowest first; the top bit says that more follow.
//! 1. The length in bytes of the dictionary, and the dictionary. Each of its entries is the length
//!    of a text in bytes and that text (UTF-8); or zero and two codes, and stands for what these
//!    stand for, one behind the other. A code is the index of an entry.
//! 2. The functions, ascending by address, to the end of the table. Each is the number of bytes
//!    between it and the end of the one before (of the first: the link base), its size in bytes,
//!    the length in bytes of its codes, and the codes. Its name is what they stand for in a row.
//!
//! Neighbours: `boot/runner` writes it, `kernel/bare` finds it in memory. It is a crate of its own
//! so that the host can test what the image reads. Depends on no other crate of the project.
#![no_std]

use core::fmt;

#[cfg(test)]
mod tests;

/// How many pairs may lie within one another, at most, in what a code stands for.
pub const DEPTH_MAX: usize = 24;
/// How many entries of the dictionary a name may take, pairs included. The longest names take some
/// hundreds.
pub const ENTRIES_MAX: usize = 4096;

/// A table of function names. See the crate for its form.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    dictionary: &'a [u8],
    functions: &'a [u8],
}

/// The name of a function, put together while it is printed. What cannot be read ends it with
/// `...`.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    dictionary: &'a [u8],
    codes: &'a [u8],
}

#[derive(Clone, Copy)]
enum Entry<'a> {
    Text(&'a str),
    Pair(u32, u32),
}

impl<'a> Table<'a> {
    /// The table that `bytes` hold; none if they are too few for a dictionary.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let dictionary = rest.bytes()?;
        Some(Self { dictionary, functions: rest.0 })
    }

    /// The function that the byte `offset` bytes behind the link base belongs to, and how many
    /// bytes into it that is.
    #[must_use]
    pub fn find(&self, offset: u32) -> Option<(Name<'a>, u32)> {
        let mut rest = Reader(self.functions);
        let mut end = 0_u32;
        while end <= offset {
            let start = end.checked_add(rest.number()?)?;
            end = start.checked_add(rest.number()?)?;
            let codes = rest.bytes()?;
            if (start..end).contains(&offset) {
                return Some((Name { dictionary: self.dictionary, codes }, offset - start));
            }
        }
        None
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut codes = Reader(self.codes);
        let mut waiting = Waiting::default();
        for _ in 0..ENTRIES_MAX {
            if waiting.is_empty() && codes.0.is_empty() {
                return Ok(());
            }
            let code = waiting.pop().or_else(|| codes.number());
            let complete = match code.and_then(|code| self.entry(code)) {
                Some(Entry::Text(text)) => out.write_str(text).map(Some)?,
                Some(Entry::Pair(first, second)) => waiting.push(second, first),
                None => None,
            };
            if complete.is_none() {
                break;
            }
        }
        out.write_str("...")
    }
}

impl<'a> Name<'a> {
    fn entry(&self, code: u32) -> Option<Entry<'a>> {
        let mut rest = Reader(self.dictionary);
        for _ in 0..code {
            rest.skip_entry()?;
        }
        rest.entry()
    }
}

/// Codes that come after what is printed now, the last one first.
#[derive(Default)]
struct Waiting {
    codes: [u32; DEPTH_MAX + 1],
    count: usize,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `None` if there is no room.
    fn push(&mut self, later: u32, sooner: u32) -> Option<()> {
        self.codes.get_mut(self.count..)?.get_mut(..2)?.copy_from_slice(&[later, sooner]);
        self.count += 2;
        Some(())
    }

    fn pop(&mut self) -> Option<u32> {
        self.count = self.count.checked_sub(1)?;
        self.codes.get(self.count).copied()
    }
}

/// What is still to be read. Nothing of it is believed: what does not fit is `None`.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for place in 0..u32::BITS.div_ceil(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u32::from(byte & 0x7f);
            number |= bits.checked_mul(1 << (7 * place))?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A length and so many bytes.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(len)
    }

    fn take(&mut self, len: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(bytes)
    }

    fn skip_entry(&mut self) -> Option<()> {
        match self.number()? {
            0 => self.number().and_then(|_| self.number()).map(|_| ()),
            len => self.take(len).map(|_| ()),
        }
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        match self.number()? {
            0 => Some(Entry::Pair(self.number()?, self.number()?)),
            len => Some(Entry::Text(core::str::from_utf8(self.take(len)?).ok()?)),
        }
    }
}
