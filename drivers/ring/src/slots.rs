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

/// What [`Slots::remove_with`] finds in a slot in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Something to be dropped.
    Kept,
    /// All that has to be dropped was taken out: it is forgotten, which costs nothing.
    Hollow,
}

#[derive(Debug)]
struct Slot<T> {
    /// Names what is in the slot, or what will be put there next.
    tag: u32,
    /// `None` while free.
    value: Option<T>,
}

/// A table of fixed capacity that owns what is in flight and names it by [`Tag`].
///
/// ```text
///   free ──1 insert──> used ──2 remove (its tag)──> free, next generation
///                        └──3 any other tag: StaleTag, nothing changes
/// ```
///
/// A freed slot goes to the back of the queue of free ones, so that a generation comes round as
/// late as it can. Nothing is allocated after construction.
#[derive(Debug)]
pub struct Slots<T, const BITS: u32 = 16> {
    slots: Box<[Slot<T>]>,
    /// The queue of free slots, a ring whose length is a power of two: from position `head`, which
    /// is given out next, to before `tail`. Positions run freely.
    free: Box<[u32]>,
    head: u32,
    tail: u32,
    /// The bits of a tag that are the slot's number.
    mask: u32,
    /// Tags from here on are of the last generation, after which comes 0. One generation is left
    /// out, with which a tag could be all ones.
    last_from: u32,
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
        let tail = u32::try_from(capacity).map_err(|_| CapacityError)?;
        let last_generation = (1u64 << (BITS - slot_bits)) - 2;
        Ok(Self {
            slots: (0..tail).map(|tag| Slot { tag, value: None }).collect(),
            free: (0..rounded as u32).collect(),
            head: 0,
            tail,
            mask: rounded as u32 - 1,
            last_from: (last_generation << slot_bits) as u32,
        })
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.slots.len() - self.tail.wrapping_sub(self.head) as usize
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every slot is in use.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.head == self.tail
    }

    /// Puts `value` into a free slot, or gives it back if there is none.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Result<Tag<BITS>, Full<T>> {
        self.insert_ref(value).map(|(tag, _)| tag)
    }

    /// As [`Self::insert`], with a look at `value` where it lies now.
    #[inline(always)]
    pub fn insert_ref(&mut self, value: T) -> Result<(Tag<BITS>, &mut T), Full<T>> {
        if self.is_full() {
            return Err(Full(value));
        }
        let index = self.free.get((self.head & self.mask) as usize).copied().unwrap_or(0);
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(Full(value));
        };
        // The slot is free. Not to look whether there is something to drop helps the I/O path.
        core::mem::forget(slot.value.replace(value));
        self.head = self.head.wrapping_add(1);
        match &mut slot.value {
            Some(value) => Ok((Tag(slot.tag), value)),
            // Not so: it was just put there.
            None => unreachable!(),
        }
    }

    /// Takes what `tag` names. The tag is stale from now on.
    #[inline]
    pub fn remove(&mut self, tag: Tag<BITS>) -> Result<T, StaleTag> {
        let slot = self.slots.get_mut(self.index(tag)).ok_or(StaleTag)?;
        if slot.tag != tag.0 {
            return Err(StaleTag);
        }
        let value = slot.value.take().ok_or(StaleTag)?;
        self.release(tag);
        Ok(value)
    }

    /// Empties the slot that `tag` names once `look` has seen what is in it, where it lies. What is
    /// left of it is dropped, but for [`Rest::Hollow`].
    #[inline]
    pub fn remove_with<R>(
        &mut self,
        tag: Tag<BITS>,
        look: impl FnOnce(&mut T) -> (R, Rest),
    ) -> Result<R, StaleTag> {
        let (index, next) = (self.index(tag), self.next(tag));
        let slot = self.slots.get_mut(index).ok_or(StaleTag)?;
        if slot.tag != tag.0 {
            return Err(StaleTag);
        }
        let (result, rest) = look(slot.value.as_mut().ok_or(StaleTag)?);
        match rest {
            Rest::Hollow => core::mem::forget(slot.value.take()),
            Rest::Kept => slot.value = None,
        }
        slot.tag = next;
        self.give_back(index);
        Ok(result)
    }

    /// What `tag` names.
    #[inline]
    pub fn get(&self, tag: Tag<BITS>) -> Result<&T, StaleTag> {
        let slot = self.slots.get(self.index(tag)).filter(|slot| slot.tag == tag.0);
        slot.and_then(|slot| slot.value.as_ref()).ok_or(StaleTag)
    }

    /// What `tag` names, to change.
    pub fn get_mut(&mut self, tag: Tag<BITS>) -> Result<&mut T, StaleTag> {
        let index = self.index(tag);
        let slot = self.slots.get_mut(index).filter(|slot| slot.tag == tag.0);
        slot.and_then(|slot| slot.value.as_mut()).ok_or(StaleTag)
    }

    /// Everything in flight, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Tag<BITS>, &T)> {
        self.slots.iter().filter_map(|slot| Some((Tag(slot.tag), slot.value.as_ref()?)))
    }

    /// Everything in flight, in slot order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Tag<BITS>, &mut T)> {
        self.slots.iter_mut().filter_map(|slot| Some((Tag(slot.tag), slot.value.as_mut()?)))
    }

    /// Takes everything in flight, in slot order. What the iterator has not reached stays.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        (0..self.slots.len()).filter_map(|index| {
            let slot = self.slots.get_mut(index)?;
            let (tag, value) = (Tag(slot.tag), slot.value.take()?);
            self.release(tag);
            Some(value)
        })
    }

    /// Makes `tag` stale, whose slot was just emptied, and queues the slot behind the free ones.
    #[inline]
    fn release(&mut self, tag: Tag<BITS>) {
        let (index, next) = (self.index(tag), self.next(tag));
        if let Some(slot) = self.slots.get_mut(index) {
            slot.tag = next;
            self.give_back(index);
        }
    }

    /// The tag of the next generation in the same slot.
    #[inline]
    const fn next(&self, Tag(tag): Tag<BITS>) -> u32 {
        let is_last = tag >= self.last_from;
        if is_last { tag & self.mask } else { tag + self.mask + 1 }
    }

    #[inline]
    fn give_back(&mut self, index: usize) {
        if let Some(free) = self.free.get_mut((self.tail & self.mask) as usize) {
            *free = index as u32;
            self.tail = self.tail.wrapping_add(1);
        }
    }

    /// The number of the slot that `tag` names or named; below the capacity if the tag is ours.
    #[inline]
    pub const fn index(&self, tag: Tag<BITS>) -> usize {
        (tag.0 & self.mask) as usize
    }
}
