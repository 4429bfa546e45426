use alloc::vec::Vec;
use core::fmt;

use basalt_env::{DmaBuf, DmaMem, DmaPool, OutOfDmaMemory, PhysAddr, Untrusted};

use crate::layout::split;

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

/// How a device broke the rules of its used ring. The queue is dead from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueError {
    /// The index ran past what the device was given.
    UsedIndex,
    /// An entry names a buffer the device does not have.
    UsedId,
    /// An entry claims more bytes than the buffer holds.
    UsedLength,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UsedIndex => "the device used more buffers than it was given",
            Self::UsedId => "the device returned a buffer it did not have",
            Self::UsedLength => "the device claims to have written past the end of a buffer",
        })
    }
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
    // Hot: every push, pop and commit.
    mem: DmaMem,
    size: u16,
    available_next: u16,
    available_shown: u16,
    used_next: u16,
    used_seen: u16,
    /// New buffers were shown and the device has not been told.
    owes_notice: bool,
    broken: Option<QueueError>,
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
        let size = floor_power_of_two(size.clamp(1, split::SIZE_MAX));
        let count = usize::from(size);
        let mem = pool.alloc_shared(used_offset(size) + 6 + split::USED_LEN * count)?;
        // Completions are polled for.
        mem.store16(available_offset(size), split::NO_INTERRUPT);
        let mut slots = Vec::new();
        slots.resize_with(count, || None);
        Ok(Self {
            mem,
            size,
            available_next: 0,
            available_shown: 0,
            used_next: 0,
            used_seen: 0,
            owes_notice: false,
            broken: None,
            slots,
            free: (0..size).rev().collect(),
        })
    }

    /// Whether the device sends a message for what it has used from now on. Look at the queue once
    /// more after asking for one: what it used before goes untold.
    pub fn set_notice(&mut self, notice: Notice) {
        let flags = if notice == Notice::Sent { 0 } else { split::NO_INTERRUPT };
        self.mem.store16(available_offset(self.size), flags);
    }

    /// Number of entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// How many more buffers can be pushed.
    #[inline]
    pub fn room(&self) -> usize {
        if self.broken.is_some() { 0 } else { self.free.len() }
    }

    /// Buffers the device has.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Why the queue is dead, if it is.
    pub fn broken(&self) -> Option<QueueError> {
        self.broken
    }

    /// Bus addresses of descriptor table, available ring and used ring.
    pub fn addresses(&self) -> [PhysAddr; 3] {
        let base = self.mem.phys();
        [0, available_offset(self.size), used_offset(self.size)].map(|at| base.offset(at as u64))
    }

    /// Moves a buffer into the queue; hands it back if there is no room.
    #[inline]
    pub fn push(&mut self, buf: DmaBuf, direction: Direction) -> Result<(), DmaBuf> {
        if self.broken.is_some() {
            return Err(buf);
        }
        let Some(index) = self.free.pop() else { return Err(buf) };
        let at = usize::from(index) * split::DESCRIPTOR_LEN;
        let flags = match direction {
            Direction::ToDevice => 0,
            Direction::FromDevice => split::DESCRIPTOR_WRITE,
        };
        self.mem.store64(at, buf.phys().as_u64());
        self.mem.store32(at + 8, buf.len() as u32);
        self.mem.store16(at + 12, flags);
        let entry = usize::from(self.available_next & (self.size - 1));
        let ring = available_offset(self.size) + split::RING_HEADER_LEN;
        self.mem.store16(ring + 2 * entry, index);
        self.available_next = self.available_next.wrapping_add(1);
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
        if self.broken.is_some() {
            return false;
        }
        if self.available_next != self.available_shown {
            self.mem.store16(available_offset(self.size) + 2, self.available_next);
            self.available_shown = self.available_next;
            self.owes_notice = true;
        }
        if !self.owes_notice {
            return false;
        }
        let unwanted = self.mem.load16(used_offset(self.size)) & split::NO_NOTIFY != 0;
        self.owes_notice = unwanted;
        !unwanted
    }

    /// The next buffer the device has finished with.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Used>, QueueError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.used_next == self.used_seen && !self.refresh()? {
            return Ok(None);
        }
        let entry = usize::from(self.used_next & (self.size - 1));
        let at = used_offset(self.size) + split::RING_HEADER_LEN + split::USED_LEN * entry;
        let id = Untrusted::new(self.mem.load32(at));
        let written = Untrusted::new(self.mem.load32(at + 4));
        let used = self.take(id, written).or_else(|error| self.fail(error))?;
        self.used_next = self.used_next.wrapping_add(1);
        Ok(Some(used))
    }

    /// Looks for new used entries; whether there are any.
    fn refresh(&mut self) -> Result<bool, QueueError> {
        let index = Untrusted::new(self.mem.load16(used_offset(self.size) + 2));
        let shown = self.available_shown.wrapping_sub(self.used_next);
        match index.check(|index| index.wrapping_sub(self.used_next) <= shown) {
            Some(index) => {
                self.used_seen = index;
                Ok(index != self.used_next)
            }
            None => self.fail(QueueError::UsedIndex),
        }
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

    fn fail<T>(&mut self, error: QueueError) -> Result<T, QueueError> {
        self.broken = Some(error);
        Err(error)
    }
}

fn floor_power_of_two(size: u16) -> u16 {
    1 << size.ilog2()
}

fn available_offset(size: u16) -> usize {
    split::DESCRIPTOR_LEN * usize::from(size)
}

fn used_offset(size: u16) -> usize {
    // Flags, index, entries, and the event word that goes unused; then aligned for the used ring.
    (available_offset(size) + 6 + 2 * usize::from(size)).next_multiple_of(4)
}
