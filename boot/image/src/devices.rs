//! Finds the machine's devices and says which of them are used.

use alloc::vec::Vec;

use basalt_bare::{IdentityMap, MachinePorts, PciConfig};
use basalt_pci::hotplug::Hotplug;
use basalt_pci::{Addresses, BusRange, Claimed, Function};

/// A claimed function on this machine.
pub type PciDevice = Claimed<PciConfig, IdentityMap>;

/// The slots of this machine.
pub type Slots = Hotplug<PciConfig, MachinePorts>;

/// What devices are found with.
pub struct Firmware {
    pub config: PciConfig,
    pub map: IdentityMap,
    pub ports: MachinePorts,
    /// ACPI's table with the machine's byte code.
    pub dsdt: &'static [u8],
}

/// The devices that are used, in the order of their addresses, and the places for more.
pub struct Devices {
    pub addresses: Addresses,
    pub slots: Slots,
    /// NVMe controllers.
    pub nvme: Vec<PciDevice>,
    /// virtio network cards.
    pub virtio_net: Vec<PciDevice>,
}

/// Walks all buses, logs what is there, and claims what has a driver.
pub fn find(firmware: &Firmware) -> Devices {
    let Firmware { config, map, ports, dsdt } = firmware;
    let ranges = config.ranges().into_iter().map(|range| BusRange {
        segment: range.segment,
        start: range.bus_start,
        end: range.bus_end,
    });
    let functions = basalt_pci::scan(config, &ranges.collect::<Vec<_>>());
    let slots = Hotplug::find(config.clone(), &functions, dsdt, *ports);
    let addresses = Addresses::survey(config, &functions);
    let (mut nvme, mut virtio_net) = (Vec::new(), Vec::new());
    for function in functions {
        let list = match () {
            () if function.is_nvme() => &mut nvme,
            () if is_virtio_net(&function) => &mut virtio_net,
            () => {
                log_unused(&function);
                continue;
            }
        };
        list.push(claim(config, *map, function));
    }
    Devices { addresses, slots, nvme, virtio_net }
}

/// Claims a function that has a driver.
pub fn claim(config: &PciConfig, map: IdentityMap, function: Function) -> PciDevice {
    let Function { address, vendor, device, .. } = function;
    let what = if function.is_nvme() { "NVMe controller" } else { "virtio network card" };
    log::info!(target: "pci", "{address} {vendor:04x}:{device:04x} {what}");
    Claimed::new(config.clone(), map, function)
}

fn log_unused(function: &Function) {
    let Function { address, vendor, device, .. } = function;
    let kind = function.device_type();
    log::debug!(target: "pci", "{address} {vendor:04x}:{device:04x} {kind:?}: no driver");
}

fn is_virtio_net(function: &Function) -> bool {
    basalt_virtio::device_type(function) == Some(basalt_virtio_net::DEVICE_TYPE)
}
