//! Finds the machine's devices and says which of them are used.

use alloc::vec::Vec;

use basalt_bare::{IdentityMap, PciConfig};
use basalt_pci::{BusRange, Claimed, Function};

/// A claimed function on this machine.
pub type PciDevice = Claimed<PciConfig, IdentityMap>;

/// The devices that are used, in the order of their addresses.
#[derive(Default)]
pub struct Devices {
    /// NVMe controllers.
    pub nvme: Vec<PciDevice>,
    /// virtio network cards.
    pub virtio_net: Vec<PciDevice>,
}

/// Walks all buses, logs what is there, and claims what has a driver.
pub fn find(config: &PciConfig, map: IdentityMap) -> Devices {
    let ranges: Vec<_> = config
        .ranges()
        .into_iter()
        .map(|range| BusRange {
            segment: range.segment,
            start: range.bus_start,
            end: range.bus_end,
        })
        .collect();
    let mut devices = Devices::default();
    for function in basalt_pci::scan(config, &ranges) {
        let list = match () {
            () if function.is_nvme() => Some((&mut devices.nvme, "NVMe controller")),
            () if is_virtio_net(&function) => {
                Some((&mut devices.virtio_net, "virtio network card"))
            }
            () => None,
        };
        let Function { address, vendor, device, .. } = function;
        let Some((list, what)) = list else {
            let kind = function.device_type();
            log::debug!(target: "pci", "{address} {vendor:04x}:{device:04x} {kind:?}: no driver");
            continue;
        };
        log::info!(target: "pci", "{address} {vendor:04x}:{device:04x} {what}");
        list.push(Claimed::new(config.clone(), map, function));
    }
    devices
}

fn is_virtio_net(function: &Function) -> bool {
    basalt_virtio::device_type(function) == Some(basalt_virtio_net::DEVICE_TYPE)
}
