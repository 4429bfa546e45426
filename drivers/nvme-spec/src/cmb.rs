//! The controller memory buffer: where it is, what for, and how it is turned on (§3.1.3, §8.5).

/// Where the controller memory buffer is (CMBLOC).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmbLocation(pub u32);

impl CmbLocation {
    /// `offset` is in units of [`CmbSize::unit`], `bar` 0 or 2 to 5.
    pub const fn new(bar: u8, offset: u32) -> Self {
        Self(offset << 12 | (bar as u32 & 7))
    }

    /// The BAR it lies in; a 64-bit one is named by its lower half.
    pub const fn bar(self) -> u8 {
        self.0 as u8 & 7
    }

    /// Where it begins in the BAR, in units of [`CmbSize::unit`].
    pub const fn offset(self) -> u32 {
        self.0 >> 12
    }
}

/// How large the controller memory buffer is, and what may lie there (CMBSZ). Zero if there is
/// none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmbSize(pub u32);

impl CmbSize {
    /// Units of 4 KiB.
    pub const UNIT_4K: u8 = 0;
    /// Units of 1 MiB.
    pub const UNIT_1M: u8 = 2;
    /// The largest unit, 64 GiB.
    const UNIT_MAX: u32 = 6;

    /// A buffer of so many units (below 2²⁰) for submission queues.
    pub const fn for_submission_queues(unit: u8, units: u32) -> Self {
        Self(units << 12 | (unit as u32 & 0xf) << 8 | 1)
    }

    /// Whether there is a buffer at all.
    pub const fn is_present(self) -> bool {
        self.0 >> 12 != 0
    }

    /// Whether submission queues may lie there.
    pub const fn takes_submission_queues(self) -> bool {
        self.0 & 1 != 0
    }

    /// The unit that size and offset are in, bytes; `None` if it is one that does not exist.
    pub const fn unit(self) -> Option<u64> {
        let exponent = self.0 >> 8 & 0xf;
        if exponent > Self::UNIT_MAX { None } else { Some(4096 << (4 * exponent)) }
    }

    /// Size in bytes; `None` if the unit does not exist.
    pub const fn bytes(self) -> Option<u64> {
        // At most 2²⁰ units of 2³⁶ bytes: no overflow.
        match self.unit() {
            Some(unit) => Some(unit * (self.0 >> 12) as u64),
            None => None,
        }
    }
}

/// How the controller memory buffer is turned on (CMBMSC), where [`Cap::controller_memory`] says
/// that it has to be.
///
/// [`Cap::controller_memory`]: crate::Cap::controller_memory
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmbControl(pub u64);

impl CmbControl {
    /// Turned off.
    pub const OFF: Self = Self(0);
    /// CMBLOC and CMBSZ tell of the buffer; it is not used yet.
    pub const TELLS: Self = Self(1);

    /// Turned on, and named by commands as what is at `base` (a multiple of 4 KiB) on the bus.
    pub const fn at(base: u64) -> Self {
        Self(base & !0xfff | 0b11)
    }

    /// Whether CMBLOC and CMBSZ are to tell of it.
    pub const fn tells(self) -> bool {
        self.0 & 1 != 0
    }

    /// Where commands find it, if it is on.
    pub const fn base(self) -> Option<u64> {
        if self.0 & 0b11 == 0b11 { Some(self.0 & !0xfff) } else { None }
    }
}
