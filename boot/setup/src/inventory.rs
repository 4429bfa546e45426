//! The devices in use, for the control plane.

use alloc::rc::Rc;
use alloc::vec::Vec;

use basalt_bare::PciConfig;
use basalt_bdev_nvme::NvmeControllers;
use basalt_bdev_virtio::VirtioControllers;
use basalt_env::{ConfigSpace, PciAddress};
use basalt_reactor::Local;
use basalt_rpc::methods::{PciControl, PciState};

use crate::devices::Nodes;

/// Bytes of a device's configuration space that are shown: those that every device has.
const CONFIG_LEN: u16 = 256;

/// Has the control plane list the drives that are attached and these network cards.
pub fn start(local: &Local, config: PciConfig, nodes: Rc<Nodes>, cards: Vec<PciAddress>) {
    let (nvme, virtio) = (NvmeControllers::of(local), VirtioControllers::of(local));
    let list = move || {
        let drives = nvme.list().into_iter().map(|info| (info.address, "nvme"));
        let disks = virtio.list().into_iter().map(|info| (info.address, "virtio"));
        let cards = cards.iter().map(|address| (*address, "virtio"));
        let all = drives.chain(disks).chain(cards);
        let state = |(address, kind)| PciState {
            address,
            kind,
            node: nodes.near(address).map(|(node, _)| node),
            config: read(&config, address),
        };
        all.map(state).collect()
    };
    local.provide(Rc::new(PciControl::new(list)));
}

fn read(config: &PciConfig, address: PciAddress) -> Vec<u8> {
    let dwords = (0..CONFIG_LEN).step_by(4).map(|offset| config.read(address, offset));
    dwords.flat_map(u32::to_le_bytes).collect()
}
