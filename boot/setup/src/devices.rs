//! Finds the machine's devices and says which of them are used.

use alloc::rc::Rc;
use alloc::vec::Vec;

use basalt_bare::{IdentityMap, MachinePorts, PciConfig};
use basalt_env::{CoreId, Nearness, Node};
use basalt_pci::hotplug::Hotplug;
use basalt_pci::{Addresses, BusRange, Claimed, Function, PciAddress, Roots};
use basalt_rpc::methods::VirtioKind;

use crate::guard::Guard;
use crate::paths::DataPaths;

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
    pub nodes: Rc<Nodes>,
    pub guard: Guard,
    pub paths: DataPaths,
}

/// What is near what.
pub struct Nodes {
    roots: Roots,
    nearness: Nearness,
}

impl Nodes {
    /// Of a machine with this DSDT and these cores.
    pub fn new(dsdt: &[u8], nearness: Nearness) -> Self {
        Self { roots: Roots::read(dsdt), nearness }
    }

    /// The node of a device, if firmware tells of it, and all cores, nearest first.
    pub fn near(&self, address: PciAddress) -> Option<(Node, Vec<CoreId>)> {
        let node = self.roots.node_of(address)?;
        Some((node, self.nearness.cores_by_distance(node)))
    }
}

/// The devices that are used, in the order of their addresses, and the places for more.
pub struct Devices {
    pub addresses: Addresses,
    pub slots: Slots,
    /// NVMe controllers, which nobody has claimed yet.
    pub nvme: Vec<Function>,
    /// virtio network cards.
    pub virtio_net: Vec<PciDevice>,
    /// virtio block devices and SCSI hosts, which nobody has claimed yet.
    pub virtio_disks: Vec<Function>,
}

impl Firmware {
    /// Claims a function that has a driver, and lets it reach the DMA memory.
    pub fn claim(&self, addresses: &Addresses, function: Function) -> Option<PciDevice> {
        let allowed = self.allow(addresses, &function);
        allowed.then(|| Claimed::new(self.config.clone(), self.map, function))
    }

    /// Lets a function that has a driver reach the DMA memory; whether it may now.
    pub fn allow(&self, addresses: &Addresses, function: &Function) -> bool {
        let Function { address, vendor, device, .. } = *function;
        let what = match (function.is_nvme(), virtio_disk_kind(function)) {
            (true, _) => "NVMe controller",
            (_, Some(VirtioKind::Blk)) => "virtio block device",
            (_, Some(VirtioKind::Scsi)) => "virtio SCSI host",
            _ => "virtio network card",
        };
        log::info!(target: "pci", "{address} {vendor:04x}:{device:04x} {what}");
        self.guard.allow(&addresses.requesters(&self.config, address))
    }
}

/// Walks all buses, logs what is there, and claims what has a driver.
pub fn find(firmware: &Firmware) -> Devices {
    let Firmware { config, ports, dsdt, .. } = firmware;
    let ranges = config.ranges().into_iter().map(|range| BusRange {
        segment: range.segment,
        start: range.bus_start,
        end: range.bus_end,
    });
    let functions = basalt_pci::scan(config, &ranges.collect::<Vec<_>>());
    let slots = Hotplug::find(config.clone(), &functions, dsdt, *ports);
    let (used, unused): (Vec<_>, Vec<_>) =
        functions.iter().partition(|function| has_driver(function));
    unused.into_iter().for_each(log_unused);
    let addresses = give_addresses(config, &functions, &slots, &used);
    let (mut nvme, mut virtio_net, mut virtio_disks) = (Vec::new(), Vec::new(), Vec::new());
    for function in used {
        if is_virtio_net(function) {
            virtio_net.extend(firmware.claim(&addresses, *function));
            continue;
        }
        let list = if function.is_nvme() { &mut nvme } else { &mut virtio_disks };
        list.extend(firmware.allow(&addresses, function).then_some(*function));
    }
    Devices { addresses, slots, nvme, virtio_net, virtio_disks }
}

/// Gives addresses to those in use that firmware gave none, and prepares for those to come.
fn give_addresses(
    config: &PciConfig,
    functions: &[Function],
    slots: &Slots,
    used: &[&Function],
) -> Addresses {
    let lacking: Vec<_> =
        used.iter().filter(|function| Addresses::lacks(config, function)).collect();
    let is_lacking = |address: PciAddress| {
        let bus = |function: &Function| (function.address.segment, function.address.bus);
        lacking.iter().any(|function| bus(function) == (address.segment, address.bus))
    };
    let matters = |address| slots.covers(address) || is_lacking(address);
    let mut addresses = Addresses::survey(config, functions, matters);
    for function in &lacking {
        match addresses.assign(config, function) {
            Ok(()) => log::info!(target: "pci", "{function}: was given addresses"),
            Err(error) => log::error!(target: "pci", "{function}: {error}"),
        }
    }
    addresses
}

fn has_driver(function: &Function) -> bool {
    function.is_nvme() || is_virtio_net(function) || virtio_disk_kind(function).is_some()
}

/// What kind of virtio disk a function is, if it is one.
pub fn virtio_disk_kind(function: &Function) -> Option<VirtioKind> {
    match basalt_virtio::device_type(function)? {
        basalt_virtio_blk::DEVICE_TYPE => Some(VirtioKind::Blk),
        basalt_virtio_scsi::DEVICE_TYPE => Some(VirtioKind::Scsi),
        _ => None,
    }
}

fn log_unused(function: &Function) {
    let Function { address, vendor, device, .. } = function;
    let kind = function.device_type();
    log::debug!(target: "pci", "{address} {vendor:04x}:{device:04x} {kind:?}: no driver");
}

fn is_virtio_net(function: &Function) -> bool {
    basalt_virtio::device_type(function) == Some(basalt_virtio_net::DEVICE_TYPE)
}
