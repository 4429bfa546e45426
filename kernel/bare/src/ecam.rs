//! PCI configuration space through ECAM (PCI Express Base §7.2.2, PCI Firmware §4.1.2).

use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_env::{ConfigSpace, Mmio, MmioMap, PciAddress, PhysAddr, Registers};

use crate::mmio::IdentityMap;

/// Buses that one window of configuration space, or the I/O ports, reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigBuses {
    /// PCI segment group.
    pub segment: u16,
    /// The first bus.
    pub bus_start: u8,
    /// The last bus, itself included.
    pub bus_end: u8,
}

/// A window as the MCFG lists it: where bus 0 of the segment would be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcamWindow {
    pub(crate) base: u64,
    pub(crate) range: ConfigBuses,
}

/// Bytes of configuration space per function, and per bus.
const FUNCTION_LEN: usize = 4096;
const BUS_LEN: usize = FUNCTION_LEN * 8 * 32;

/// Configuration space by way of memory. Cheap to clone; usable on any core.
#[derive(Clone, Debug)]
pub(crate) struct Ecam {
    windows: Arc<[(ConfigBuses, Mmio)]>,
}

impl Ecam {
    /// Maps all windows; one that cannot be mapped is reported and left out.
    pub(crate) fn new(windows: &[EcamWindow], map: IdentityMap) -> Self {
        let mapped: Vec<_> = windows.iter().filter_map(|window| map_window(window, map)).collect();
        Self { windows: mapped.into() }
    }

    /// The buses that can be reached.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = ConfigBuses> + '_ {
        self.windows.iter().map(|(range, _)| *range)
    }

    /// The registers that hold `address`, and where in them its configuration space begins.
    fn find(&self, address: PciAddress, offset: u16) -> Option<(&Mmio, usize)> {
        if address.device > 31 || address.function > 7 || usize::from(offset) >= FUNCTION_LEN {
            return None;
        }
        let (range, registers) = self.windows.iter().find(|(range, _)| {
            range.segment == address.segment
                && (range.bus_start..=range.bus_end).contains(&address.bus)
        })?;
        let function = usize::from(address.device) * 8 + usize::from(address.function);
        let bus = usize::from(address.bus - range.bus_start);
        Some((registers, bus * BUS_LEN + function * FUNCTION_LEN + usize::from(offset)))
    }
}

fn map_window(window: &EcamWindow, map: IdentityMap) -> Option<(ConfigBuses, Mmio)> {
    let EcamWindow { base, range } = *window;
    let buses = usize::from(range.bus_end.checked_sub(range.bus_start)?) + 1;
    let start = base.checked_add(u64::from(range.bus_start) * BUS_LEN as u64)?;
    match map.map(PhysAddr::new(start), buses * BUS_LEN) {
        Ok(registers) => Some((range, registers)),
        Err(error) => {
            log::warn!("PCI configuration space at {start:#x} is left out: {error}");
            None
        }
    }
}

impl ConfigSpace for Ecam {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match self.find(address, offset) {
            Some((registers, at)) => registers.read32(at),
            None => u32::MAX,
        }
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        if let Some((registers, at)) = self.find(address, offset) {
            registers.write32(at, value);
        }
    }
}
