//! Devices that come and go while the machine runs.
//!
//! Two mechanisms tell of them, both polled: the slots of PCI Express ports themselves, and QEMU's
//! controller, which is in charge of the same slots on its usual machines.
//!
//! Life of a slot's device: [`Event::Arrived`] -> [`Hotplug::power_on`] -> in use ->
//! [`Event::Leaving`] -> its driver lets it go -> [`Hotplug::eject`]; or, pulled out unasked,
//! [`Event::Gone`].

mod acpi;
mod express;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use basalt_env::{ConfigSpace, IoPorts, PciAddress};

use crate::Function;

/// A place for devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    segment: u16,
    bus: u8,
    kind: SlotKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SlotKind {
    /// All of the bus behind a port.
    Express,
    /// One device number of a bus.
    Acpi { device: u8 },
}

impl Slot {
    /// Whether a function at `address` is in it.
    pub fn holds(&self, address: PciAddress) -> bool {
        let on_bus = (address.segment, address.bus) == (self.segment, self.bus);
        match self.kind {
            SlotKind::Express => on_bus,
            SlotKind::Acpi { device } => on_bus && address.device == device,
        }
    }

    /// The functions in it that answer now.
    pub fn functions(&self, config: &impl ConfigSpace) -> Vec<Function> {
        // Behind a port there is device 0 only (PCI Express Base 5.0 §7.3.1).
        let device = match self.kind {
            SlotKind::Express => 0,
            SlotKind::Acpi { device } => device,
        };
        let at = |function| PciAddress::new(self.segment, self.bus, device, function);
        let Some(first) = Function::read(config, at(0)) else { return Vec::new() };
        let others = if first.multifunction { 1..8 } else { 0..0 };
        let others = others.filter_map(|function| Function::read(config, at(function)));
        core::iter::once(first).chain(others).collect()
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SlotKind::Express => write!(f, "slot {:04x}:{:02x}", self.segment, self.bus),
            SlotKind::Acpi { device } => {
                write!(f, "slot {:04x}:{:02x}:{device:02x}", self.segment, self.bus)
            }
        }
    }
}

/// What has happened to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A device was put in; it may have no power yet.
    Arrived(Slot),
    /// Its device is to be let go ([`Hotplug::eject`]).
    Leaving(Slot),
    /// Its device was taken out unasked.
    Gone(Slot),
}

/// All slots of a machine.
pub struct Hotplug<C, P> {
    config: C,
    ports: Vec<express::Port>,
    controller: Option<acpi::Controller<P>>,
}

impl<C: ConfigSpace, P: IoPorts> Hotplug<C, P> {
    /// The slots among `functions`, and those of the controller that `dsdt` (ACPI's table, empty if
    /// there is none) describes.
    pub fn find(config: C, functions: &[Function], dsdt: &[u8], ports: P) -> Self {
        let controller = acpi::Controller::find(&config, dsdt, ports);
        let slots = functions.iter();
        let ports = slots.filter_map(|function| express::Port::find(&config, function)).collect();
        Self { config, ports, controller }
    }

    /// Whether any device can come or go.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.controller.is_none()
    }

    /// Whether any device can come to the bus that `address` is on.
    pub fn covers(&self, address: PciAddress) -> bool {
        let bus = (address.segment, address.bus);
        self.ports.iter().any(|port| port.bus() == bus)
            || self.controller.as_ref().is_some_and(|controller| controller.covers(bus))
    }

    /// What has happened since the last time.
    pub fn poll(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut tell = |event| events.push(event);
        for port in &mut self.ports {
            port.poll(&self.config, &mut tell);
        }
        if let Some(controller) = &mut self.controller {
            controller.poll(&mut tell);
        }
        events
    }

    /// Gives a slot's device power. It may take a second until it answers.
    pub fn power_on(&mut self, slot: Slot) {
        let port = self.ports.iter().find(|port| port.has(slot));
        port.into_iter().for_each(|port| port.power_on(&self.config));
    }

    /// Lets a slot's device go: nobody may use it any more.
    pub fn eject(&mut self, slot: Slot) {
        match slot.kind {
            SlotKind::Express => {
                let port = self.ports.iter_mut().find(|port| port.has(slot));
                port.into_iter().for_each(|port| port.power_off(&self.config));
            }
            SlotKind::Acpi { .. } => {
                let controller = self.controller.as_mut();
                controller.into_iter().for_each(|controller| controller.eject(slot));
            }
        }
    }
}

impl<C, P: IoPorts> fmt::Display for Hotplug<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buses = self.controller.as_ref().map_or(0, acpi::Controller::buses);
        write!(f, "{} PCI Express slots, {buses} buses by ACPI", self.ports.len())
    }
}

impl<C, P> fmt::Debug for Hotplug<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hotplug").field("ports", &self.ports.len()).finish_non_exhaustive()
    }
}
