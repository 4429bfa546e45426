use basalt_nvme_spec::identify::{NamespaceDescriptor, Oncs, namespace_descriptors};
use basalt_nvme_spec::{Csi, IdentifyController, IdentifyNamespace, IdentifyZonedNamespace};

use crate::metadata::{Metadata, Protection};
use crate::{Sgls, UnusableNamespace};

/// The zones of a namespace (ZNS §2.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zones {
    /// Blocks of a zone, from the first block of one to that of the next.
    pub blocks: u64,
    /// Most blocks of one append.
    pub append_max: u32,
    /// Most zones that are open at a time, 0 for no limit.
    pub open_max: u32,
    /// Most that are open or closed, 0 for no limit.
    pub active_max: u32,
    /// Whether a read may cross from one into the next.
    pub reads_cross: ReadsCross,
}

/// Whether a read may cross from one zone into the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadsCross {
    /// It may.
    Yes,
    /// It fails then.
    No,
}

/// Largest block size used, bytes.
const BLOCK_SIZE_MAX: u32 = 1 << 20;

/// An active namespace, as its controller described it. Only the driver makes one, for buffer
/// lengths are checked against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace {
    nsid: u32,
    block_shift: u32,
    blocks: u64,
    /// As many, or none if they carry metadata.
    plain_blocks: u64,
    optimal_boundary: u32,
    copy_max: u32,
    compare_and_write_max: u32,
    csi: Csi,
    zones: Option<Zones>,
    protection: Protection,
    metadata: Metadata,
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
        let (protection, metadata) = (Protection::of(identify)?, Metadata::of(identify));
        let has_metadata = identify.format().metadata_size.get() > 0;
        let blocks = identify.nsze.get().min(u64::MAX >> block_size.trailing_zeros());
        let mut namespace = Self {
            nsid,
            block_shift: block_size.trailing_zeros(),
            blocks,
            plain_blocks: if has_metadata { 0 } else { blocks },
            optimal_boundary: identify.noiob.get().into(),
            compare_and_write_max: 0,
            csi: Csi::NVM,
            zones: None,
            copy_max: match has_metadata {
                // It would have to be taken off and added anew.
                true => 0,
                false => identify.mcl.get().min(identify.mssrl.get().into()),
            },
            protection,
            metadata,
            nguid: Some(identify.nguid).filter(|id| *id != [0; 16]),
            eui64: Some(identify.eui64).filter(|id| *id != [0; 8]),
            uuid: None,
        };
        for descriptor in namespace_descriptors(descriptors) {
            match descriptor {
                NamespaceDescriptor::Uuid(uuid) => namespace.uuid = Some(uuid),
                NamespaceDescriptor::Nguid(nguid) => namespace.nguid = Some(nguid),
                NamespaceDescriptor::Eui64(eui64) => namespace.eui64 = Some(eui64),
                NamespaceDescriptor::CommandSet(csi) => namespace.csi = csi,
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
        let plain_blocks = if self.has_metadata() { 0 } else { blocks };
        Self { blocks, plain_blocks, ..self }
    }

    /// Its command set.
    pub(crate) const fn csi(&self) -> Csi {
        self.csi
    }

    /// Its zones, if it has some.
    pub const fn zones(&self) -> Option<Zones> {
        self.zones
    }

    /// The same with what a controller says of its zones, of whose appends it takes so many bytes.
    pub(crate) fn with_zones(
        self,
        identify: &IdentifyNamespace,
        zoned: &IdentifyZonedNamespace,
        append_bytes_max: u64,
    ) -> Result<Self, UnusableNamespace> {
        let format = usize::from(identify.flbas & 0xf | identify.flbas >> 1 & 0x30);
        let blocks = zoned.lbafe.get(format).map_or(0, |format| format.zsze.get());
        if blocks == 0 || self.has_metadata() {
            return Err(UnusableNamespace::Zones);
        }
        let append_max =
            (append_bytes_max >> self.block_shift).min(crate::io_queue::BLOCKS_MAX.into());
        let zones = Zones {
            blocks,
            append_max: append_max as u32,
            open_max: IdentifyZonedNamespace::zones_max(zoned.mor),
            active_max: IdentifyZonedNamespace::zones_max(zoned.mar),
            reads_cross: if zoned.ozcs.get() & 1 != 0 { ReadsCross::Yes } else { ReadsCross::No },
        };
        Ok(Self { zones: Some(zones), ..self })
    }

    /// The same with a boundary of so many bytes, if it knows of none.
    #[must_use]
    pub(crate) fn with_stripe(self, bytes: u64) -> Self {
        let blocks = u32::try_from(bytes >> self.block_shift).unwrap_or(0);
        let known = self.optimal_boundary;
        Self { optimal_boundary: if known == 0 { blocks } else { known }, ..self }
    }

    /// The same of a controller that does not copy.
    #[must_use]
    pub(crate) const fn without_copy(self) -> Self {
        Self { copy_max: 0, ..self }
    }

    /// The same on a controller like this one, which may fuse Compare and Write.
    #[must_use]
    pub(crate) fn with_fused(
        self,
        controller: &IdentifyController,
        own: &IdentifyNamespace,
    ) -> Self {
        let fuses = controller.compares_and_writes() && controller.oncs().contains(Oncs::COMPARE);
        // Only what lies within atomic boundaries would be: too rare to be worth a thought.
        if !fuses || !self.can_compare() || own.has_atomic_boundary() {
            return self;
        }
        let unit = own.compare_and_write_unit().unwrap_or(controller.acwu.get());
        Self { compare_and_write_max: u32::from(unit) + 1, ..self }
    }

    /// Most blocks that one fused command compares and writes; 0 if it does not.
    pub const fn compare_and_write_max(&self) -> u32 {
        self.compare_and_write_max
    }

    /// I/O that does not cross a multiple of this many blocks is fastest; 0 if unknown.
    pub const fn optimal_boundary(&self) -> u32 {
        self.optimal_boundary
    }

    /// Most blocks that one command copies; 0 if it copies none.
    pub const fn copy_max(&self) -> u32 {
        self.copy_max
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

    /// Whether blocks have more bytes than their data.
    pub const fn has_metadata(&self) -> bool {
        self.protection.is_any() || !matches!(self.metadata, Metadata::None)
    }

    /// Whether its blocks can be compared with data alone.
    pub const fn can_compare(&self) -> bool {
        matches!(self.metadata, Metadata::None)
    }

    /// Most bytes of data of one command, of a controller that moves `transfer_max` bytes with one.
    pub const fn transfer_max(&self, transfer_max: u64) -> u64 {
        let whole = self.bytes(1) + self.metadata.in_line() as u64;
        let most = self.metadata.blocks_max() as u64;
        let blocks = transfer_max / whole;
        (if blocks < most { blocks } else { most }) << self.block_shift
    }

    /// How buffers may lie that go with one command, on a controller that takes these; as a list of
    /// pages wants them if none.
    pub const fn sgls(&self, sgls: Option<Sgls>) -> Option<Sgls> {
        match (self.metadata, sgls) {
            (Metadata::Interleaved(_), Some(Sgls { segments_max, granule })) => {
                // Two for each block, and one more for each place where buffers meet.
                let left = segments_max - 2 * self.metadata.blocks_max() as usize;
                Some(Sgls { segments_max: left, granule })
            }
            _ => sgls,
        }
    }

    /// Where the metadata of its blocks is.
    pub(crate) const fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// What makes the controller protect a command's blocks.
    #[inline]
    pub(crate) const fn protection(&self) -> Protection {
        self.protection
    }

    /// Whether the blocks lie inside and are at least one.
    #[inline]
    pub(crate) const fn contains(&self, lba: u64, blocks: u32) -> bool {
        blocks != 0 && lba < self.blocks && blocks as u64 <= self.blocks - lba
    }

    /// The same if they carry no metadata either.
    #[inline]
    pub(crate) const fn contains_plain(&self, lba: u64, blocks: u32) -> bool {
        blocks != 0 && lba < self.plain_blocks && blocks as u64 <= self.plain_blocks - lba
    }

    #[inline]
    pub(crate) const fn bytes(&self, blocks: u32) -> u64 {
        (blocks as u64) << self.block_shift
    }
}
