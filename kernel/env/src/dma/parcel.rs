#![expect(unsafe_code, reason = "owned memory crosses cores; DESIGN §5 places DMA memory here")]

use super::{DmaBuf, DmaPool};

/// A [`DmaBuf`] that crosses from one core to another, and back if it likes.
///
/// ```text
///  home core    DmaBuf -> Parcel ----------------> open: DmaBuf, to use as any other
///  other core               |                         ^
///                           +--> open: DmaBuf -> Parcel
/// ```
///
/// Whoever has it can read it without opening it. Wherever it is dropped, its memory returns to the
/// pool it is of.
#[derive(Debug)]
pub struct Parcel(DmaBuf);

// SAFETY: a buffer's memory belongs to whoever holds it, on any core. What of its pool is of the
// home core only (the free lists) is left alone by a buffer that is marked as away, as this one is.
unsafe impl Send for Parcel {}

impl Parcel {
    /// Packs `buf`, for another core to open.
    pub fn new(mut buf: DmaBuf) -> Self {
        buf.leave();
        Self(buf)
    }

    /// The bytes in use.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Opens it on the core of `pool`, whether that is the one it is of or not.
    pub fn open(self, pool: &DmaPool) -> DmaBuf {
        let mut buf = self.open_anywhere();
        buf.arrive(pool);
        buf
    }

    /// Opens it on any core, as if that were not the one it is of: good for what goes to a device
    /// and comes back, but slower to drop, and not to be shared.
    pub fn open_anywhere(self) -> DmaBuf {
        self.0
    }
}
