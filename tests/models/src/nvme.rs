//! An NVMe controller with namespaces in memory, and the things it can be told to do wrong.
//!
//! [`Model`] is a whole device: configuration space, registers, CC and CSTS, admin and I/O queues,
//! PRP lists and data, all reached by bus address as hardware would. It works when a doorbell is
//! rung and at [`Model::step`], which also brings delayed commands nearer; nothing depends on time
//! or threads. [`FaultPlan`] says as data which commands go wrong and how. What the driver does
//! against the rules is written down in [`Model::violations`].
//!
//! After NVM Express base specification 2.0, NVM command set 1.0, PCIe transport 1.0.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use basalt_hosted::Bus;
use basalt_nvme_spec::{FeatureId, QueueId};

mod admin;
mod arbitration;
mod cmb;
mod device;
mod fault;
mod fused;
mod io;
mod manage;
mod metadata;
mod protection;
pub mod prp;
mod queues;
mod state;
#[cfg(test)]
mod tests;
mod zones;

pub use cmb::{CmbConfig, CmbOffer};
pub use device::{ModelDevice, ModelRegisters};
pub use fault::{Fault, FaultPlan, Match, admin, any_io, disable, enable, io};
pub use manage::ManageConfig;
use state::State;

use crate::lies::Lies;
pub use zones::ZoneConfig;

/// Where the metadata of a command's blocks is (base specification 2.0 §3.3.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataPlace {
    /// Where the metadata pointer says.
    Separate,
    /// That of each block behind its data.
    InLine,
}

/// What a namespace is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamespaceConfig {
    /// Namespace identifier, at least 1.
    pub nsid: u32,
    /// Bytes per block, a power of two.
    pub block_size: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// RFC 9562 UUID.
    pub uuid: [u8; 16],
    /// Metadata bytes per block.
    pub metadata_size: u16,
    /// Where they are, when they are moved.
    pub metadata_place: MetadataPlace,
    /// Type of end-to-end protection, 0 for none; it takes 8 bytes of metadata.
    pub protection: u8,
    /// Its zones, if it has some.
    pub zones: Option<ZoneConfig>,
}

impl NamespaceConfig {
    /// A namespace without metadata; its UUID is made from its identifier.
    pub fn new(nsid: u32, block_size: u32, blocks: u64) -> Self {
        let mut uuid = [0x40; 16];
        uuid[..4].copy_from_slice(&nsid.to_be_bytes());
        Self {
            nsid,
            block_size,
            blocks,
            uuid,
            metadata_size: 0,
            metadata_place: MetadataPlace::Separate,
            protection: 0,
            zones: None,
        }
    }

    /// The same with zones.
    #[must_use]
    pub fn zoned(self, zones: ZoneConfig) -> Self {
        Self { zones: Some(zones), ..self }
    }

    /// The same with end-to-end protection of that type, and as much metadata as that takes.
    #[must_use]
    pub fn protected(self, protection: u8) -> Self {
        Self { metadata_size: self.metadata_size.max(8), protection, ..self }
    }

    /// The same with so many bytes of metadata per block.
    #[must_use]
    pub fn with_metadata(self, metadata_size: u16, metadata_place: MetadataPlace) -> Self {
        Self { metadata_size, metadata_place, ..self }
    }
}

/// Whether and how a controller looks for doorbells in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shadowing {
    /// It does not.
    No,
    /// When a register is written, until nothing is left; it wants to be told of whatever comes
    /// then.
    WhenTold,
    /// All the time; it need not be told of anything.
    Always,
}

/// What a controller is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// PCI bus it sits on; everything else of its address is 0.
    pub pci_bus: u8,
    /// PCI vendor (low half) and device identifier.
    pub pci_ids: u32,
    /// Blocks that I/O is best kept within multiples of, 0 for none; and the same as Intel's older
    /// drives tell it, as a power of two of 4 KiB.
    pub boundary: u16,
    /// See [`Self::boundary`].
    pub vendor_stripe: u8,
    /// Format of vendor specific admin commands (AVSCC), of which the model has none.
    pub avscc: u8,
    /// Largest I/O queue, entries (CAP.MQES + 1).
    pub queue_entries_max: u32,
    /// Bytes between doorbells: 4 to 128, a power of two.
    pub doorbell_stride: usize,
    /// I/O queue pairs it grants.
    pub queues: u16,
    /// Asynchronous Event Requests it holds at once, at least 1.
    pub event_requests: u8,
    /// Largest transfer as a power of two of 4 KiB; 0 for no limit.
    pub mdts: u8,
    /// Whether I/O commands may come with SGLs.
    pub sgls: bool,
    /// Whether and how it looks for doorbells in memory.
    pub shadow: Shadowing,
    /// Its memory buffer, if it has one.
    pub cmb: Option<CmbConfig>,
    /// Whether queues can have priorities.
    pub weighted_round_robin: bool,
    /// Burst of arbitration it recommends, as a power of two.
    pub arbitration_burst: u8,
    /// Optional NVM commands it does.
    pub oncs: basalt_nvme_spec::identify::Oncs,
    /// Most of a Verify and of a Write Zeroes, as a power of two of 4 KiB; 0 for no limit.
    pub dataless_max: u8,
    /// Most of a Zone Append, likewise.
    pub zasl: u8,
    /// Most blocks of a Copy, and of one range of a Dataset Management.
    pub range_max: u16,
    /// Most blocks of a fused Compare and Write; 0 if it does not fuse them.
    pub fused_max: u16,
    /// How many reads of CSTS it takes to become ready or not ready.
    pub ready_after: u32,
    /// Namespaces, by ascending identifier.
    pub namespaces: Vec<NamespaceConfig>,
    /// What it lets its host administer.
    pub manage: ManageConfig,
    /// Serial number.
    pub serial: String,
}

impl Default for Config {
    /// One namespace of 8 MiB in 512-byte blocks, 8 queue pairs of up to 1,024 entries, transfers
    /// up to 1 MiB.
    fn default() -> Self {
        use basalt_nvme_spec::identify::Oncs;
        Self {
            pci_bus: 0,
            pci_ids: 0x0010_1b36,
            boundary: 0,
            vendor_stripe: 0,
            avscc: 0,
            queue_entries_max: 1024,
            doorbell_stride: 4,
            queues: 8,
            mdts: 8,
            event_requests: 4,
            sgls: true,
            shadow: Shadowing::No,
            cmb: None,
            weighted_round_robin: false,
            arbitration_burst: 0,
            oncs: Oncs::DATASET_MANAGEMENT | Oncs::WRITE_ZEROES,
            dataless_max: 0,
            zasl: 0,
            range_max: 4096,
            fused_max: 0,
            ready_after: 2,
            namespaces: vec![NamespaceConfig::new(1, 512, 16_384)],
            manage: ManageConfig::default(),
            serial: String::from("BASALT0001"),
        }
    }
}

/// An NVMe controller. Clones are handles on the same one, and may go to other threads.
#[derive(Clone)]
pub struct Model {
    state: Arc<Mutex<State>>,
}

impl Model {
    /// A controller on `bus`, powered on and not enabled.
    pub fn new(bus: Bus, config: Config) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(bus, config))) }
    }

    /// The PCI function, for a driver to claim.
    pub fn device(&self) -> ModelDevice {
        ModelDevice::new(self.clone())
    }

    /// Changes the plan of faults.
    pub fn plan(&self, change: impl FnOnce(&mut FaultPlan)) {
        change(&mut self.lock().plan);
    }

    /// Has it lie from now on: in what Identify, log pages, registers and completions say.
    pub fn lie(&self, lies: Lies) {
        self.lock().lies = lies;
    }

    /// Adds one fault to the plan.
    pub fn inject(&self, what: Match, fault: Fault) {
        self.lock().plan.on(what, fault);
    }

    /// Lets one unit of model time pass: delayed commands come nearer, queues are looked at.
    pub fn step(&self) {
        self.lock().step();
    }

    /// Takes the device out of its slot: everything reads as all ones from now on.
    pub fn remove(&self) {
        self.lock().gone = true;
    }

    /// What the driver did against the rules, as text. A test of a good driver asserts it empty.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Doorbell writes seen.
    pub fn doorbells(&self) -> u64 {
        self.lock().doorbells
    }

    /// Transfers that crossed [`Config::boundary`].
    pub fn crossings(&self) -> u64 {
        self.lock().crossings
    }

    /// I/O commands fetched.
    pub fn io_commands(&self) -> u64 {
        self.lock().io_commands
    }

    /// The queues that the last I/O commands were fetched from, oldest first, at most 4,096.
    pub fn order(&self) -> Vec<QueueId> {
        self.lock().order.iter().copied().collect()
    }

    /// I/O commands of queue `qid` that were fetched from the memory buffer.
    pub fn fetched_from_cmb(&self, qid: QueueId) -> u64 {
        let state = self.lock();
        state.cmb.as_ref().and_then(|cmb| cmb.fetched.get(&qid).copied()).unwrap_or(0)
    }

    /// The value of a feature that was set since the last reset.
    pub fn feature(&self, feature: FeatureId) -> Option<u32> {
        self.lock().features.get(&feature.0).copied()
    }

    /// The bytes of namespace `nsid` from `lba`, at most `len`; empty if there is none.
    pub fn contents(&self, nsid: u32, lba: u64, len: usize) -> Vec<u8> {
        let state = self.lock();
        let Some(ns) = state.namespace(nsid) else { return Vec::new() };
        let start = (lba as usize).saturating_mul(ns.config.block_size as usize);
        ns.data.iter().skip(start).take(len).copied().collect()
    }

    /// All metadata of namespace `nsid`.
    pub fn metadata(&self, nsid: u32) -> Vec<u8> {
        self.lock().namespace(nsid).map_or_else(Vec::new, |ns| ns.metadata.clone())
    }

    /// Makes all metadata of namespace `nsid` that byte, as if somebody else had written it.
    pub fn fill_metadata(&self, nsid: u32, byte: u8) {
        if let Some(ns) = self.lock().namespace_mut(nsid) {
            ns.metadata.fill(byte);
        }
    }

    /// Flips a bit of the medium at that byte of namespace `nsid`, behind everybody's back.
    pub fn flip_bit(&self, nsid: u32, at: usize) {
        if let Some(ns) = self.lock().namespace_mut(nsid)
            && let Some(byte) = ns.data.get_mut(at)
        {
            *byte ^= 1;
        }
    }

    /// Puts what is at block `from` of namespace `nsid` to block `to`, as a drive that mistakes one
    /// for the other.
    pub fn move_block(&self, nsid: u32, from: u64, to: u64) {
        if let Some(ns) = self.lock().namespace_mut(nsid) {
            ns.move_block(from, to);
        }
    }

    /// Adds a namespace, zeroed, and tells the driver.
    pub fn add_namespace(&self, config: NamespaceConfig) {
        let mut state = self.lock();
        let at = state.namespaces.partition_point(|other| other.config.nsid < config.nsid);
        state.namespaces.insert(at, state::Namespace::new(config));
        state.namespace_changed(config.nsid);
    }

    /// Takes a namespace away, and tells the driver.
    pub fn remove_namespace(&self, nsid: u32) {
        let mut state = self.lock();
        state.namespaces.retain(|namespace| namespace.config.nsid != nsid);
        state.namespace_changed(nsid);
    }

    /// Gives a namespace another size in blocks, new ones being zero, and tells the driver.
    pub fn resize_namespace(&self, nsid: u32, blocks: u64) {
        let mut state = self.lock();
        if let Some(namespace) = state.namespace_mut(nsid) {
            namespace.config.blocks = blocks;
            let bytes = |size: u64| (blocks * size) as usize;
            namespace.data.resize(bytes(namespace.config.block_size.into()), 0);
            namespace.metadata.resize(bytes(namespace.config.metadata_size.into()), 0);
        }
        state.namespace_changed(nsid);
    }

    /// Completes one waiting Asynchronous Event Request with `event`; whether there was one.
    pub fn raise_event(&self, event: basalt_nvme_spec::AsyncEvent) -> bool {
        self.lock().raise_event(event)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
