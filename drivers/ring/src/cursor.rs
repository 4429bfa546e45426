/// A position in a ring of fixed length, with the phase that flips at each wrap.
///
/// The phase starts as `true`: a completion queue zeroed by its owner holds no entry of the first
/// lap until the device writes one (NVM Express base specification 2.0 §4.2.4.1; virtio 1.2
/// §2.8.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    index: u32,
    len: u32,
    phase: bool,
}

impl Cursor {
    /// The start of a ring of `len` entries (taken as 1 if 0).
    pub const fn new(len: u32) -> Self {
        Self { index: 0, len: if len == 0 { 1 } else { len }, phase: true }
    }

    /// The entry it points at, always below the length.
    #[inline]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The entry after it, for telling a full ring from an empty one.
    #[inline]
    pub const fn next_index(self) -> usize {
        let next = self.index + 1;
        if next == self.len { 0 } else { next as usize }
    }

    /// `true` on the first lap and every second one after.
    #[inline]
    pub const fn phase(self) -> bool {
        self.phase
    }

    /// How many entries the ring has.
    #[inline]
    pub const fn ring_len(self) -> usize {
        self.len as usize
    }

    /// Moves on by one entry.
    #[inline]
    pub const fn advance(&mut self) {
        self.index += 1;
        if self.index == self.len {
            self.index = 0;
            self.phase = !self.phase;
        }
    }

    /// Moves on by `entries`, any number of laps.
    pub const fn advance_by(&mut self, entries: u32) {
        let position = self.index as u64 + entries as u64;
        let laps = position / self.len as u64;
        self.index = (position % self.len as u64) as u32;
        self.phase ^= laps % 2 == 1;
    }

    /// How many entries lie from `self` forward to `index` (below one lap), as for a producer index
    /// read from elsewhere. `None` if `index` lies outside the ring.
    pub const fn distance_to(self, index: u32) -> Option<u32> {
        if index >= self.len {
            return None;
        }
        Some(if index >= self.index { index - self.index } else { self.len - self.index + index })
    }
}
