//! What is fuzzed, one module each.

pub mod acpi_tables;
pub mod config_file;
pub mod elf_image;
pub mod gpt_table;
pub mod http_requests;
pub mod kept_config;
pub mod net_frames;
pub mod nvme_device;
pub mod nvmf_host;
pub mod nvmf_initiator;
pub mod nvmf_pdu;
pub mod nvmf_session;
pub mod nvmf_stream;
pub mod pci_config;
pub mod rpc_stream;
pub mod virtio_disk;
pub mod virtio_net;

use crate::machine;
use crate::seed::Seed;

/// Something that bytes are given to.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its module.
    pub name: &'static str,
    body: fn(&[u8]),
    /// Makes what mutations start from.
    pub seeds: fn() -> Vec<Seed>,
    /// Inputs of a bounded run: about three seconds' worth in a debug build.
    pub runs: u32,
}

impl Target {
    const fn new(name: &'static str, body: fn(&[u8]), seeds: fn() -> Vec<Seed>, runs: u32) -> Self {
        Self { name, body, seeds, runs }
    }

    /// Gives it `bytes`.
    ///
    /// # Panics
    /// A rule is broken, or DMA memory is left taken.
    pub fn run(&self, bytes: &[u8]) {
        let before = machine::bytes_free();
        (self.body)(bytes);
        let after = machine::bytes_free();
        assert_eq!(after, before, "DMA memory that is free");
    }
}

/// All of them, by name.
pub const ALL: [Target; 17] = [
    Target::new("acpi_tables", acpi_tables::run, acpi_tables::seeds, 15000),
    Target::new("config_file", config_file::run, config_file::seeds, 2000),
    Target::new("elf_image", elf_image::run, elf_image::seeds, 7500),
    Target::new("gpt_table", gpt_table::run, gpt_table::seeds, 750),
    Target::new("http_requests", http_requests::run, http_requests::seeds, 375),
    Target::new("kept_config", kept_config::run, kept_config::seeds, 750),
    Target::new("net_frames", net_frames::run, net_frames::seeds, 375),
    Target::new("nvme_device", nvme_device::run, nvme_device::seeds, 300),
    Target::new("nvmf_host", nvmf_host::run, nvmf_host::seeds, 10000),
    Target::new("nvmf_initiator", nvmf_initiator::run, nvmf_initiator::seeds, 100),
    Target::new("nvmf_pdu", nvmf_pdu::run, nvmf_pdu::seeds, 37500),
    Target::new("nvmf_session", nvmf_session::run, nvmf_session::seeds, 150),
    Target::new("nvmf_stream", nvmf_stream::run, nvmf_stream::seeds, 200),
    Target::new("pci_config", pci_config::run, pci_config::seeds, 5000),
    Target::new("rpc_stream", rpc_stream::run, rpc_stream::seeds, 375),
    Target::new("virtio_disk", virtio_disk::run, virtio_disk::seeds, 375),
    Target::new("virtio_net", virtio_net::run, virtio_net::seeds, 2500),
];

/// Gives `bytes` to the target of that name.
///
/// # Panics
/// There is none, or it fails.
pub fn run(name: &str, bytes: &[u8]) {
    named(name).run(bytes);
}

/// The target of that name.
///
/// # Panics
/// There is none.
pub fn named(name: &str) -> Target {
    let found = ALL.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no target is called {name}"))
}
