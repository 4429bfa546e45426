#![expect(unsafe_code, reason = "reads the symbol table that is attached to the image")]

//! Names for addresses, from a table attached to the image after it is linked.
//!
//! Whoever packs the image may add a read-only segment with the table and write its link address
//! and length into [`BASALT_SYMBOLS`]. The table, all numbers little-endian 32-bit: a count; that
//! many entries of (offset from the link base, size, offset of the name), by ascending offset;
//! then the names, NUL-terminated, ready to print.

use core::ptr::from_ref;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::image;
use crate::memory::Span;

/// Tells where the symbol table is.
#[repr(C)]
pub struct SymbolTable {
    magic: AtomicU64,
    address: AtomicU64,
    len: AtomicU64,
}

/// `BASLSYM1`.
const MAGIC: u64 = 0x314d_5953_4c53_4142;
/// A longer table is not one of ours.
const LEN_MAX: u64 = 64 << 20;
const ENTRY_LEN: usize = 12;

/// Found by name in the linked image, and filled in there; zero address and length until then.
// SAFETY: the name is defined nowhere else. The atomics keep the compiler from assuming the
// initial values and keep the table in a writable section.
#[used]
#[unsafe(no_mangle)]
pub static BASALT_SYMBOLS: SymbolTable = SymbolTable {
    magic: AtomicU64::new(MAGIC),
    address: AtomicU64::new(0),
    len: AtomicU64::new(0),
};

/// Where the table is in memory, if it was attached.
pub(crate) fn span() -> Option<Span> {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let SymbolTable { magic, address, len } = &BASALT_SYMBOLS;
    let attached = load(magic) == MAGIC && (1..=LEN_MAX).contains(&load(len));
    let offset = load(address).checked_sub(image::LINK_BASE).filter(|_| attached)?;
    Some(Span::new(image::base() + offset, load(len)))
}

/// The function at `address` and how far into it that is.
pub(crate) fn find(address: u64) -> Option<(&'static str, u64)> {
    let offset = u32::try_from(address.checked_sub(image::base())?).ok()?;
    let table = bytes()?;
    let count = number(table, 0)? as usize;
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if number(table, entry(middle)?)? <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let at = entry(low.checked_sub(1)?)?;
    let into = offset - number(table, at)?;
    if into >= number(table, at + 4)?.max(1) {
        return None;
    }
    let names = table.get(entry(count)?..)?;
    let name = names.get(number(table, at + 8)? as usize..)?.split(|&byte| byte == 0).next()?;
    Some((core::str::from_utf8(name).ok()?, u64::from(into)))
}

/// Where entry `index` begins.
fn entry(index: usize) -> Option<usize> {
    index.checked_mul(ENTRY_LEN)?.checked_add(4)
}

fn number(table: &[u8], at: usize) -> Option<u32> {
    table.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn bytes() -> Option<&'static [u8]> {
    let span = span()?;
    let first = from_ref(&BASALT_SYMBOLS).cast::<u8>().with_addr(span.start as usize);
    // SAFETY: the loader put the table there with the rest of the image, it is mapped read-only,
    // and its memory is not given to anybody else.
    Some(unsafe { core::slice::from_raw_parts(first, span.len() as usize) })
}
