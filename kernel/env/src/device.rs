use core::fmt;

use crate::{CoreId, PhysAddr, Registers};

/// The address of a PCI function: segment, bus, device (0–31) and function (0–7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI segment group (MCFG).
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
    /// Device number on the bus, 0–31.
    pub device: u8,
    /// Function number of the device, 0–7.
    pub function: u8,
}

impl PciAddress {
    /// An address from its four parts.
    pub const fn new(segment: u16, bus: u8, device: u8, function: u8) -> Self {
        Self { segment, bus, device, function }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, bus, device, function } = self;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Access to PCI configuration space (PCI Express Base §7.2.2, ECAM).
pub trait ConfigSpace {
    /// Reads the dword at `offset` (bytes, a multiple of 4, below 4096). All ones where nothing
    /// answers.
    fn read(&self, address: PciAddress, offset: u16) -> u32;

    /// Writes the dword at `offset`. Ignored where nothing answers.
    fn write(&self, address: PciAddress, offset: u16, value: u32);
}

/// Access to I/O ports, which x86 has beside memory.
pub trait IoPorts {
    /// Reads the dword at `port`. All ones where nothing answers.
    fn read32(&self, port: u16) -> u32;

    /// Writes the dword at `port`. Ignored where nothing answers.
    fn write32(&self, port: u16, value: u32);
}

/// Makes device memory reachable.
pub trait MmioMap {
    /// How mapped registers are accessed.
    type Registers: Registers;

    /// Maps `len` bytes of device memory at `base`, uncached.
    fn map(&self, base: PhysAddr, len: usize) -> Result<Self::Registers, BarError>;

    /// Where a device's message has to go to end the rest of `core`. `None` if none can.
    fn message_target(&self, core: CoreId) -> Option<MessageTarget> {
        let _ = core;
        None
    }
}

/// Why a BAR cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarError {
    /// There is no BAR with this index.
    Missing,
    /// It is an I/O port BAR; only memory BARs are used.
    IoSpace,
    /// Firmware left it without an address.
    Unassigned,
    /// The environment cannot map it.
    Unmappable,
}

impl fmt::Display for BarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the BAR does not exist",
            Self::IoSpace => "the BAR is an I/O port range, not memory",
            Self::Unassigned => "firmware gave the BAR no address",
            Self::Unmappable => "the BAR lies outside what the machine can map",
        })
    }
}

/// Where a message goes that ends the rest of a core (SDM volume 3 §11.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageTarget {
    /// The address that a device writes to.
    pub address: u64,
    /// What it writes.
    pub data: u32,
}

/// A device's message that ends the rest of a core. Held back until it is let through.
///
/// One that was held back is not lost: it is sent as soon as it is let through.
#[derive(Clone, Debug)]
pub struct WakeMessage<R> {
    /// The vector control word of its MSI-X entry.
    control: R,
}

impl<R: Registers> WakeMessage<R> {
    const MASKED: u32 = 1;

    /// From the vector control word of its MSI-X entry (PCI Express Base 5.0 §7.7.2.7).
    pub const fn new(control: R) -> Self {
        Self { control }
    }

    /// Lets it through from now on.
    pub fn allow(&self) {
        self.control.write32(0, 0);
    }

    /// Holds it back from now on.
    pub fn hold(&self) {
        self.control.write32(0, Self::MASKED);
    }
}

/// A PCI function claimed by one driver.
pub trait Device {
    /// How its BARs are accessed.
    type Registers: Registers;

    /// Where it sits.
    fn address(&self) -> PciAddress;

    /// Reads a dword of its configuration space (`offset` in bytes, a multiple of 4).
    fn config_read(&self, offset: u16) -> u32;

    /// Writes a dword of its configuration space.
    fn config_write(&mut self, offset: u16, value: u32);

    /// Maps BAR `index` (0–5; a 64-bit BAR is named by its lower half).
    fn bar(&mut self, index: u8) -> Result<Self::Registers, BarError>;

    /// Where BAR `index` is on the bus, for a device that is told of its own memory.
    fn bar_address(&self, index: u8) -> Result<PhysAddr, BarError> {
        bar_address(index, |offset| self.config_read(offset))
    }

    /// Has the device's message `index` (of MSI-X) end the rest of `core`; the device is told that
    /// number by its driver. `None` if it has no such message, or none can reach the core: then it
    /// has to be polled. The first call has to come before the device is at work.
    fn wake_message(&mut self, index: u16, core: CoreId) -> Option<WakeMessage<Self::Registers>> {
        let _ = (index, core);
        None
    }

    /// Turns on memory decoding and bus mastering.
    fn enable(&mut self);

    /// Turns off bus mastering: the device can no longer reach memory.
    fn disable(&mut self);
}

/// Reads a BAR's address from configuration space (PCI Local Bus 3.0 §6.2.5.1).
fn bar_address(index: u8, config_read: impl Fn(u16) -> u32) -> Result<PhysAddr, BarError> {
    const BARS: u8 = 6;
    const BAR0: u16 = 0x10;
    let register = |index: u8| config_read(BAR0 + 4 * u16::from(index));
    if index >= BARS {
        return Err(BarError::Missing);
    }
    let low = register(index);
    if low & 1 != 0 {
        return Err(BarError::IoSpace);
    }
    let is_wide = low & 0b110 == 0b100;
    if is_wide && index + 1 == BARS {
        return Err(BarError::Missing);
    }
    let high = if is_wide { register(index + 1) } else { 0 };
    match u64::from(high) << 32 | u64::from(low & !0xf) {
        0 => Err(BarError::Unassigned),
        base => Ok(PhysAddr::new(base)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_bar_has_two_halves_if_it_is_a_wide_one() {
        let bars = [0xfe00_000c, 0x20, 0xfd00_0000, 0xc001, 0, 0xfe00_0004];
        let address = |index| bar_address(index, |offset| bars[usize::from(offset - 0x10) / 4]);
        assert_eq!(address(0), Ok(PhysAddr::new(0x20_fe00_0000)));
        assert_eq!(address(2), Ok(PhysAddr::new(0xfd00_0000)));
        assert_eq!(address(3), Err(BarError::IoSpace));
        assert_eq!(address(4), Err(BarError::Unassigned));
        assert_eq!(address(5), Err(BarError::Missing), "no register is left for its upper half");
        assert_eq!(address(6), Err(BarError::Missing));
    }
}
