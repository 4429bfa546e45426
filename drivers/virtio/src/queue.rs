use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory, Untrusted};

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

/// A split virtqueue whose every buffer is one descriptor (virtio 1.2 §2.7).
///
/// Life cycle of a buffer: [`Self::push`] moves it into a slot -> [`Self::commit`] shows all new
/// ones to the device -> the device works on it -> [`Self::pop`] hands it back. The descriptor's
/// index is the slot's, and only the slot says what the index stands for: nothing is read back
/// from the descriptor table.
///
/// A queue must outlive the device's use of it: reset the device before dropping it.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
}

#[derive(Debug)]
struct Slot {
    buf: DmaBuf,
    direction: Direction,
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

    /// How many more buffers can be pushed.
    #[inline]
    pub fn room(&self) -> usize {
        if self.ring.broken().is_some() { 0 } else { self.free.len() }
    }

    /// Buffers the device has.
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
        let (address, len) = (buf.phys(), buf.len() as u32);
        let is_written = direction == Direction::FromDevice;
        self.ring.describe(index, Descriptor { address, len, is_written, next: None });
        self.ring.offer(index);
        self.slots[usize::from(index)] = Some(Slot { buf, direction });
        Ok(())
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
        let slot = self.slots[index].as_ref().ok_or(QueueError::UsedId)?;
        let written = match slot.direction {
            // Devices disagree on what to report here, and nothing depends on it.
            Direction::ToDevice => 0,
            Direction::FromDevice => {
                let len = slot.buf.len();
                written.check(|bytes| bytes as usize <= len).ok_or(QueueError::UsedLength)? as usize
            }
        };
        let Slot { buf, .. } = self.slots[index].take().ok_or(QueueError::UsedId)?;
        self.free.push(index as u16);
        Ok(Used { buf, written })
    }
}
