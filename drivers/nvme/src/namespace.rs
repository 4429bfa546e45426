use basalt_nvme_spec::identify::{NamespaceDescriptor, namespace_descriptors};
use basalt_nvme_spec::{Csi, IdentifyNamespace};

use crate::UnusableNamespace;

/// Largest block size used, bytes.
const BLOCK_SIZE_MAX: u32 = 1 << 20;

/// An active namespace, as its controller described it. Only the driver makes one, for buffer
/// lengths are checked against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace {
    nsid: u32,
    block_shift: u32,
    blocks: u64,
    optimal_boundary: u16,
    nguid: Option<[u8; 16]>,
    eui64: Option<[u8; 8]>,
    uuid: Option<[u8; 16]>,
}

impl Namespace {
    /// Checks what the controller says of namespace `nsid`. `descriptors` may be empty.
    pub(crate) fn new(
        nsid: u32,
        identify: &IdentifyNamespace,
        descriptors: &[u8],
    ) -> Result<Self, UnusableNamespace> {
        let block_size = identify
            .block_size()
            .filter(|&size| size <= BLOCK_SIZE_MAX)
            .ok_or(UnusableNamespace::BlockSize)?;
        if identify.nsze.get() == 0 {
            return Err(UnusableNamespace::Empty);
        }
        if identify.format().metadata_size.get() != 0 {
            return Err(UnusableNamespace::Metadata);
        }
        let mut namespace = Self {
            nsid,
            block_shift: block_size.trailing_zeros(),
            blocks: identify.nsze.get().min(u64::MAX >> block_size.trailing_zeros()),
            optimal_boundary: identify.noiob.get(),
            nguid: Some(identify.nguid).filter(|id| *id != [0; 16]),
            eui64: Some(identify.eui64).filter(|id| *id != [0; 8]),
            uuid: None,
        };
        for descriptor in namespace_descriptors(descriptors) {
            match descriptor {
                NamespaceDescriptor::Uuid(uuid) => namespace.uuid = Some(uuid),
                NamespaceDescriptor::Nguid(nguid) => namespace.nguid = Some(nguid),
                NamespaceDescriptor::Eui64(eui64) => namespace.eui64 = Some(eui64),
                NamespaceDescriptor::CommandSet(Csi::NVM) => {}
                NamespaceDescriptor::CommandSet(_) => return Err(UnusableNamespace::CommandSet),
            }
        }
        Ok(namespace)
    }

    /// Namespace identifier.
    pub const fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Bytes per block, a power of two from 512 to 1 MiB.
    pub const fn block_size(&self) -> u32 {
        1 << self.block_shift
    }

    /// Size in blocks.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The same namespace with another size.
    #[must_use]
    pub const fn with_blocks(self, blocks: u64) -> Self {
        Self { blocks, ..self }
    }

    /// I/O that does not cross a multiple of this many blocks is fastest; 0 if unknown.
    pub const fn optimal_boundary(&self) -> u16 {
        self.optimal_boundary
    }

    /// Globally unique identifier, if it has one.
    pub const fn nguid(&self) -> Option<[u8; 16]> {
        self.nguid
    }

    /// IEEE extended unique identifier, if it has one.
    pub const fn eui64(&self) -> Option<[u8; 8]> {
        self.eui64
    }

    /// RFC 9562 UUID, if it has one.
    pub const fn uuid(&self) -> Option<[u8; 16]> {
        self.uuid
    }

    /// Whether the blocks lie inside and are at least one.
    #[inline]
    pub(crate) const fn contains(&self, lba: u64, blocks: u32) -> bool {
        blocks != 0 && lba < self.blocks && blocks as u64 <= self.blocks - lba
    }

    #[inline]
    pub(crate) const fn bytes(&self, blocks: u32) -> u64 {
        (blocks as u64) << self.block_shift
    }
}
