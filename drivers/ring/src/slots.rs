use alloc::boxed::Box;
use core::fmt;

use crate::Full;

/// Names one use of one slot: slot number below, generation above, `BITS` bits in all.
///
/// It is never all ones, which NVMe keeps for "no command".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tag<const BITS: u32 = 16>(u32);

impl Tag<16> {
    /// A tag that came back from a device. Nothing about it is trusted.
    pub const fn from_u16(raw: u16) -> Self {
        Self(raw as u32)
    }

    /// The tag as an NVMe command identifier.
    pub const fn as_u16(self) -> u16 {
        self.0 as u16
    }
}

impl Tag<32> {
    /// A tag that came back from elsewhere. Nothing about it is trusted.
    pub const fn from_u32(raw: u32) -> Self {
        Self(raw)
    }

    /// The tag as a number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// The tag names no slot in use: invented, or its slot was emptied since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaleTag;

impl fmt::Display for StaleTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tag names nothing in flight")
    }
}

/// A table cannot be made with this capacity: 0, or so many that the tag keeps fewer than 4 bits of
/// generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CapacityError;

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of slots is zero or leaves the tag no room for a generation")
    }
}

/// Fewest bits of generation that still make a stale tag unlikely to be taken for a live one.
const GENERATION_BITS_MIN: u32 = 4;

/// Ends the list of free slots.
const END: u32 = u32::MAX;

#[derive(Debug)]
enum Entry<T> {
    Free { next: u32 },
    Used(T),
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Entry<T>,
}

/// A table of fixed capacity that owns what is in flight and names it by [`Tag`].
///
/// ```text
///   free ──1 insert──> used ──2 remove (its tag)──> free, generation + 1
///                        └──3 any other tag: StaleTag, nothing changes
/// ```
///
/// A freed slot goes to the back of the queue of free ones, so that a generation comes round as
/// late as it can. Nothing is allocated after construction.
#[derive(Debug)]
pub struct Slots<T, const BITS: u32 = 16> {
    slots: Box<[Slot<T>]>,
    first_free: u32,
    last_free: u32,
    len: u32,
    slot_bits: u32,
}

impl<T, const BITS: u32> Slots<T, BITS> {
    /// A table of `capacity` slots. With 16-bit tags at most 4096; up to 1024 leave 6 bits or more
    /// of generation.
    pub fn with_capacity(capacity: usize) -> Result<Self, CapacityError> {
        const { assert!(BITS == 16 || BITS == 32, "a tag has 16 or 32 bits") };
        let rounded = capacity.checked_next_power_of_two().ok_or(CapacityError)?;
        let slot_bits = rounded.trailing_zeros();
        if capacity == 0 || slot_bits + GENERATION_BITS_MIN > BITS {
            return Err(CapacityError);
        }
        let count = u32::try_from(capacity).map_err(|_| CapacityError)?;
        let slot = |index: u32| Slot {
            generation: 0,
            entry: Entry::Free { next: if index + 1 == count { END } else { index + 1 } },
        };
        let slots = (0..count).map(slot).collect();
        Ok(Self { slots, first_free: 0, last_free: count - 1, len: 0, slot_bits })
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many slots are in use.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no slot is in use.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every slot is in use.
    pub const fn is_full(&self) -> bool {
        self.first_free == END
    }

    /// The tag that the next [`Self::insert`] will give, for building what is to be inserted.
    pub fn next_tag(&self) -> Option<Tag<BITS>> {
        let slot = self.slots.get(self.first_free as usize)?;
        Some(self.tag(self.first_free, slot.generation))
    }

    /// Puts `value` into a free slot, or gives it back if there is none.
    pub fn insert(&mut self, value: T) -> Result<Tag<BITS>, Full<T>> {
        let index = self.first_free;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(Full(value));
        };
        if let Entry::Free { next } = slot.entry {
            self.first_free = next;
        }
        slot.entry = Entry::Used(value);
        let generation = slot.generation;
        self.len += 1;
        Ok(self.tag(index, generation))
    }

    /// Takes what `tag` names. The tag is stale from now on.
    pub fn remove(&mut self, tag: Tag<BITS>) -> Result<T, StaleTag> {
        self.get(tag)?;
        self.release(self.index(tag)).ok_or(StaleTag)
    }

    /// What `tag` names.
    pub fn get(&self, tag: Tag<BITS>) -> Result<&T, StaleTag> {
        match self.slots.get(self.index(tag) as usize) {
            Some(Slot { generation, entry: Entry::Used(value) })
                if *generation == self.generation(tag) =>
            {
                Ok(value)
            }
            _ => Err(StaleTag),
        }
    }

    /// What `tag` names, to change.
    pub fn get_mut(&mut self, tag: Tag<BITS>) -> Result<&mut T, StaleTag> {
        let wanted = self.generation(tag);
        match self.slots.get_mut(self.index(tag) as usize) {
            Some(Slot { generation, entry: Entry::Used(value) }) if *generation == wanted => {
                Ok(value)
            }
            _ => Err(StaleTag),
        }
    }

    /// Everything in flight, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Tag<BITS>, &T)> {
        self.slots.iter().zip(0u32..).filter_map(|(slot, index)| match &slot.entry {
            Entry::Used(value) => Some((self.tag(index, slot.generation), value)),
            Entry::Free { .. } => None,
        })
    }

    /// Everything in flight, in slot order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Tag<BITS>, &mut T)> {
        let slot_bits = self.slot_bits;
        self.slots.iter_mut().zip(0u32..).filter_map(move |(slot, index)| match &mut slot.entry {
            Entry::Used(value) => Some((Tag(slot.generation << slot_bits | index), value)),
            Entry::Free { .. } => None,
        })
    }

    /// Takes everything in flight, in slot order. What the iterator has not reached stays.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        (0..self.slots.len() as u32).filter_map(|index| self.release(index))
    }

    /// Empties a slot and puts it at the back of the free ones.
    fn release(&mut self, index: u32) -> Option<T> {
        let generations = 1u64 << (BITS - self.slot_bits);
        let slot = self.slots.get_mut(index as usize)?;
        if matches!(slot.entry, Entry::Free { .. }) {
            return None;
        }
        let freed = core::mem::replace(&mut slot.entry, Entry::Free { next: END });
        // The last generation is left out: with it a tag could be all ones.
        let last = u64::from(slot.generation) + 2 >= generations;
        slot.generation = if last { 0 } else { slot.generation + 1 };
        match self.slots.get_mut(self.last_free as usize) {
            Some(Slot { entry: Entry::Free { next }, .. }) if self.first_free != END => {
                *next = index;
            }
            _ => self.first_free = index,
        }
        self.last_free = index;
        self.len -= 1;
        match freed {
            Entry::Used(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    const fn tag(&self, index: u32, generation: u32) -> Tag<BITS> {
        Tag(generation << self.slot_bits | index)
    }

    const fn index(&self, tag: Tag<BITS>) -> u32 {
        tag.0 & ((1 << self.slot_bits) - 1)
    }

    const fn generation(&self, tag: Tag<BITS>) -> u32 {
        tag.0 >> self.slot_bits
    }
}
