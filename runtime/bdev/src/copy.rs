//! Copies of data that lies in several buffers.

use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory};

use crate::SgList;

/// Bytes of each buffer of a copy but the last.
const COPY_BUF: usize = 1 << 20;

/// The same bytes in other buffers, which can be cut at any block.
pub(crate) fn copy_of(bufs: &[DmaBuf], pool: &DmaPool) -> Result<SgList, OutOfDmaMemory> {
    let mut copies = Vec::new();
    let mut left: usize = bufs.iter().map(DmaBuf::len).sum();
    while left > 0 {
        let len = left.min(COPY_BUF);
        copies.push(pool.alloc(len)?);
        left -= len;
    }
    copy(bufs, &mut copies);
    Ok(SgList::Many(copies))
}

/// Copies the bytes of `from` to `to`, which are as long together.
pub(crate) fn copy(from: &[DmaBuf], to: &mut [DmaBuf]) {
    let mut from = from.iter().map(DmaBuf::as_slice);
    let mut source: &[u8] = &[];
    for buf in to {
        let mut target = buf.as_mut_slice();
        while !target.is_empty() {
            if source.is_empty() {
                let Some(next) = from.next() else { return };
                source = next;
                continue;
            }
            let len = source.len().min(target.len());
            let (now, later) = target.split_at_mut(len);
            now.copy_from_slice(&source[..len]);
            (source, target) = (&source[len..], later);
        }
    }
}
