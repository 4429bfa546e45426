//! What is known of certain controllers that they do not say, or say wrong.

use core::time::Duration;

use basalt_nvme_spec::IdentifyController;
use basalt_nvme_spec::identify::Oncs;
use bitflags::bitflags;

bitflags! {
    /// Ways of controllers to be seen to.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Quirks: u8 {
        /// Its status register must not be read for a while after CC.EN has changed.
        const DELAY_BEFORE_READY = 1 << 0;
        /// Byte 3 of what is the vendor's in Identify Controller tells how long I/O may be that
        /// does not slow down, as a power of two of CAP.MPSMIN.
        const VENDOR_STRIPE = 1 << 1;
        /// Its Write Zeroes command is not to be relied on.
        const NO_WRITE_ZEROES = 1 << 2;
    }
}

/// A controller by PCI vendor and device identifier.
type Entry = ((u16, u16), Quirks);

/// As Linux's and SPDK's drivers know them.
const TABLE: [Entry; 11] = [
    // Intel DC P3500 to P3700, P3520, P4500 and P4600.
    ((0x8086, 0x0953), Quirks::VENDOR_STRIPE),
    ((0x8086, 0x0a53), Quirks::VENDOR_STRIPE),
    ((0x8086, 0x0a54), Quirks::VENDOR_STRIPE),
    ((0x8086, 0x0a55), Quirks::VENDOR_STRIPE),
    // QEMU under Intel's name.
    ((0x8086, 0x5845), Quirks::NO_WRITE_ZEROES),
    // Samsung PM1725, PM1725a. The portable X5 has the identifiers of the 970 series.
    ((0x144d, 0xa821), Quirks::DELAY_BEFORE_READY),
    ((0x144d, 0xa822), Quirks::DELAY_BEFORE_READY),
    // Seagate Nytro.
    ((0x1bb1, 0x0100), Quirks::DELAY_BEFORE_READY),
    // HGST, WDC SN200.
    ((0x1c58, 0x0003), Quirks::DELAY_BEFORE_READY),
    ((0x1c58, 0x0023), Quirks::DELAY_BEFORE_READY),
    // Memblaze PBlaze4.
    ((0x1c5f, 0x0540), Quirks::DELAY_BEFORE_READY),
];

/// How long a controller is left alone that needs a delay: as long as SPDK does, for Linux has
/// found that one of them needs 2.3 s.
pub(crate) const READY_DELAY: Duration = Duration::from_millis(2_500);

impl Quirks {
    /// Those of the controller with that first dword of configuration space.
    pub(crate) fn of(ids: u32) -> Self {
        let ids = (ids as u16, (ids >> 16) as u16);
        let entry = TABLE.iter().find(|(known, _)| *known == ids);
        entry.map_or(Self::empty(), |(_, quirks)| *quirks)
    }

    /// Optional commands of a controller that can be used.
    pub(crate) fn commands(self, identify: &IdentifyController) -> Oncs {
        let unreliable = self.contains(Self::NO_WRITE_ZEROES);
        identify.oncs() - if unreliable { Oncs::WRITE_ZEROES } else { Oncs::empty() }
    }

    /// Bytes that I/O is best kept within multiples of, if only the vendor's bytes tell.
    pub(crate) fn stripe(self, identify: &IdentifyController, page_size_min: u64) -> Option<u64> {
        let shift = u32::from(identify.vendor[3]);
        let tells = self.contains(Self::VENDOR_STRIPE) && shift != 0;
        page_size_min.checked_shl(shift).filter(|bytes| tells && *bytes <= STRIPE_MAX)
    }
}

/// Largest stripe that makes sense.
const STRIPE_MAX: u64 = 1 << 30;
