use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, DmaSlice, OutOfDmaMemory, PhysAddr, Untrusted};

use crate::ring::{Descriptor, Ring};
use crate::{QueueError, RingAddress};

/// Who writes a buffer while the device has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device reads it.
    ToDevice,
    /// The device writes it.
    FromDevice,
}

/// A buffer the device has finished with.
#[derive(Debug)]
pub struct Used {
    /// The buffer that was pushed, its length as it was.
    pub buf: DmaBuf,
    /// Bytes the device wrote at its start, at most its length; 0 for one it read.
    pub written: usize,
}

/// Bytes that the device is to read in the midst of a buffer's, from where they are.
#[derive(Debug)]
pub struct Insert {
    /// How many bytes of the buffer come before.
    pub at: usize,
    /// Those to be read then.
    pub bytes: DmaSlice,
}

/// A split virtqueue of buffers (virtio 1.2 §2.7), each one descriptor, or a chain of them where
/// others' bytes go in between.
///
/// Life cycle of a buffer: [`Self::push`] or [`Self::push_with`] moves it into a slot ->
/// [`Self::commit`] shows all new ones to the device -> the device works on it -> [`Self::pop`]
/// hands it back, and lets go of what went in between. The descriptor's index is the slot's, and
/// only the slot says what the index stands for: nothing is read back from the descriptor table.
///
/// A queue must outlive the device's use of it: reset the device before dropping it.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
}

/// What a descriptor stands for, and the next of its chain.
#[derive(Debug)]
struct Slot {
    holds: Holds,
    next: Option<u16>,
}

#[derive(Debug)]
enum Holds {
    /// A buffer, or its beginning.
    Buffer(DmaBuf, Direction),
    /// What goes in between.
    Slice(#[expect(dead_code, reason = "kept for as long as the device reads it")] DmaSlice),
    /// More of the chain's buffer.
    Rest,
}

/// Whether a device tells of what it has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// By a message.
    Sent,
    /// It does not: its user polls.
    Held,
}

impl Queue {
    /// A queue of `size` entries, a power of two up to 32768 (rounded down to one otherwise).
    pub fn new(pool: &DmaPool, size: u16) -> Result<Self, OutOfDmaMemory> {
        let ring = Ring::new(pool, size)?;
        let mut slots = Vec::new();
        slots.resize_with(usize::from(ring.size()), || None);
        let free = (0..ring.size()).rev().collect();
        Ok(Self { ring, slots, free })
    }

    /// Whether the device sends a message for what it has used from now on. Look at the queue once
    /// more after asking for one: what it used before goes untold.
    pub fn set_notice(&mut self, notice: Notice) {
        self.ring.set_notice(notice);
    }

    /// Number of entries.
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    /// How many more descriptors there are: as many buffers can be pushed.
    #[inline]
    pub fn room(&self) -> usize {
        if self.ring.broken().is_some() { 0 } else { self.free.len() }
    }

    /// Descriptors the device has.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Why the queue is dead, if it is.
    pub fn broken(&self) -> Option<QueueError> {
        self.ring.broken()
    }

    /// Where the device finds it.
    pub fn address(&self) -> RingAddress {
        self.ring.address()
    }

    /// Moves a buffer into the queue; hands it back if there is no room.
    #[inline]
    pub fn push(&mut self, buf: DmaBuf, direction: Direction) -> Result<(), DmaBuf> {
        if self.ring.broken().is_some() {
            return Err(buf);
        }
        let Some(index) = self.free.pop() else { return Err(buf) };
        let (address, len) = (buf.phys(), buf.len());
        let is_written = direction == Direction::FromDevice;
        self.fill(index, (address, len, is_written), Holds::Buffer(buf, direction), None);
        self.ring.offer(index);
        Ok(())
    }

    /// Descriptors that [`Self::push_with`] needs at most for a buffer with so many inserts.
    pub const fn chain_max(inserts: usize) -> usize {
        2 * inserts + 1
    }

    /// As [`Self::push`], for the device to read, with `inserts` in between, by ascending places
    /// behind the first byte, which it takes all of if there is room.
    #[inline]
    pub fn push_with(&mut self, buf: DmaBuf, inserts: &mut Vec<Insert>) -> Result<(), DmaBuf> {
        if self.room() < Self::chain_max(inserts.len()) {
            return Err(buf);
        }
        // From the last to the first, so that each knows what comes next.
        let (start, mut end, mut next) = (buf.phys(), buf.len(), None);
        while let Some(Insert { at, bytes }) = inserts.pop() {
            let at = at.min(end);
            let rest = (start.offset(at as u64), end - at, false);
            next = if end > at { self.link(rest, Holds::Rest, next) } else { next };
            let part = (bytes.phys(), bytes.len(), false);
            next = self.link(part, Holds::Slice(bytes), next);
            end = at;
        }
        let head = self.link((start, end, false), Holds::Buffer(buf, Direction::ToDevice), next);
        head.into_iter().for_each(|head| self.ring.offer(head));
        Ok(())
    }

    /// Describes something, in front of `next`, by a descriptor of which there is one.
    #[inline]
    fn link(&mut self, part: Part, holds: Holds, next: Option<u16>) -> Option<u16> {
        let index = self.free.pop()?;
        self.fill(index, part, holds, next);
        Some(index)
    }

    #[inline]
    fn fill(&mut self, index: u16, part: Part, holds: Holds, next: Option<u16>) {
        let (address, len, is_written) = part;
        let len = len as u32;
        self.ring.describe(index, Descriptor { address, len, is_written, next });
        self.slots[usize::from(index)] = Some(Slot { holds, next });
    }

    /// Shows the device everything pushed since the last call, and says whether it must be told.
    ///
    /// Call it every round, also without new buffers: where the device had asked not to be told,
    /// it is asked again. That makes the wish safe to honour without a memory fence: one missed
    /// now is seen the next time (virtio 1.2 §2.7.13).
    #[inline]
    #[must_use]
    pub fn commit(&mut self) -> bool {
        self.ring.commit()
    }

    /// The next buffer the device has finished with.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Used>, QueueError> {
        let Some((id, written)) = self.ring.next_used()? else { return Ok(None) };
        self.take(id, written).map(Some).or_else(|error| self.ring.fail(error))
    }

    fn take(&mut self, id: Untrusted<u32>, written: Untrusted<u32>) -> Result<Used, QueueError> {
        let index = id.index_below(self.slots.len()).ok_or(QueueError::UsedId)?;
        let Some(Slot { holds: Holds::Buffer(buf, direction), .. }) = &self.slots[index] else {
            return Err(QueueError::UsedId);
        };
        let written = match direction {
            // Devices disagree on what to report here, and nothing depends on it.
            Direction::ToDevice => 0,
            Direction::FromDevice => {
                let len = buf.len();
                written.check(|bytes| bytes as usize <= len).ok_or(QueueError::UsedLength)? as usize
            }
        };
        let Some(Slot { holds: Holds::Buffer(buf, _), next }) = self.slots[index].take() else {
            return Err(QueueError::UsedId);
        };
        self.free.push(index as u16);
        if next.is_some() {
            self.free_chain(next);
        }
        Ok(Used { buf, written })
    }

    /// Lets go of what comes behind the first of a chain.
    fn free_chain(&mut self, mut next: Option<u16>) {
        while let Some(index) = next {
            next = self.slots[usize::from(index)].take().and_then(|slot| slot.next);
            self.free.push(index);
        }
    }
}

/// Where something is, how many bytes, and whether the device writes it.
type Part = (PhysAddr, usize, bool);
