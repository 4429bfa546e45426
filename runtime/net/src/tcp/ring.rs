use alloc::vec::Vec;

/// Bytes of a queue that were copied.
///
/// Memory is taken with the first bytes: a connection that only receives needs none.
#[derive(Debug)]
pub struct Ring {
    bytes: Vec<u8>,
    capacity: usize,
    start: usize,
    len: usize,
}

impl Ring {
    /// Room for `capacity` bytes.
    pub const fn new(capacity: usize) -> Self {
        Self { bytes: Vec::new(), capacity, start: 0, len: 0 }
    }

    /// Bytes in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it has room for.
    pub fn room(&self) -> usize {
        self.capacity - self.len
    }

    /// Adds as many of `bytes` as there is room for; gives that number.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.bytes.is_empty() && !self.take_memory() {
            return 0;
        }
        let count = bytes.len().min(self.room());
        let at = self.wrap(self.start + self.len);
        let (first, second) = bytes[..count].split_at(count.min(self.capacity - at));
        self.bytes[at..at + first.len()].copy_from_slice(first);
        self.bytes[..second.len()].copy_from_slice(second);
        self.len += count;
        count
    }

    /// Throws away the first `count` bytes.
    pub fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.start = if self.len == 0 { 0 } else { self.wrap(self.start + count) };
    }

    /// `len` bytes from `offset` on, in one part or two.
    pub fn parts(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        let offset = offset.min(self.len);
        let len = len.min(self.len - offset);
        let at = self.wrap(self.start + offset);
        let first = len.min(self.bytes.len().saturating_sub(at));
        let part = |from: usize, len: usize| self.bytes.get(from..from + len).unwrap_or_default();
        [part(at, first), part(0, len - first)]
    }

    fn take_memory(&mut self) -> bool {
        if self.bytes.try_reserve_exact(self.capacity).is_err() {
            return false;
        }
        self.bytes.resize(self.capacity, 0);
        true
    }

    fn wrap(&self, at: usize) -> usize {
        if at >= self.capacity { at - self.capacity } else { at }
    }
}
