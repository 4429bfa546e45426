use basalt_env::{DmaBuf, DmaMem};
use basalt_nvme_spec::PAGE_SIZE;

use crate::RejectReason;

const PAGE: u64 = PAGE_SIZE as u64;

/// Entries one list page holds.
const LIST_ENTRIES: usize = PAGE_SIZE / 8;

/// Most bytes that always fit the first entry and one list page, wherever in its page they start.
pub(crate) const TRANSFER_MAX: u64 = LIST_ENTRIES as u64 * PAGE;

/// The two entries that go into a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prps {
    pub(crate) prp1: u64,
    pub(crate) prp2: u64,
}

/// Describes one buffer within two pages as PRPs, which needs neither list nor loop; `None` if it
/// is not so.
#[inline(always)]
pub(crate) fn build_short(only: &DmaBuf) -> Option<Prps> {
    let start = only.phys().as_u64();
    let first = PAGE - start % PAGE;
    let len = only.len() as u64;
    if !start.is_multiple_of(4) || len > first + PAGE {
        return None;
    }
    let prp2 = if len > first { start + first } else { 0 };
    Some(Prps { prp1: start, prp2 })
}

/// Whether pieces of memory, by address and length, lie so that PRPs can describe them.
pub(crate) fn can_describe(pieces: impl Iterator<Item = (u64, u64)>) -> bool {
    let mut end = None;
    pieces.into_iter().all(|(start, len)| {
        let meets = match end {
            None => start.is_multiple_of(4),
            Some(end) => u64::is_multiple_of(end, PAGE) && start.is_multiple_of(PAGE),
        };
        end = Some(start + len);
        meets
    })
}

/// Describes pieces of memory, by address and length, as PRPs (base specification §4.1.1), with
/// `list` for the entries beyond the second. Their total length was checked to be between 1 and
/// [`TRANSFER_MAX`].
///
/// Only the first page may start and only the last may end inside a page.
pub(crate) fn build(
    pieces: impl Iterator<Item = (u64, u64)>,
    list: &DmaMem,
) -> Result<Prps, RejectReason> {
    let mut prp1 = None;
    let mut end = 0;
    let mut entries = 0;
    for (start, len) in pieces {
        let mut page = start;
        if prp1.is_none() {
            if !start.is_multiple_of(4) {
                return Err(RejectReason::Misaligned);
            }
            prp1 = Some(start);
            page = start - start % PAGE + PAGE;
        } else if !start.is_multiple_of(PAGE) || !u64::is_multiple_of(end, PAGE) {
            return Err(RejectReason::Misaligned);
        }
        end = start + len;
        while page < end {
            if entries == LIST_ENTRIES {
                return Err(RejectReason::MaxTransfer);
            }
            list.store64(entries * 8, page);
            entries += 1;
            page += PAGE;
        }
    }
    let prp1 = prp1.ok_or(RejectReason::BadLength)?;
    let prp2 = match entries {
        0 => 0,
        1 => list.load64(0),
        _ => list.phys().as_u64(),
    };
    Ok(Prps { prp1, prp2 })
}
