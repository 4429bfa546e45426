//! Device models: whole devices in software, reached by their drivers through registers and memory.

pub mod nvme;
pub mod virtio;
pub mod virtio_disk;
pub mod virtio_net;
pub mod vtd;
