//! Slots of PCI Express ports (PCI Express Base 5.0 §6.7 and §7.5.3.9 to §7.5.3.11).

use basalt_env::{ConfigSpace, PciAddress};

use super::{Event, Slot, SlotKind};
use crate::{Function, HeaderKind, bridge, capabilities, id};

/// PCI Express capabilities register (high half of the capability's first dword).
const FLAGS_SLOT: u32 = 1 << (16 + 8);
const FLAGS_TYPE_SHIFT: u32 = 16 + 4;
const TYPE_ROOT_PORT: u32 = 4;
const TYPE_DOWNSTREAM_PORT: u32 = 6;

const SLOT_CAPABILITIES: u16 = 0x14;
const CAPABLE_HOT_PLUG: u32 = 1 << 6;

/// Slot control (low half) and slot status (high half; a one written clears).
const SLOT_CONTROL_STATUS: u16 = 0x18;
const POWER_INDICATOR: u32 = 0b11 << 8;
const POWER_INDICATOR_ON: u32 = 0b01 << 8;
const POWER_INDICATOR_BLINK: u32 = 0b10 << 8;
const POWER_INDICATOR_OFF: u32 = 0b11 << 8;
const POWER_OFF: u32 = 1 << 10;
const BUTTON_PRESSED: u32 = 1 << 16;
const PRESENCE_CHANGED: u32 = 1 << (16 + 3);
const COMMAND_COMPLETED: u32 = 1 << (16 + 4);
const PRESENT: u32 = 1 << (16 + 6);
const LINK_CHANGED: u32 = 1 << (16 + 8);
const CONTROL: u32 = 0xffff;

/// A port with a slot that devices come to and go from.
pub(super) struct Port {
    address: PciAddress,
    /// Where its PCI Express capability is.
    capability: u16,
    bus: u8,
    occupied: bool,
}

impl Port {
    /// The port that `function` is, if it is one with such a slot.
    pub(super) fn find(config: &impl ConfigSpace, function: &Function) -> Option<Self> {
        if function.header != HeaderKind::Bridge {
            return None;
        }
        let address = function.address;
        let read = |offset| config.read(address, offset);
        let capability = capabilities(read).find(|found| found.id == id::PCI_EXPRESS)?.offset;
        let flags = read(capability);
        let kind = flags >> FLAGS_TYPE_SHIFT & 0xf;
        let slotted = flags & FLAGS_SLOT != 0
            && matches!(kind, TYPE_ROOT_PORT | TYPE_DOWNSTREAM_PORT)
            && read(capability + SLOT_CAPABILITIES) & CAPABLE_HOT_PLUG != 0;
        if !slotted {
            return None;
        }
        let bus = bridge::bus_behind(config, address)?;
        let occupied = read(capability + SLOT_CONTROL_STATUS) & (PRESENT | POWER_OFF) == PRESENT;
        let port = Self { address, capability, bus, occupied };
        port.clear(config, BUTTON_PRESSED | PRESENCE_CHANGED | COMMAND_COMPLETED | LINK_CHANGED);
        Some(port)
    }

    /// Hands what has happened since the last time to `tell`.
    pub(super) fn poll(&mut self, config: &impl ConfigSpace, tell: &mut dyn FnMut(Event)) {
        let status = self.read(config);
        if status == u32::MAX {
            return; // The port itself is gone.
        }
        let news = status & (BUTTON_PRESSED | PRESENCE_CHANGED | LINK_CHANGED);
        if news == 0 {
            return;
        }
        self.clear(config, news);
        let present = status & PRESENT != 0;
        match (self.occupied, present) {
            (true, false) => {
                self.occupied = false;
                tell(Event::Gone(self.slot()));
            }
            // Pulled and put back between two looks: what was there is not there any more.
            (true, true) if news & PRESENCE_CHANGED != 0 => {
                tell(Event::Gone(self.slot()));
                tell(Event::Arrived(self.slot()));
            }
            (true, true) if news & BUTTON_PRESSED != 0 => tell(Event::Leaving(self.slot())),
            (false, true) => {
                self.occupied = true;
                tell(Event::Arrived(self.slot()));
            }
            _ => {}
        }
    }

    /// The segment and number of the bus behind it.
    pub(super) const fn bus(&self) -> (u16, u8) {
        (self.address.segment, self.bus)
    }

    /// Whether `slot` is this port's.
    pub(super) fn has(&self, slot: Slot) -> bool {
        slot.kind == SlotKind::Express && self.slot() == slot
    }

    /// Switches the slot's power on.
    pub(super) fn power_on(&self, config: &impl ConfigSpace) {
        self.control(config, POWER_INDICATOR_BLINK, 0);
        self.control(config, POWER_INDICATOR_ON, 0);
    }

    /// Switches the slot's power off, whereupon the device may be taken out.
    pub(super) fn power_off(&mut self, config: &impl ConfigSpace) {
        self.occupied = false;
        self.control(config, POWER_INDICATOR_OFF, POWER_OFF);
        self.clear(config, PRESENCE_CHANGED | LINK_CHANGED | COMMAND_COMPLETED);
    }

    fn slot(&self) -> Slot {
        Slot { segment: self.address.segment, bus: self.bus, kind: SlotKind::Express }
    }

    fn read(&self, config: &impl ConfigSpace) -> u32 {
        config.read(self.address, self.capability + SLOT_CONTROL_STATUS)
    }

    fn control(&self, config: &impl ConfigSpace, indicator: u32, power: u32) {
        let kept = self.read(config) & CONTROL & !(POWER_INDICATOR | POWER_OFF);
        let control = kept | indicator | power | COMMAND_COMPLETED;
        config.write(self.address, self.capability + SLOT_CONTROL_STATUS, control);
    }

    /// Acknowledges events, leaving the control register as it is.
    fn clear(&self, config: &impl ConfigSpace, events: u32) {
        let control = self.read(config) & CONTROL;
        config.write(self.address, self.capability + SLOT_CONTROL_STATUS, control | events);
    }
}
