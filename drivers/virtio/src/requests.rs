use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaMem, DmaPool, OutOfDmaMemory, PhysAddr, Untrusted};

use crate::ring::{Descriptor, Ring};
use crate::{Direction, Notice, QueueError, RingAddress};

/// What a request's data is in.
pub trait Payload {
    /// The buffers in order. They must be the same as long as the device has the request.
    fn buffers(&self) -> &[DmaBuf];
}

/// How requests of a device type look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestFormat {
    /// Most bytes of what the device reads of a request before its data.
    pub header_max: usize,
    /// Bytes of what it writes besides its data.
    pub response_len: usize,
    /// Where the response is.
    pub response: ResponsePlace,
}

/// Where a response is, among what the device writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponsePlace {
    /// Before the data, as for SCSI (virtio 1.2 §5.6.6.1).
    First,
    /// After it, as for block devices (§5.2.6).
    Last,
}

/// A request the device has finished with.
#[derive(Debug)]
pub struct Finished<P> {
    /// What was pushed.
    pub payload: P,
    /// Bytes the device says it has written, the response included. Where data came from it, no
    /// more than there was room for.
    pub written: usize,
}

/// A split virtqueue (virtio 1.2 §2.7) of requests: each a header, the data of a payload, and a
/// response, which is a chain of descriptors.
///
/// ```text
///   push -> a slot owns the payload -> commit shows it -> the device works on it -> pop
/// ```
///
/// Which descriptors are whose is kept outside of shared memory. A queue must outlive the device's
/// use of it: reset the device before dropping it.
#[derive(Debug)]
pub struct Requests<P> {
    ring: Ring,
    /// For each descriptor that a request can begin with, room for header and response.
    area: DmaMem,
    format: RequestFormat,
    slots: Vec<Option<Slot<P>>>,
    /// The descriptor after each, of its chain or of the free ones.
    next: Vec<u16>,
    first_free: u16,
    free: usize,
    outstanding: usize,
}

#[derive(Debug)]
struct Slot<P> {
    payload: P,
    /// Descriptors of its chain.
    descriptors: usize,
    /// Bytes that the device may write; none is known where data goes to the device, for some
    /// (QEMU's SCSI host) count what they have read too.
    writable: Option<usize>,
}

/// Bytes that header and response are aligned to.
const ALIGN: usize = 16;

impl<P: Payload> Requests<P> {
    /// A queue of `size` descriptors, a power of two up to 32768 (rounded down to one otherwise).
    ///
    /// # Errors
    /// There is not enough DMA memory.
    pub fn new(pool: &DmaPool, size: u16, format: RequestFormat) -> Result<Self, OutOfDmaMemory> {
        let ring = Ring::new(pool, size)?;
        let count = usize::from(ring.size());
        let mut slots = Vec::new();
        slots.resize_with(count, || None);
        let next = (1..=ring.size()).collect();
        let area = pool.alloc_shared(count * stride(format))?;
        let (first_free, free, outstanding) = (0, count, 0);
        Ok(Self { ring, area, format, slots, next, first_free, free, outstanding })
    }

    /// As [`Queue::set_notice`](crate::Queue::set_notice).
    pub fn set_notice(&mut self, notice: Notice) {
        self.ring.set_notice(notice);
    }

    /// Where the device finds it.
    pub fn address(&self) -> RingAddress {
        self.ring.address()
    }

    /// Requests the device has.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Why the queue is dead, if it is.
    pub fn broken(&self) -> Option<QueueError> {
        self.ring.broken()
    }

    /// Moves a request into the queue, with data that goes in that direction, if there is any.
    ///
    /// # Errors
    /// Hands it back if there is no room now, or the queue is dead.
    ///
    /// # Panics
    /// The header is longer than the format allows.
    pub fn push(&mut self, payload: P, header: &[u8], direction: Direction) -> Result<(), P> {
        assert!(header.len() <= self.format.header_max, "a header longer than announced");
        let segments = payload.buffers().iter().filter(|buf| !buf.is_empty());
        let descriptors = segments.count() + 2;
        if self.ring.broken().is_some() || descriptors > self.free {
            return Err(payload);
        }
        let head = self.first_free;
        let at = usize::from(head) * stride(self.format);
        self.area.copy_in(at, header);
        let own = |offset: usize, len: usize, is_written| {
            let address = self.area.phys().offset((at + offset) as u64);
            (address, len as u32, is_written)
        };
        let header = own(0, header.len(), false);
        let response = own(response_offset(self.format), self.format.response_len, true);
        let is_written = direction == Direction::FromDevice;
        let response_first = is_written && self.format.response == ResponsePlace::First;
        let [before, after] =
            if response_first { [Some(response), None] } else { [None, Some(response)] };
        let mut chain = Chain { index: head, left: descriptors };
        for part in [Some(header), before].into_iter().flatten() {
            self.link(&mut chain, part);
        }
        let mut writable = is_written.then_some(self.format.response_len);
        for buf in payload.buffers().iter().filter(|buf| !buf.is_empty()) {
            self.link(&mut chain, (buf.phys(), buf.len() as u32, is_written));
            writable = writable.map(|bytes| bytes + buf.len());
        }
        if let Some(part) = after {
            self.link(&mut chain, part);
        }
        self.first_free = chain.index;
        self.free -= descriptors;
        self.outstanding += 1;
        self.ring.offer(head);
        self.slots[usize::from(head)] = Some(Slot { payload, descriptors, writable });
        Ok(())
    }

    /// Writes the next descriptor of a chain.
    fn link(&mut self, chain: &mut Chain, (address, len, is_written): (PhysAddr, u32, bool)) {
        let following = self.next[usize::from(chain.index)];
        chain.left -= 1;
        let next = (chain.left > 0).then_some(following);
        self.ring.describe(chain.index, Descriptor { address, len, is_written, next });
        chain.index = following;
    }

    /// As [`Queue::commit`](crate::Queue::commit).
    #[must_use]
    pub fn commit(&mut self) -> bool {
        self.ring.commit()
    }

    /// The next request the device has finished with; its response is copied to `response`.
    ///
    /// # Errors
    /// The device has broken a rule.
    pub fn pop(&mut self, response: &mut [u8]) -> Result<Option<Finished<P>>, QueueError> {
        let Some((id, written)) = self.ring.next_used()? else { return Ok(None) };
        match self.take(id, written) {
            Ok((head, finished)) => {
                let at = usize::from(head) * stride(self.format) + response_offset(self.format);
                let len = response.len().min(self.format.response_len);
                self.area.copy_out(at, &mut response[..len]);
                Ok(Some(finished))
            }
            Err(error) => self.ring.fail(error),
        }
    }

    fn take(
        &mut self,
        id: Untrusted<u32>,
        written: Untrusted<u32>,
    ) -> Result<(u16, Finished<P>), QueueError> {
        let head = id.index_below(self.slots.len()).ok_or(QueueError::UsedId)?;
        let slot = self.slots[head].as_ref().ok_or(QueueError::UsedId)?;
        let room = slot.writable.unwrap_or(usize::MAX);
        let written =
            written.check(|bytes| bytes as usize <= room).ok_or(QueueError::UsedLength)?;
        let slot = self.slots[head].take().ok_or(QueueError::UsedId)?;
        let mut last = head;
        for _ in 1..slot.descriptors {
            last = usize::from(self.next[last]);
        }
        self.next[last] = self.first_free;
        self.first_free = head as u16;
        self.free += slot.descriptors;
        self.outstanding -= 1;
        Ok((head as u16, Finished { payload: slot.payload, written: written as usize }))
    }

    /// Takes back all that the device has, which must have been reset.
    pub fn abort_all(&mut self) -> impl Iterator<Item = P> + '_ {
        self.slots.iter_mut().filter_map(|slot| slot.take().map(|slot| slot.payload))
    }
}

/// A chain that is being written.
struct Chain {
    index: u16,
    /// How many descriptors it still gets.
    left: usize,
}

fn response_offset(format: RequestFormat) -> usize {
    format.header_max.next_multiple_of(ALIGN)
}

fn stride(format: RequestFormat) -> usize {
    response_offset(format) + format.response_len.next_multiple_of(ALIGN)
}
