use basalt_nvme_spec::identify::{NamespaceDescriptor, namespace_descriptors};
use basalt_nvme_spec::{Command, Csi, IdentifyNamespace, IdentifyZonedNamespace, IoFlags};

use crate::UnusableNamespace;

/// End-to-end protection (NVM command set 1.0 §5.2), which is the controller's to generate and to
/// check: it adds eight bytes to each block it writes and takes them off each that it reads, once
/// guard and reference tag are as they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Protection {
    /// What of dword 12 asks for it (PRINFO).
    flags: u32,
    /// What of a block's number is its reference tag: all of its low half, or nothing.
    tag_mask: u32,
}

impl Protection {
    const NONE: Self = Self { flags: 0, tag_mask: 0 };

    /// What the namespace's format asks for; `None` if its blocks carry other metadata.
    fn of(identify: &IdentifyNamespace) -> Option<Self> {
        let guarded = (IoFlags::PRACT | IoFlags::PRCHK_GUARD).bits();
        let tagged = guarded | IoFlags::PRCHK_REFERENCE.bits();
        match (identify.format().metadata_size.get(), identify.dps & 7) {
            (0, _) => Some(Self::NONE),
            (8, 1 | 2) => Some(Self { flags: tagged, tag_mask: u32::MAX }),
            (8, 3) => Some(Self { flags: guarded, tag_mask: 0 }),
            _ => None,
        }
    }

    /// Whether blocks have more bytes than their data.
    pub(crate) const fn has_metadata(self) -> bool {
        self.flags != 0
    }

    /// Asks for it in a command on a range of blocks that begins at `lba`.
    #[inline(always)]
    pub(crate) fn ask(self, command: &mut Command, lba: u64) {
        command.cdw12 = (command.cdw12.get() | self.flags).into();
        command.cdw14 = (lba as u32 & self.tag_mask).into();
    }
}

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
    csi: Csi,
    zones: Option<Zones>,
    protection: Protection,
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
        let protection = Protection::of(identify).ok_or(UnusableNamespace::Metadata)?;
        let blocks = identify.nsze.get().min(u64::MAX >> block_size.trailing_zeros());
        let mut namespace = Self {
            nsid,
            block_shift: block_size.trailing_zeros(),
            blocks,
            plain_blocks: if protection.has_metadata() { 0 } else { blocks },
            optimal_boundary: identify.noiob.get().into(),
            csi: Csi::NVM,
            zones: None,
            copy_max: match protection.has_metadata() {
                // It would have to be taken off and added anew.
                true => 0,
                false => identify.mcl.get().min(identify.mssrl.get().into()),
            },
            protection,
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
        let plain_blocks = if self.protection.has_metadata() { 0 } else { blocks };
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

    /// Whether blocks have more bytes than their data, which the controller adds and takes off.
    pub const fn has_metadata(&self) -> bool {
        self.protection.has_metadata()
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
