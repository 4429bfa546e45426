use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Status;

/// A completion queue entry, 16 bytes (§3.3.3.2).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct Completion {
    /// Command specific result.
    pub dw0: U32,
    /// Command specific, reserved for most commands.
    pub dw1: U32,
    /// How far the controller has read the submission queue.
    pub sqhd: U16,
    /// Submission queue the command came by.
    pub sqid: U16,
    /// Identifier of the command.
    pub cid: U16,
    /// Bit 0 phase tag, bits 15:1 the [`Status`].
    pub status_phase: U16,
}

const _: () = assert!(size_of::<Completion>() == 16);

impl Completion {
    /// Byte offset of [`Self::status_phase`], which is read before all else.
    pub const STATUS_PHASE: usize = 14;

    /// A completion of command `cid` with phase 0; queue fields are zero.
    pub const fn new(cid: u16, status: Status) -> Self {
        Self {
            dw0: U32::ZERO,
            dw1: U32::ZERO,
            sqhd: U16::ZERO,
            sqid: U16::ZERO,
            cid: U16::new(cid),
            status_phase: U16::new(status.bits() << 1),
        }
    }

    /// The same with a result.
    #[must_use]
    pub const fn with_dw0(mut self, dw0: u32) -> Self {
        self.dw0 = U32::new(dw0);
        self
    }

    /// The phase tag: which pass over the queue the entry belongs to.
    pub const fn phase(&self) -> bool {
        self.status_phase.get() & 1 != 0
    }

    /// Sets the phase tag and keeps the status.
    pub const fn set_phase(&mut self, phase: bool) {
        self.status_phase = U16::new((self.status_phase.get() & !1) | phase as u16);
    }

    /// How the command ended.
    pub const fn status(&self) -> Status {
        Status::from_bits(self.status_phase.get() >> 1)
    }

    /// The 8-byte result in DW0 and DW1, as Property Get and some others use it.
    pub const fn result64(&self) -> u64 {
        (self.dw1.get() as u64) << 32 | self.dw0.get() as u64
    }
}
