//! What the boot core does once its reactor runs: devices, drives, network, target, control plane,
//! configuration, in this order.

use alloc::rc::Rc;

use basalt_app::bench::{self, Instruments};
use basalt_app::memory::{self, Heap};
use basalt_app::{Ports, announce, control, export, first_read, roll_call, services};
use basalt_bare::{
    Clock, EXIT_FAILURE, EXIT_SUCCESS, HeapStats, IdentityMap, IommuParts, MachinePorts, PciConfig,
    exit, power_off,
};
use basalt_bdev::Registry;
use basalt_bdev::vbdev::gpt::{self, Examiner};
use basalt_bdev_nvme::PRODUCT_NAME;
use basalt_env::{Device, Nearness};
use basalt_nvmf::{Target, TransportConfig};
use basalt_reactor::Local;
use basalt_rpc::{Config, ConfigError, Router};

use crate::devices::{self, Devices, Firmware, Nodes};
use crate::drives::Drives;
use crate::guard::Guard;
use crate::hotplug::{self, Watch};
use crate::virtio_disks::VirtioDisks;
use crate::{inventory, network, stray};

const PORTS: Ports = Ports::STANDARD;

/// What the boot core needs of the machine.
pub struct Parts {
    pub pci_config: PciConfig,
    pub map: IdentityMap,
    pub ports: MachinePorts,
    /// ACPI's table with the machine's byte code.
    pub dsdt: &'static [u8],
    pub nearness: Nearness,
    pub iommu: Option<IommuParts>,
    pub clock: Clock,
    /// The configuration as it was handed over.
    pub config: &'static [u8],
}

/// Brings everything up. A configuration that cannot be carried out stops the machine: half of
/// what was asked for is worse than a clear refusal.
pub async fn run(local: Local, parts: Parts) {
    if let Err(error) = bring_up(&local, parts).await {
        log::error!(target: "basalt", "{error}");
        log::error!(target: "basalt", "stopping; correct the configuration and start again");
        exit(EXIT_FAILURE);
    }
}

async fn bring_up(local: &Local, parts: Parts) -> Result<(), ConfigError> {
    let config = Config::parse(parts.config)?;
    let interfaces = config.interfaces()?;
    if let Some(options) = config.nvme_options(local.cores())? {
        local.provide(Rc::new(options));
    }
    roll_call::run(local).await;
    let Parts { pci_config: config_space, map, ports, dsdt, nearness, iommu, clock, .. } = parts;
    // Before any device may use memory.
    let guard = Guard::start(local, iommu, map, clock);
    let nodes = Rc::new(Nodes::new(dsdt, nearness));
    let firmware = Firmware { config: config_space, map, ports, dsdt, nodes, guard };
    let Devices { addresses, slots, nvme, virtio_net, virtio_disks } = devices::find(&firmware);
    stray::run_if_asked(local, &firmware, &addresses).await;
    let registry = Registry::new(local.cores(), basalt_bare::entropy());
    local.provide(Rc::new(registry));
    Examiner::start(local);
    Drives::start(local, &firmware, nvme).await;
    VirtioDisks::start(local, &firmware, virtio_disks);
    first_read::run(local, move || clock.now()).await;
    let cards = virtio_net.iter().map(Device::address).collect();
    inventory::start(local, firmware.config.clone(), Rc::clone(&firmware.nodes), cards);
    network::start(local, clock, virtio_net, &interfaces).await;
    let transport = TransportConfig::default();
    let target = Target::start(local, transport);
    let instruments = Instruments { ticks: clock, allocations };
    let more = |router: &mut Router| bench::register(router, instruments, || exit(EXIT_SUCCESS));
    let rpc = control::start(local, heap, more, || power_off());
    services::start(local, transport, PORTS.rpc).await;
    Examiner::settled(local).await;
    config.apply(&rpc).await?;
    if !config.has_subsystem("nvmf") && !rpc.waits() {
        export::run(local, &rpc, PORTS).await;
        let drives = [PRODUCT_NAME, gpt::PRODUCT_NAME];
        export::follow(local, &rpc, move |bdev| drives.contains(&bdev.info().product_name));
    }
    rpc.open().await;
    hotplug::start(local, Watch { firmware, addresses, slots });
    memory::report(local, heap, basalt_bare::fixed_memory()).await;
    announce::pollers(local).await;
    local.mesh().settle();
    if let Some(address) = network::address(local).await {
        announce::ready(&target, address, PORTS.rpc);
    }
    Ok(())
}

fn heap() -> Option<Heap> {
    let HeapStats { bytes_total, bytes_free, .. } = basalt_bare::heap_stats();
    Some(Heap { bytes_total, bytes_free })
}

fn allocations() -> u64 {
    basalt_bare::heap_stats().allocations
}
