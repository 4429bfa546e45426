//! QEMU's hot-plug controller for PCI slots (its `docs/specs/acpi_pci_hotplug.rst`): five registers
//! in I/O space, of which one selects the bus that the others are about.

use alloc::vec::Vec;

use basalt_env::{ConfigSpace, IoPorts, PciAddress};

use super::{Event, Slot, SlotKind};
use crate::aml::{self, Selector};
use crate::bridge;

/// Slots that were filled since the register was last read, a bit per device number.
const UP: u16 = 0;
/// Slots whose device is to go.
const DOWN: u16 = 4;
/// A bit written lets that slot's device go.
const EJECT: u16 = 8;
/// The selector.
const SELECT: u16 = 16;
/// The last port of its four.
const LAST: u16 = SELECT + 3;

/// The controller and the buses it is in charge of.
pub(super) struct Controller<P> {
    ports: P,
    base: u16,
    buses: Vec<Bus>,
}

struct Bus {
    selector: u32,
    number: u8,
    /// Slots whose device was asked to go, until it has gone.
    going: u32,
}

impl<P: IoPorts> Controller<P> {
    /// The controller that the DSDT describes, if there is one.
    pub(super) fn find(config: &impl ConfigSpace, dsdt: &[u8], ports: P) -> Option<Self> {
        let facts = aml::read(dsdt);
        let base = facts.ports.filter(|base| base.checked_add(LAST).is_some())?;
        let bus = |selector: &Selector| {
            let number = bus_at(config, &selector.path)?;
            Some(Bus { selector: selector.number, number, going: 0 })
        };
        let buses: Vec<_> = facts.selectors.iter().filter_map(bus).collect();
        (!buses.is_empty()).then_some(Self { ports, base, buses })
    }

    /// How many buses it is in charge of.
    pub(super) fn buses(&self) -> usize {
        self.buses.len()
    }

    /// Whether it is in charge of slots on that bus.
    pub(super) fn covers(&self, (segment, number): (u16, u8)) -> bool {
        segment == 0 && self.buses.iter().any(|bus| bus.number == number)
    }

    /// Hands what has happened since the last time to `tell`.
    pub(super) fn poll(&mut self, tell: &mut dyn FnMut(Event)) {
        for bus in &mut self.buses {
            self.ports.write32(self.base + SELECT, bus.selector);
            let up = self.ports.read32(self.base + UP);
            let down = self.ports.read32(self.base + DOWN);
            // The bit of a device that is on its way out stays until it is let go.
            let news = down & !bus.going;
            bus.going = down;
            for device in bits(news) {
                tell(Event::Leaving(slot(bus.number, device)));
            }
            for device in bits(up) {
                tell(Event::Arrived(slot(bus.number, device)));
            }
        }
    }

    /// Lets the device in a slot go.
    pub(super) fn eject(&mut self, slot: Slot) {
        let bus = self.buses.iter_mut().find(|bus| bus.number == slot.bus);
        let (Some(bus), SlotKind::Acpi { device }) = (bus, slot.kind) else { return };
        self.ports.write32(self.base + SELECT, bus.selector);
        self.ports.write32(self.base + EJECT, 1 << device);
        bus.going &= !(1 << device);
    }
}

fn slot(bus: u8, device: u8) -> Slot {
    Slot { segment: 0, bus, kind: SlotKind::Acpi { device } }
}

fn bits(mask: u32) -> impl Iterator<Item = u8> {
    (0..32).filter(move |bit| mask & 1 << bit != 0)
}

/// The bus behind the last of these bridges, as firmware numbered them.
fn bus_at(config: &impl ConfigSpace, path: &[(u8, u8)]) -> Option<u8> {
    path.iter().try_fold(0, |bus, &(device, function)| {
        bridge::bus_behind(config, PciAddress::new(0, bus, device, function))
    })
}
