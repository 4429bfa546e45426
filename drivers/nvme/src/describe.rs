use alloc::vec::Vec;

use basalt_env::{DmaMem, DmaPool, OutOfDmaMemory, PhysAddr};
use basalt_nvme_spec::{PAGE_SIZE, SglDescriptor};
use basalt_ring::Tag;
use zerocopy::{Immutable, IntoBytes};

use crate::payload::pieces;
use crate::{Direction, Payload, RejectReason, prp};

/// How a command's data is described to the device. A trait, as closures cannot be told to inline.
pub(crate) trait Describe<T> {
    /// `tag` is the command's; its list is at the tag's index of `lists`.
    fn describe(self, payload: &T, tag: Tag, lists: &Lists) -> Result<prp::Prps, RejectReason>;
}

/// There is none.
pub(crate) struct NoData;

impl<T> Describe<T> for NoData {
    #[inline(always)]
    fn describe(self, _: &T, _: Tag, _: &Lists) -> Result<prp::Prps, RejectReason> {
        Ok(prp::Prps { prp1: 0, prp2: 0 })
    }
}

/// Ranges of a Dataset Management or a Copy.
pub(crate) struct Ranges<'a, D>(pub(crate) &'a [D]);

impl<T, D: IntoBytes + Immutable> Describe<T> for Ranges<'_, D> {
    fn describe(self, _: &T, tag: Tag, lists: &Lists) -> Result<prp::Prps, RejectReason> {
        let list = lists.of(tag)?;
        list.copy_in(0, self.0.as_bytes());
        Ok(prp::Prps { prp1: list.phys().as_u64(), prp2: 0 })
    }
}

/// What a command is to move of the payload's segments, which must be so many bytes together.
pub(crate) struct Segments {
    pub(crate) bytes: u64,
}

impl<T: Payload> Describe<T> for Segments {
    #[inline(always)]
    fn describe(self, payload: &T, tag: Tag, lists: &Lists) -> Result<prp::Prps, RejectReason> {
        // The common case, one buffer within two pages, is told apart once.
        if let Some(only) = payload.only_segment()
            && only.len() as u64 == self.bytes
            && let Some(prps) = prp::build_short(only)
        {
            return Ok(prps);
        }
        describe_any(payload, self.bytes, lists.of(tag)?)
    }
}

/// The same as an SGL: the command has to say so.
pub(crate) struct SglSegments {
    pub(crate) bytes: u64,
    pub(crate) granule: u64,
}

impl<T: Payload> Describe<T> for SglSegments {
    fn describe(self, payload: &T, tag: Tag, lists: &Lists) -> Result<prp::Prps, RejectReason> {
        let list = lists.of(tag)?;
        let (mut count, mut bytes) = (0, 0);
        for (address, len) in pieces(payload) {
            if count == SEGMENTS_MAX {
                return Err(RejectReason::MaxTransfer);
            }
            if !address.is_multiple_of(self.granule) || !len.is_multiple_of(self.granule) {
                return Err(RejectReason::Misaligned);
            }
            let block = SglDescriptor::data_block(address, len as u32);
            list.copy_in(count * size_of::<SglDescriptor>(), block.as_bytes());
            (count, bytes) = (count + 1, bytes + len);
        }
        if bytes != self.bytes {
            return Err(RejectReason::BadLength);
        }
        let len = count * size_of::<SglDescriptor>();
        Ok(sgl_pointer(SglDescriptor::last_segment(list.phys().as_u64(), len as u32)))
    }
}

/// The same of a namespace where so many bytes of metadata follow the data of each block, all in
/// one place.
pub(crate) struct Interleaved {
    pub(crate) bytes: u64,
    pub(crate) block: u64,
    pub(crate) size: u16,
    pub(crate) direction: Direction,
}

impl<T: Payload> Describe<T> for Interleaved {
    fn describe(self, payload: &T, tag: Tag, lists: &Lists) -> Result<prp::Prps, RejectReason> {
        let (list, metadata) = (lists.of(tag)?, lists.metadata(self.direction)?.as_u64());
        let (mut count, mut bytes) = (0, 0);
        let mut add = |address, len: u64| {
            if count == SEGMENTS_MAX {
                return Err(RejectReason::MaxTransfer);
            }
            let block = SglDescriptor::data_block(address, len as u32);
            list.copy_in(count * size_of::<SglDescriptor>(), block.as_bytes());
            count += 1;
            Ok(())
        };
        for (mut address, mut len) in pieces(payload) {
            while len > 0 {
                let part = len.min(self.block - bytes % self.block);
                add(address, part)?;
                (address, len, bytes) = (address + part, len - part, bytes + part);
                if bytes.is_multiple_of(self.block) {
                    add(metadata, self.size.into())?;
                }
            }
        }
        if bytes != self.bytes {
            return Err(RejectReason::BadLength);
        }
        let len = count * size_of::<SglDescriptor>();
        Ok(sgl_pointer(SglDescriptor::last_segment(list.phys().as_u64(), len as u32)))
    }
}

/// A descriptor, which lies where two PRPs would.
pub(crate) fn sgl_pointer(descriptor: SglDescriptor) -> prp::Prps {
    let mut halves = [0; 2];
    halves.as_mut_bytes().copy_from_slice(descriptor.as_bytes());
    let [prp1, prp2] = halves.map(u64::from_le);
    prp::Prps { prp1, prp2 }
}

/// SGL descriptors that a page holds.
pub(crate) const SEGMENTS_MAX: usize = PAGE_SIZE / size_of::<SglDescriptor>();

/// Pages for metadata.
const METADATA_PAGES: usize = 2;

/// One page per slot: a PRP list, SGL descriptors, or the ranges of a Dataset Management or Copy.
/// Behind these, one of zeroes that the device reads metadata from, and one that it writes it to.
#[derive(Debug)]
pub(crate) struct Lists {
    pages: Vec<DmaMem>,
    /// The bits of a tag that are the slot's number.
    mask: usize,
}

impl Lists {
    pub(crate) fn allocate(pool: &DmaPool, count: usize) -> Result<Self, OutOfDmaMemory> {
        let pages = (0..count + METADATA_PAGES).map(|_| pool.alloc_shared(PAGE_SIZE));
        let pages = pages.collect::<Result<Vec<_>, _>>()?;
        if let [.., zeroes, _] = &pages[..] {
            zeroes.copy_in(0, &[0; PAGE_SIZE]);
        }
        Ok(Self { pages, mask: count.next_power_of_two() - 1 })
    }

    /// Where the metadata of every command is that moves some this way.
    pub(crate) fn metadata(&self, direction: Direction) -> Result<PhysAddr, RejectReason> {
        match (&self.pages[..], direction) {
            ([.., _, sink], Direction::Read) => Ok(sink.phys()),
            ([.., zeroes, _], Direction::Write | Direction::Compare) => Ok(zeroes.phys()),
            _ => Err(RejectReason::Unsupported),
        }
    }

    pub(crate) fn of(&self, tag: Tag) -> Result<&DmaMem, RejectReason> {
        let index = usize::from(tag.as_u16()) & self.mask;
        self.pages.get(index).ok_or(RejectReason::QueueFull)
    }

    /// Gives the pages up for good, for the device may still read them.
    pub(crate) fn leak(&mut self) {
        core::mem::take(&mut self.pages).into_iter().for_each(core::mem::forget);
    }
}

#[cold]
fn describe_any<T: Payload>(
    payload: &T,
    bytes: u64,
    list: &DmaMem,
) -> Result<prp::Prps, RejectReason> {
    if pieces(payload).map(|(_, len)| len).sum::<u64>() != bytes {
        return Err(RejectReason::BadLength);
    }
    prp::build(pieces(payload), list)
}
