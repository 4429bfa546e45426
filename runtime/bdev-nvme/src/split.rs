use core::ops::Range;

use basalt_env::DmaBuf;
use basalt_nvme::Sgls;

/// Bytes of a page, as the driver programs the controller (CC.MPS = 0).
const PAGE: u64 = basalt_nvme_spec::PAGE_SIZE as u64;
/// Most bytes that go through one bounce buffer.
const BOUNCE_MAX: usize = 128 * 1024;

/// What one command can carry, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most bytes of one command; a multiple of `block`.
    pub(crate) transfer_max: usize,
    /// The same for a command that goes the short way; 0 if none does.
    pub(crate) plain_max: usize,
    /// Bytes of a logical block.
    pub(crate) block: usize,
    /// No command should cross a multiple of so many blocks, such as the end of a zone; 0 for none.
    pub(crate) boundary: u64,
    /// How buffers can lie that go with one command; else as a list of pages wants them.
    pub(crate) sgls: Option<Sgls>,
    /// Most blocks of a command that moves no data, by what it does; 0 if there is none.
    pub(crate) dataless: Dataless,
}

impl Limits {
    /// Whether a command that describes `count` pieces of memory, of which the last ends at `end`,
    /// can go on at `start`.
    fn goes_on(&self, end: Option<u64>, start: u64, len: usize, count: usize) -> bool {
        match (self.sgls, end) {
            (None, None) => start.is_multiple_of(4),
            (None, Some(end)) => end.is_multiple_of(PAGE) && start.is_multiple_of(PAGE),
            (Some(Sgls { segments_max, granule }), _) => {
                let lies_right =
                    start.is_multiple_of(granule as u64) && len.is_multiple_of(granule);
                count < segments_max && lies_right
            }
        }
    }

    /// As many of `blocks` from `lba` on as lie before the next boundary.
    pub(crate) fn before_boundary(&self, lba: u64, blocks: u32) -> u32 {
        match lba.checked_rem(self.boundary) {
            None => blocks,
            Some(past) => blocks.min(u32::try_from(self.boundary - past).unwrap_or(u32::MAX)),
        }
    }
}

/// Most blocks that commands name which move no data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dataless {
    pub(crate) write_zeroes: u32,
    pub(crate) unmap: u32,
    pub(crate) verify: u32,
    pub(crate) write_uncorrectable: u32,
    pub(crate) copy: u32,
}

/// The next part of a transfer that one command can carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// In place.
    Direct {
        /// Which of the buffers.
        bufs: Range<usize>,
        /// Bytes of the first of them that come before.
        skip: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// So many bytes by way of one contiguous buffer, for a list of pages can only describe buffers
    /// that meet at page boundaries (base specification §4.1.1), an SGL only what lies at the right
    /// addresses.
    Bounced {
        /// How many.
        bytes: usize,
    },
}

/// Start and length of a buffer on the bus.
pub(crate) type Segment = (u64, usize);

/// A buffer as a segment.
pub(crate) fn segment(buf: &DmaBuf) -> Segment {
    (buf.phys().as_u64(), buf.len())
}

/// What the next command carries of a transfer whose first `skip` bytes are done, and of which
/// `left` (at least a block) may follow.
pub(crate) fn next_piece(
    segments: impl Iterator<Item = Segment>,
    skip: usize,
    left: usize,
    limits: Limits,
) -> Piece {
    let target = left.min(limits.transfer_max);
    let mut piece = Piece::Bounced { bytes: target.min(bounce_max(limits)) };
    let (mut before, mut bytes, mut count) = (skip, 0, 0);
    let mut first = None;
    let mut end = None;
    for (index, (start, len)) in segments.enumerate() {
        let from = before.min(len);
        before -= from;
        let (start, len) = (start + from as u64, (len - from).min(target - bytes));
        if len == 0 {
            continue;
        }
        if !limits.goes_on(end, start, len, count) {
            break;
        }
        let (first, skip) = *first.get_or_insert((index, from));
        (end, count) = (Some(start + len as u64), count + 1);
        // Up to a block, which may end inside this one or have ended before.
        let whole = (bytes + len) / limits.block * limits.block;
        if whole > bytes {
            piece = Piece::Direct { bufs: first..index + 1, skip, bytes: whole };
        }
        bytes += len;
        if bytes == target {
            break;
        }
    }
    piece
}

const fn bounce_max(limits: Limits) -> usize {
    if limits.block > BOUNCE_MAX { limits.block } else { BOUNCE_MAX }
}

/// Copies bytes `skip..` of `bufs` into all of `bounce`.
pub(crate) fn gather(bufs: &[DmaBuf], mut skip: usize, bounce: &mut DmaBuf) {
    let mut rest = bounce.as_mut_slice();
    for buf in bufs {
        let from = buf.as_slice().get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(buf.len());
        let (to, tail) = rest.split_at_mut(from.len().min(rest.len()));
        to.copy_from_slice(&from[..to.len()]);
        rest = tail;
    }
}

/// Copies all of `bounce` to bytes `skip..` of `bufs`.
pub(crate) fn scatter(bounce: &DmaBuf, bufs: &mut [DmaBuf], mut skip: usize) {
    let mut rest = bounce.as_slice();
    for buf in bufs {
        let len = buf.len();
        let to = buf.as_mut_slice().get_mut(skip..).unwrap_or_default();
        skip = skip.saturating_sub(len);
        let (from, tail) = rest.split_at(to.len().min(rest.len()));
        to[..from.len()].copy_from_slice(from);
        rest = tail;
    }
}

#[cfg(test)]
mod tests;
