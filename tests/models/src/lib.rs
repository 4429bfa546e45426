//! Device models: whole devices in software, reached by their drivers through registers and memory;
//! and a network that is nothing but queues of bytes.

pub mod lies;
pub mod nvme;
pub mod pipes;
pub mod virtio;
pub mod virtio_disk;
pub mod virtio_net;
pub mod vtd;
