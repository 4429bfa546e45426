/// An input that is well formed: what mutations start from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seed {
    /// The whole input.
    pub bytes: Vec<u8>,
    /// Where its parts (PDUs, frames, calls) begin, ascending: what is moved, doubled and left out
    /// as a whole.
    pub cuts: Vec<usize>,
}

impl Seed {
    /// One without parts.
    pub fn whole(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), cuts: Vec::new() }
    }

    /// One that begins with `head`.
    pub fn starting(head: &[u8]) -> Self {
        Self::whole(head)
    }

    /// The same with one more part at its end.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self.cuts.push(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The same with one more part: a word with the length of `bytes`, then these.
    #[must_use]
    pub fn record(self, bytes: &[u8]) -> Self {
        self.part(&[&(bytes.len() as u16).to_le_bytes(), bytes].concat())
    }

    /// Where each part begins and ends; if there are none, the whole is one.
    pub fn parts(&self) -> Vec<std::ops::Range<usize>> {
        let starts = if self.cuts.is_empty() { &[0][..] } else { &self.cuts };
        let ends = starts.iter().skip(1).copied().chain([self.bytes.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }
}
