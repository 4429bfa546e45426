use alloc::vec;
use alloc::vec::Vec;

use basalt_env::{ConfigSpace, PciAddress};

use crate::regs;
use crate::{Function, HeaderKind};

/// The buses of one PCI segment that configuration space reaches (an entry of ACPI's MCFG table).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusRange {
    /// Segment group.
    pub segment: u16,
    /// First bus.
    pub start: u8,
    /// Last bus, inclusive.
    pub end: u8,
}

/// Every function on the buses of `ranges`, bridges included, in the order they are found.
///
/// Firmware has numbered the buses. From the first bus of a range the walk follows bridges; a bus
/// no bridge led to may hang off another host bridge, which only ACPI's byte code names, so those
/// are looked at as well. Each bus is visited at most once, whatever the bridges claim.
pub fn scan(config: &impl ConfigSpace, ranges: &[BusRange]) -> Vec<Function> {
    let mut functions = Vec::new();
    for range in ranges {
        Walk { config, range, visited: [false; 256], functions: &mut functions }.run();
    }
    functions
}

struct Walk<'a, C> {
    config: &'a C,
    range: &'a BusRange,
    visited: [bool; 256],
    functions: &'a mut Vec<Function>,
}

impl<C: ConfigSpace> Walk<'_, C> {
    fn run(&mut self) {
        for root in self.range.start..=self.range.end {
            let mut pending = vec![root];
            while let Some(bus) = pending.pop() {
                if !core::mem::replace(&mut self.visited[usize::from(bus)], true) {
                    self.bus(bus, &mut pending);
                }
            }
        }
    }

    fn bus(&mut self, bus: u8, pending: &mut Vec<u8>) {
        for device in 0..32 {
            let at = |function| PciAddress::new(self.range.segment, bus, device, function);
            let Some(first) = Function::read(self.config, at(0)) else { continue };
            let count = if first.multifunction { 8 } else { 1 };
            for number in 0..count {
                let Some(function) = Function::read(self.config, at(number)) else { continue };
                pending.extend(self.bus_behind(&function));
                self.functions.push(function);
            }
        }
    }

    /// The bus behind a bridge, if the bridge's numbers make sense.
    fn bus_behind(&self, function: &Function) -> Option<u8> {
        if function.header != HeaderKind::Bridge {
            return None;
        }
        let [_, secondary, subordinate, _] =
            self.config.read(function.address, regs::BRIDGE_BUSES).to_le_bytes();
        if secondary == 0 {
            return None; // Firmware left the bridge off.
        }
        let downstream = secondary > function.address.bus;
        if !downstream || secondary > subordinate || subordinate > self.range.end {
            log::warn!(
                target: "pci",
                "{function}: claims buses {secondary}-{subordinate}; nothing behind it is used"
            );
            return None;
        }
        Some(secondary)
    }
}
