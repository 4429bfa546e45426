//! What the boot core does once its reactor runs: devices, drives, network, target, control plane,
//! configuration, in this order.

use alloc::rc::Rc;

use basalt_app::export::{self, Exports};
use basalt_app::memory::{self, Heap};
use basalt_app::{Ports, announce, control, first_read, roll_call, services};
use basalt_bare::{Clock, EXIT_FAILURE, HeapStats, exit, power_off};
use basalt_bdev::Registry;
use basalt_nvmf::{Target, TransportConfig};
use basalt_reactor::Local;
use basalt_rpc::{Config, ConfigError};

use crate::devices::{self, Devices, Firmware};
use crate::hotplug::{self, Watch};
use crate::{bench, drives, network};

const PORTS: Ports = Ports::STANDARD;

/// What the boot core needs of the machine.
pub struct Parts {
    pub firmware: Firmware,
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
    roll_call::run(local).await;
    let Devices { addresses, slots, nvme, virtio_net } = devices::find(&parts.firmware);
    let registry = Registry::new(local.cores(), basalt_bare::entropy());
    local.provide(Rc::new(registry));
    drives::attach_all(local, nvme).await;
    let clock = parts.clock;
    first_read::run(local, move || clock.now()).await;
    network::start(local, clock, virtio_net, &interfaces);
    let transport = TransportConfig::default();
    let target = Target::start(local, transport);
    let rpc = control::start(local, heap, |router| bench::register(router, clock), || power_off());
    services::start(local, transport, PORTS.rpc).await;
    config.apply(&rpc).await?;
    let exports = if config.has_subsystem("nvmf") {
        Exports::ByConfiguration
    } else {
        export::run(local, &rpc, PORTS).await;
        Exports::Everything
    };
    hotplug::start(local, Watch { firmware: parts.firmware, addresses, slots, rpc, exports });
    memory::report(local, heap, basalt_bare::fixed_memory()).await;
    announce::pollers(local).await;
    if let Some(address) = network::address(local).await {
        announce::ready(&target, address.into(), PORTS.rpc);
    }
    Ok(())
}

fn heap() -> Option<Heap> {
    let HeapStats { bytes_total, bytes_free } = basalt_bare::heap_stats();
    Some(Heap { bytes_total, bytes_free })
}
