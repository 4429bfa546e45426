use basalt_env::{BarError, ConfigSpace, PciAddress};

use crate::HeaderKind;
use crate::regs::{self, Command};

/// A base address register, decoded (PCI Local Bus 3.0 §6.2.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// Device memory.
    Memory {
        /// Bus address; 0 if firmware assigned none.
        base: u64,
        /// Size in bytes, a power of two.
        len: u64,
        /// Reads have no side effects.
        prefetchable: bool,
        /// Takes two registers.
        wide: bool,
    },
    /// I/O ports.
    Io {
        /// First port.
        base: u32,
        /// Number of ports, a power of two.
        len: u32,
    },
}

impl Bar {
    /// Reads and sizes BAR `index` of a function (a 64-bit one is named by its lower half).
    ///
    /// Sizing writes all ones to the register, so the function's decoding is off meanwhile, and
    /// register and decoding are restored: nobody may be using the function's registers.
    pub fn probe(
        config: &impl ConfigSpace,
        address: PciAddress,
        header: HeaderKind,
        index: u8,
    ) -> Result<Self, BarError> {
        let probe = Probe { config, address, count: header.bar_count() };
        if !probe.names_a_bar(index) {
            return Err(BarError::Missing);
        }
        let command = probe.read(regs::COMMAND_STATUS) & regs::STATUS_WRITE_MASK;
        let decode = u32::from((Command::IO | Command::MEMORY).bits());
        probe.write(regs::COMMAND_STATUS, command & !decode);
        let bar = probe.size(index);
        probe.write(regs::COMMAND_STATUS, command);
        bar
    }
}

struct Probe<'a, C> {
    config: &'a C,
    address: PciAddress,
    count: u8,
}

impl<C: ConfigSpace> Probe<'_, C> {
    fn read(&self, offset: u16) -> u32 {
        self.config.read(self.address, offset)
    }

    fn write(&self, offset: u16, value: u32) {
        self.config.write(self.address, offset, value);
    }

    /// Whether `index` exists and is not the upper half of a 64-bit BAR.
    fn names_a_bar(&self, index: u8) -> bool {
        let mut at = 0;
        while at < index && at < self.count {
            at += if is_wide(self.read(register(at))) { 2 } else { 1 };
        }
        at == index && at < self.count
    }

    fn size(&self, index: u8) -> Result<Bar, BarError> {
        let low = self.read(register(index));
        let mask_low = self.mask(register(index));
        if low & 1 != 0 {
            // Ports above 64 Ki do not exist; the upper half may read as zero.
            let len = lowest_bit(u64::from(mask_low & 0xfffc)) as u32;
            return bar_if(len != 0, Bar::Io { base: low & !3, len });
        }
        let prefetchable = low & 8 != 0;
        if !is_wide(low) {
            let len = lowest_bit(u64::from(mask_low & !0xf));
            let base = u64::from(low & !0xf);
            return bar_if(len != 0, Bar::Memory { base, len, prefetchable, wide: false });
        }
        if index + 1 >= self.count {
            return Err(BarError::Missing); // No register left for the upper half.
        }
        let high = self.read(register(index + 1));
        let mask_high = self.mask(register(index + 1));
        let len = lowest_bit(u64::from(mask_high) << 32 | u64::from(mask_low & !0xf));
        let base = u64::from(high) << 32 | u64::from(low & !0xf);
        bar_if(len != 0, Bar::Memory { base, len, prefetchable, wide: true })
    }

    /// Which bits of a register can be written.
    fn mask(&self, register: u16) -> u32 {
        let found = self.read(register);
        self.write(register, u32::MAX);
        let mask = self.read(register);
        self.write(register, found);
        mask
    }
}

fn register(index: u8) -> u16 {
    regs::BAR0 + u16::from(index) * 4
}

/// A memory BAR of type 2: it continues in the next register.
fn is_wide(low: u32) -> bool {
    low & 0b111 == 0b100
}

/// A BAR decodes at the granularity of its lowest writable bit; that is its size.
fn lowest_bit(mask: u64) -> u64 {
    mask & mask.wrapping_neg()
}

fn bar_if(implemented: bool, bar: Bar) -> Result<Bar, BarError> {
    if implemented { Ok(bar) } else { Err(BarError::Missing) }
}
