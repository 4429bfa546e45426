//! The I/O APIC: where the signals of the oldest devices go (82093AA datasheet).

use basalt_env::{Mmio, MmioMap, PhysAddr, Registers};

use crate::mmio::IdentityMap;

/// The two registers in memory: which register is meant, and its value.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const LEN: usize = 0x20;
/// Registers: the version, with the number of the last entry in bits 16 to 23; the first entry.
const VERSION: u32 = 0x01;
const ENTRIES: u32 = 0x10;

const DELIVER_NMI: u32 = 0b100 << 8;
const ACTIVE_LOW: u32 = 1 << 13;
/// Of the MADT's flags: active low.
const FLAG_LOW: u16 = 0b11;

/// An I/O APIC as the MADT lists it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApic {
    pub(crate) address: u64,
    /// The number of its first signal.
    pub(crate) first: u32,
}

/// A signal, by its number among those of all I/O APICs, with the MADT's flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal {
    pub(crate) number: u32,
    pub(crate) flags: u16,
}

/// Has `signal` be a non-maskable interrupt of the core with this APIC identifier. `None` if no
/// I/O APIC has that signal, or none can reach the core.
pub(crate) fn deliver_as_nmi(apics: &[IoApic], signal: Signal, apic_id: u32) -> Option<()> {
    let destination = u8::try_from(apic_id).ok()?;
    let found = apics.iter().find_map(|apic| entry_of(apic, signal.number));
    let (registers, entry) = found?;
    let polarity = if signal.flags & FLAG_LOW == FLAG_LOW { ACTIVE_LOW } else { 0 };
    write(&registers, entry + 1, u32::from(destination) << 24);
    write(&registers, entry, DELIVER_NMI | polarity);
    Some(())
}

/// The register with the lower half of a signal's entry, if it is one of `apic`.
fn entry_of(apic: &IoApic, number: u32) -> Option<(Mmio, u32)> {
    let index = number.checked_sub(apic.first)?;
    let registers = IdentityMap::new().map(PhysAddr::new(apic.address), LEN).ok()?;
    registers.write32(SELECT, VERSION);
    let last = registers.read32(WINDOW) >> 16 & 0xff;
    (index <= last).then_some((registers, ENTRIES + 2 * index))
}

fn write(registers: &Mmio, register: u32, value: u32) {
    registers.write32(SELECT, register);
    registers.write32(WINDOW, value);
}
