use basalt_app::bench::Instruments;
use basalt_bare::Clock;
use basalt_env::Device;
use basalt_net::NetConfig;
use basalt_reactor::{Local, SendError};
use basalt_rpc::Router;
use basalt_virtio_net::VirtioNet;

use crate::devices::PciDevice;

type Registers = <PciDevice as Device>::Registers;

/// What data runs through. Whoever makes the value has it compiled with its own crate, for speed,
/// while all else that is done to devices is compiled with this one, to be small.
#[derive(Clone, Copy, Debug)]
pub struct DataPaths {
    /// Of the NVMe drives.
    pub nvme: basalt_bdev_nvme::IoPath<Registers>,
    /// Of the virtio disks.
    pub virtio: basalt_bdev_virtio::IoPath<Registers>,
    /// `basalt_net::start`, of the network card.
    pub network: fn(&Local, VirtioNet<PciDevice>, NetConfig) -> Result<(), SendError>,
    /// `basalt_app::bench::register`: what measures the others is one of them.
    pub bench: fn(&mut Router, Instruments<Clock>, fn()),
}
