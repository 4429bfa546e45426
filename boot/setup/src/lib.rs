//! What the boot core does once its reactor runs: devices, drives, network, target, control plane,
//! configuration, in this order ([`start`]).
//!
//! A part of the image, the composition root of the metal, and a crate of its own because it is
//! compiled to be small: nobody waits for it. What data runs through has to be fast, so it is
//! handed in by the image ([`DataPaths`]). A future is compiled with the crate that spawns it, or
//! puts it into a box, for which reason this one does so itself.

#![no_std]

extern crate alloc;

mod devices;
mod drives;
mod guard;
mod hotplug;
mod inventory;
mod network;
mod paths;
mod stray;
mod traced;
mod virtio_disks;

use alloc::rc::Rc;

use basalt_app::bench::Instruments;
use basalt_app::configuration::{self, Exports};
use basalt_app::memory::{self, Heap};
use basalt_app::{
    Application, Environment, HeapUse, Ports, announce, control, export, first_read, roll_call,
    services,
};
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
use basalt_rpc::{Config, ConfigError, Keeper, Router};

use crate::devices::{Devices, Firmware, Nodes};
use crate::drives::Drives;
use crate::guard::Guard;
use crate::hotplug::Watch;
pub use crate::paths::DataPaths;
use crate::virtio_disks::VirtioDisks;
pub use traced::print_traced;

const PORTS: Ports = Ports::STANDARD;

/// What the boot core needs of the machine.
pub struct Parts {
    /// The way to configuration space.
    pub pci_config: PciConfig,
    /// The way to devices' registers.
    pub map: IdentityMap,
    /// The way to I/O ports.
    pub ports: MachinePorts,
    /// ACPI's table with the machine's byte code.
    pub dsdt: &'static [u8],
    /// Which memory is near which core.
    pub nearness: Nearness,
    /// What there is of an IOMMU.
    pub iommu: Option<IommuParts>,
    /// The machine's clock.
    pub clock: Clock,
    /// The configuration as it was handed over.
    pub config: &'static [u8],
    /// What data runs through.
    pub paths: DataPaths,
    /// What is added to Basalt.
    pub application: Application,
}

/// Has the boot core bring everything up, as a task.
pub fn start(local: &Local, parts: Parts) {
    local.spawn("setup", run(local.clone(), parts));
}

async fn run(local: Local, parts: Parts) {
    if let Err(error) = bring_up(&local, parts).await {
        log::error!(target: "basalt", "{error}");
        log::error!(target: "basalt", "stopping; there is nothing else to do");
        exit(EXIT_FAILURE);
    }
}

async fn bring_up(local: &Local, parts: Parts) -> Result<(), ConfigError> {
    let config = Config::parse(parts.config);
    if let Some(options) = config.nvme_options(local.cores()) {
        local.provide(Rc::new(options));
    }
    roll_call::run(local).await;
    let Parts { pci_config: config_space, map, ports, dsdt, nearness, iommu, clock, .. } = parts;
    let Parts { paths, application, .. } = parts;
    // Before any device may use memory.
    let guard = Guard::start(local, iommu, map, clock);
    let nodes = Rc::new(Nodes::new(dsdt, nearness));
    let firmware = Firmware { config: config_space, map, ports, dsdt, nodes, guard, paths };
    let Devices { addresses, slots, nvme, virtio_net, virtio_disks } = devices::find(&firmware);
    stray::run_if_asked(local, &firmware, &addresses).await;
    let registry = Registry::new(local.cores(), basalt_bare::entropy());
    local.provide(Rc::new(registry));
    Examiner::start(local);
    Drives::start(local, &firmware, nvme).await;
    VirtioDisks::start(local, &firmware, virtio_disks);
    first_read::run(local, move || clock.now()).await;
    let config = saved_or(local, config).await;
    let cards = virtio_net.iter().map(Device::address).collect();
    inventory::start(local, firmware.config.clone(), Rc::clone(&firmware.nodes), cards);
    network::start(local, &firmware, clock, virtio_net, &config.interfaces()).await;
    let transport = TransportConfig::default();
    let target = Target::start(local, transport);
    let instruments = Instruments { ticks: clock, allocations };
    let more = |router: &mut Router| {
        (paths.bench)(router, instruments, || exit(EXIT_SUCCESS));
        application(local, router);
    };
    let rpc = control::start(local, heap, more, || power_off());
    let environment =
        Environment { name: "image", started_at: basalt_bare::started_at(), heap: heap_use };
    services::start(local, transport, PORTS, environment).await;
    Examiner::settled(local).await;
    let exports = configuration::carry_out(&config, &rpc).await?;
    if exports == Exports::Default && !rpc.waits() {
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
        announce::ready(&target, address, PORTS, &rpc);
    }
    Ok(())
}

/// The configuration that is to be in force: what the machine itself has saved on a drive, or what
/// was handed over. Drives that are to be told otherwise how they choose among queues are attached
/// again.
async fn saved_or(local: &Local, handed_over: Config) -> Config {
    Examiner::settled(local).await;
    let before = handed_over.nvme_options(local.cores()).unwrap_or_default();
    let config = Keeper::start(local, handed_over).await;
    let options = config.nvme_options(local.cores()).unwrap_or_default();
    if (options.arbitration, &options.priorities) != (before.arbitration, &before.priorities) {
        local.provide(Rc::new(options));
        Drives::attach_again(local).await;
        Examiner::settled(local).await;
    }
    config
}

fn heap() -> Option<Heap> {
    let HeapStats { bytes_total, bytes_free, .. } = basalt_bare::heap_stats();
    Some(Heap { bytes_total, bytes_free })
}

fn heap_use() -> Option<HeapUse> {
    let HeapStats { bytes_total, bytes_free, bytes_peak, .. } = basalt_bare::heap_stats();
    let [bytes_total, bytes_free, bytes_peak] =
        [bytes_total, bytes_free, bytes_peak].map(|bytes| bytes as u64);
    Some(HeapUse { bytes_total, bytes_free, bytes_peak })
}

fn allocations() -> u64 {
    basalt_bare::heap_stats().allocations
}
