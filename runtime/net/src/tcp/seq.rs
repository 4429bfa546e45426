use core::ops::{Add, Sub};

/// A sequence number: a place in a stream of bytes, modulo 2³² (RFC 9293 §3.4).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Seq(pub u32);

impl Seq {
    /// Whether it lies before `other`. Both are less than half the numbers apart.
    #[inline]
    pub fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// The later of two.
    pub fn later(self, other: Self) -> Self {
        if self.is_before(other) { other } else { self }
    }

    /// The earlier of two.
    pub fn earlier(self, other: Self) -> Self {
        if self.is_before(other) { self } else { other }
    }

    /// Bytes from `start` to here; 0 if that lies behind.
    #[inline]
    pub fn since(self, start: Self) -> usize {
        if self.is_before(start) { 0 } else { self.0.wrapping_sub(start.0) as usize }
    }
}

impl Add<usize> for Seq {
    type Output = Self;

    fn add(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u32))
    }
}

impl Sub<usize> for Seq {
    type Output = Self;

    fn sub(self, bytes: usize) -> Self {
        Self(self.0.wrapping_sub(bytes as u32))
    }
}

/// Bytes of a stream, from the first to before the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first byte.
    pub start: Seq,
    /// Behind the last.
    pub end: Seq,
}

impl Span {
    /// So many bytes from `start` on.
    pub fn of(start: Seq, len: usize) -> Self {
        Self { start, end: start + len }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.end.since(self.start)
    }
}
