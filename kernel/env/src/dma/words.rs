#![expect(
    unsafe_code,
    reason = "memory of a device and of all cores is raw; DESIGN §5 allows it here"
)]

use super::DmaMem;
use crate::PhysAddr;

/// Words that a device and every core may read and write at once, such as doorbells in memory.
///
/// Wherever it is dropped, its memory returns to the pool it is of.
#[derive(Debug)]
pub struct SharedWords {
    mem: DmaMem,
}

// SAFETY: what of the memory's pool is of the home core only (the free lists) is left alone by
// memory that is marked as away, as this is.
unsafe impl Send for SharedWords {}
// SAFETY: the words are only reached by atomic loads and stores.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// All zeroes, in the memory of `mem`.
    pub fn new(mem: DmaMem) -> Self {
        let words = Self { mem: mem.into_away() };
        (0..words.len()).for_each(|index| words.store(index, 0));
        words
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.mem.len() / size_of::<u32>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a device finds them.
    pub fn phys(&self) -> PhysAddr {
        self.mem.phys()
    }

    /// Loads a word with acquire order.
    ///
    /// # Panics
    /// There is no such word.
    #[inline]
    pub fn load(&self, index: usize) -> u32 {
        self.mem.load32(index * size_of::<u32>())
    }

    /// Stores a word with release order.
    ///
    /// # Panics
    /// There is no such word.
    #[inline]
    pub fn store(&self, index: usize, value: u32) {
        self.mem.store32(index * size_of::<u32>(), value);
    }
}
