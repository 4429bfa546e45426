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
    /// How buffers can lie that go with one command; else as a list of pages wants them.
    pub(crate) sgls: Option<Sgls>,
    /// Most blocks of a command that moves no data, by what it does; 0 if there is none.
    pub(crate) dataless: Dataless,
}

/// Most blocks that commands name which move no data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dataless {
    pub(crate) write_zeroes: u32,
    pub(crate) unmap: u32,
    pub(crate) verify: u32,
    pub(crate) copy: u32,
}

/// The next part of a transfer that one command can carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// Whole buffers, used in place.
    Direct {
        /// Which of the buffers.
        bufs: Range<usize>,
        /// Their length together.
        bytes: usize,
    },
    /// So many bytes by way of one contiguous buffer, for a command can neither begin nor end
    /// inside a buffer, and a list of pages can only describe buffers that meet at page boundaries
    /// (base specification §4.1.1). An SGL could describe others.
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

/// What the next command carries of a transfer whose first `skip` bytes are done and `left` (at
/// least a block) are not.
pub(crate) fn next_piece(
    segments: impl Iterator<Item = Segment>,
    skip: usize,
    left: usize,
    limits: Limits,
) -> Piece {
    let mut direct =
        Piece::Bounced { bytes: left.min(limits.transfer_max).min(bounce_max(limits)) };
    let (mut at, mut bytes) = (0, 0);
    let mut first = 0;
    let mut end = None;
    for (index, (start, len)) in segments.enumerate() {
        let before = at;
        at += len;
        if before < skip || (bytes == 0 && len == 0) {
            first = index + 1;
            continue;
        }
        let meets = match limits.sgls {
            None => {
                end.is_none_or(|end: u64| end.is_multiple_of(PAGE) && start.is_multiple_of(PAGE))
            }
            Some(Sgls { segments_max, granule }) => {
                let lies_right =
                    start.is_multiple_of(granule as u64) && len.is_multiple_of(granule);
                index - first < segments_max && lies_right
            }
        };
        if before - skip != bytes || !meets || bytes + len > limits.transfer_max {
            break;
        }
        bytes += len;
        end = Some(start + len as u64);
        if bytes.is_multiple_of(limits.block) {
            direct = Piece::Direct { bufs: first..index + 1, bytes };
        }
    }
    direct
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
