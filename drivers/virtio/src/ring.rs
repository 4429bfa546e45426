use core::fmt;

use basalt_env::{DmaMem, DmaPool, OutOfDmaMemory, PhysAddr, Untrusted};

use crate::Notice;
use crate::layout::split;

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

/// Where a device finds a queue that was made for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingAddress {
    pub(crate) size: u16,
    /// Descriptor table, available ring and used ring.
    pub(crate) parts: [PhysAddr; 3],
}

/// Where the device gets to with one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor {
    pub(crate) address: PhysAddr,
    pub(crate) len: u32,
    pub(crate) is_written: bool,
    /// The index of the one after it in its chain.
    pub(crate) next: Option<u16>,
}

/// What the device says it has finished with: which descriptor, and how many bytes it wrote.
pub(crate) type UsedEntry = (Untrusted<u32>, Untrusted<u32>);

/// The three parts of a split virtqueue (virtio 1.2 §2.7) in shared memory, and how far either side
/// has got. Who uses it knows what an index stands for: nothing is read back but the used ring.
#[derive(Debug)]
pub(crate) struct Ring {
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
}

impl Ring {
    /// One of `size` entries, a power of two up to 32768 (rounded down to one otherwise).
    pub(crate) fn new(pool: &DmaPool, size: u16) -> Result<Self, OutOfDmaMemory> {
        let size = floor_power_of_two(size.clamp(1, split::SIZE_MAX));
        let mem = pool.alloc_shared(used_offset(size) + 6 + split::USED_LEN * usize::from(size))?;
        // Completions are polled for.
        mem.store16(available_offset(size), split::NO_INTERRUPT);
        Ok(Self {
            mem,
            size,
            available_next: 0,
            available_shown: 0,
            used_next: 0,
            used_seen: 0,
            owes_notice: false,
            broken: None,
        })
    }

    pub(crate) fn set_notice(&mut self, notice: Notice) {
        let flags = if notice == Notice::Sent { 0 } else { split::NO_INTERRUPT };
        self.mem.store16(available_offset(self.size), flags);
    }

    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    #[inline]
    pub(crate) fn broken(&self) -> Option<QueueError> {
        self.broken
    }

    pub(crate) fn address(&self) -> RingAddress {
        let base = self.mem.phys();
        let parts = [0, available_offset(self.size), used_offset(self.size)];
        RingAddress { size: self.size, parts: parts.map(|at| base.offset(at as u64)) }
    }

    #[inline]
    pub(crate) fn describe(&mut self, index: u16, descriptor: Descriptor) {
        let Descriptor { address, len, is_written, next } = descriptor;
        let at = usize::from(index) * split::DESCRIPTOR_LEN;
        let written = if is_written { split::DESCRIPTOR_WRITE } else { 0 };
        let chained = if next.is_some() { split::DESCRIPTOR_NEXT } else { 0 };
        self.mem.store64(at, address.as_u64());
        self.mem.store32(at + 8, len);
        self.mem.store16(at + 12, written | chained);
        self.mem.store16(at + 14, next.unwrap_or(0));
    }

    /// Makes what begins with that descriptor available at the next commit.
    #[inline]
    pub(crate) fn offer(&mut self, index: u16) {
        let entry = usize::from(self.available_next & (self.size - 1));
        let ring = available_offset(self.size) + split::RING_HEADER_LEN;
        self.mem.store16(ring + 2 * entry, index);
        self.available_next = self.available_next.wrapping_add(1);
    }

    /// Shows the device everything offered since the last call, and says whether it must be told.
    #[inline]
    pub(crate) fn commit(&mut self) -> bool {
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

    /// The next entry of the used ring.
    #[inline]
    pub(crate) fn next_used(&mut self) -> Result<Option<UsedEntry>, QueueError> {
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
        self.used_next = self.used_next.wrapping_add(1);
        Ok(Some((id, written)))
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

    /// The device has broken a rule.
    pub(crate) fn fail<T>(&mut self, error: QueueError) -> Result<T, QueueError> {
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
