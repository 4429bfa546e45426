//! What is administered of an NVMe controller, in words that those who ask and those who do it
//! share.

use alloc::boxed::Box;
use alloc::vec::Vec;

use basalt_nvme_spec::log_page::{CommandEffects, FirmwareSlots, SanitizeStatus, SelfTestLog};
use basalt_nvme_spec::manage::{
    Activation, BlockFormat, FirmwareAction, FormatSettings, FormatTarget, Sanitize, SelfTest,
};

/// What a controller is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NvmeOrder {
    /// Formats namespaces. Whatever is on them is lost.
    Format {
        /// Which.
        target: FormatTarget,
        /// What their blocks are to be like.
        blocks: BlockFormat,
        /// What else is chosen.
        settings: FormatSettings,
    },
    /// Makes a namespace, which is attached to no controller.
    CreateNamespace {
        /// Its size in blocks.
        blocks: u64,
        /// What they are like.
        format: BlockFormat,
    },
    /// Deletes the namespace of that identifier. Whatever is on it is lost.
    DeleteNamespace(u32),
    /// Attaches a namespace to the controller.
    AttachNamespace(u32),
    /// Detaches a namespace from the controller.
    DetachNamespace(u32),
    /// Hands over a part of a firmware image.
    DownloadFirmware {
        /// Where in the image it starts, bytes.
        offset: u32,
        /// The part.
        image: Vec<u8>,
    },
    /// Keeps the image that was handed over, or has one run.
    CommitFirmware {
        /// The slot, or 0 for one of the controller's choice.
        slot: u8,
        /// What is to become of it.
        action: FirmwareAction,
    },
    /// Begins or ends a self-test.
    SelfTest {
        /// With which namespace: 0 for none, [`NSID_ALL`](basalt_nvme_spec::NSID_ALL) for all.
        nsid: u32,
        /// Which.
        test: SelfTest,
    },
    /// Begins to sanitize everything. Whatever is on any namespace is lost.
    Sanitize(Sanitize),
    /// Tells something.
    Tell(NvmeSubject),
}

/// What a controller can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NvmeSubject {
    /// Its firmware slots.
    Firmware,
    /// The commands it does.
    Effects,
    /// Its self-tests.
    SelfTests,
    /// Its sanitize operation.
    Sanitizing,
    /// Its namespaces, attached or not.
    Namespaces,
}

/// How an order that was carried out ended.
#[derive(Clone, Debug)]
pub enum NvmeReport {
    /// Well.
    Done,
    /// A namespace of that identifier was made.
    Created(u32),
    /// An image was committed, and takes that to run.
    Committed(Activation),
    /// See [`NvmeSubject::Firmware`].
    Firmware(Box<FirmwareSlots>),
    /// See [`NvmeSubject::Effects`].
    Effects(Box<CommandEffects>),
    /// See [`NvmeSubject::SelfTests`].
    SelfTests(Box<SelfTestLog>),
    /// See [`NvmeSubject::Sanitizing`].
    Sanitizing(Box<SanitizeStatus>),
    /// See [`NvmeSubject::Namespaces`].
    Namespaces(NvmeNamespaces),
}

/// What a controller says of namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NvmeNamespaces {
    /// The identifiers of all there are.
    pub allocated: Vec<u32>,
    /// Of those that are attached to this controller.
    pub attached: Vec<u32>,
    /// The controllers of the subsystem (CNTLID).
    pub controllers: Vec<u16>,
    /// Capacity for namespaces, bytes.
    pub total_bytes: u128,
    /// What of that is left, bytes.
    pub unallocated_bytes: u128,
}
