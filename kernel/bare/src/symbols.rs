#![expect(unsafe_code, reason = "reads the symbol table that is attached to the image")]

//! Names for addresses, from a table attached to the image after it is linked.
//!
//! Whoever packs the image may add a read-only segment with the table and write its link address
//! and length into [`BASALT_SYMBOLS`]. The table's form is that of the crate `basalt_symbols`.

use core::ptr::from_ref;
use core::sync::atomic::{AtomicU64, Ordering};

use basalt_symbols::{Name, Table};

use crate::image;
use crate::memory::Span;

/// Tells where the symbol table is.
#[repr(C)]
pub struct SymbolTable {
    magic: AtomicU64,
    address: AtomicU64,
    len: AtomicU64,
}

/// `BASLSYM2`.
const MAGIC: u64 = 0x324d_5953_4c53_4142;
/// A longer table is not one of ours.
const LEN_MAX: u64 = 1 << 20;

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
pub(crate) fn find(address: u64) -> Option<(Name<'static>, u32)> {
    let offset = u32::try_from(address.checked_sub(image::base())?).ok()?;
    Table::new(bytes()?)?.find(offset)
}

fn bytes() -> Option<&'static [u8]> {
    let span = span()?;
    let first = from_ref(&BASALT_SYMBOLS).cast::<u8>().with_addr(span.start as usize);
    // SAFETY: the loader put the table there with the rest of the image, it is mapped read-only,
    // and its memory is not given to anybody else.
    Some(unsafe { core::slice::from_raw_parts(first, span.len() as usize) })
}
