use core::fmt;

use basalt_env::PciAddress;

use crate::regs;

/// Why a request was stopped (§7.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The device may reach no memory at all.
    NotAllowed,
    /// It may not reach that address.
    Outside,
    /// Something else, by its code.
    Other(u8),
}

/// A request of a device that came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Who made it; the bridge it came through, if that is no PCI Express one.
    pub source: PciAddress,
    /// The page it was for.
    pub address: u64,
    /// Whether it was to write.
    pub is_write: bool,
    /// Why it was stopped.
    pub reason: Reason,
}

impl Fault {
    /// From the two halves of a full record (§11.4.9).
    pub(crate) fn from_record(segment: u16, low: u64, high: u64) -> Self {
        let [function, bus, ..] = high.to_le_bytes();
        let reason = match (high >> 32) as u8 {
            1 | 2 => Reason::NotAllowed,
            4..=6 => Reason::Outside,
            code => Reason::Other(code),
        };
        Self {
            source: PciAddress::new(segment, bus, function >> 3, function & 7),
            address: low & !0xfff,
            is_write: high & regs::RECORD_READ == 0,
            reason,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, address, is_write, reason } = self;
        let what = if *is_write { "writing to" } else { "reading from" };
        write!(f, "device {source} was kept from {what} address {address:#x}: ")?;
        match reason {
            Reason::NotAllowed => f.write_str("nobody has allowed it any memory"),
            Reason::Outside => f.write_str("that is outside the memory it was given"),
            Reason::Other(code) => write!(f, "fault reason {code:#04x}"),
        }
    }
}
