//! Identify data structures (§5.17.2, NVM §4.1.5).

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of every Identify data structure, bytes.
pub const IDENTIFY_LEN: usize = 4096;

/// A power state descriptor, 32 bytes (§5.17.2.1, figure 276).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct PowerState {
    /// Maximum power, by default in 0.01 W.
    pub max_power: U16,
    /// Reserved.
    pub reserved2: u8,
    /// Bit 0 scale of the maximum power, bit 1 non-operational.
    pub flags: u8,
    /// Entry latency, microseconds.
    pub entry_latency_us: U32,
    /// Exit latency, microseconds.
    pub exit_latency_us: U32,
    /// Relative throughputs and latencies, idle and active power.
    pub relative: [u8; 20],
}

/// Identify Controller, 4,096 bytes (§5.17.2.1, figure 275).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyController {
    /// PCI vendor.
    pub vid: U16,
    /// PCI subsystem vendor.
    pub ssvid: U16,
    /// Serial number, ASCII.
    pub sn: [u8; 20],
    /// Model number, ASCII.
    pub mn: [u8; 40],
    /// Firmware revision, ASCII.
    pub fr: [u8; 8],
    /// Recommended arbitration burst, power of two commands.
    pub rab: u8,
    /// IEEE OUI.
    pub ieee: [u8; 3],
    /// Multi-path and namespace sharing capabilities.
    pub cmic: u8,
    /// Largest transfer as a power of two of the smallest page size; 0 for no limit.
    pub mdts: u8,
    /// Controller identifier.
    pub cntlid: U16,
    /// Version, as in the VS register.
    pub ver: U32,
    /// RTD3 resume latency, microseconds.
    pub rtd3r: U32,
    /// RTD3 entry latency, microseconds: a shutdown's time limit.
    pub rtd3e: U32,
    /// Optional asynchronous events supported.
    pub oaes: U32,
    /// Controller attributes.
    pub ctratt: U32,
    /// Read recovery levels.
    pub rrls: U16,
    /// Reserved.
    pub reserved102: [u8; 9],
    /// Controller type: 1 I/O, 2 discovery, 3 administrative.
    pub cntrltype: u8,
    /// FRU GUID.
    pub fguid: [u8; 16],
    /// Command retry delays 1 to 3, 100 ms.
    pub crdt: [U16; 3],
    /// Reserved.
    pub reserved134: [u8; 119],
    /// NVM subsystem report.
    pub nvmsr: u8,
    /// VPD write cycle information.
    pub vwci: u8,
    /// Management endpoint capabilities.
    pub mec: u8,
    /// Optional admin commands, see [`Oacs`].
    pub oacs: U16,
    /// Abort commands at once, 0's based.
    pub acl: u8,
    /// Asynchronous event requests at once, 0's based.
    pub aerl: u8,
    /// Firmware updates.
    pub frmw: u8,
    /// Log page attributes.
    pub lpa: u8,
    /// Error log entries, 0's based.
    pub elpe: u8,
    /// Power states, 0's based.
    pub npss: u8,
    /// Admin vendor specific command configuration.
    pub avscc: u8,
    /// Autonomous power state transitions.
    pub apsta: u8,
    /// Warning temperature, kelvin.
    pub wctemp: U16,
    /// Critical temperature, kelvin.
    pub cctemp: U16,
    /// Longest time for firmware activation, 100 ms.
    pub mtfa: U16,
    /// Preferred host memory buffer, 4 KiB.
    pub hmpre: U32,
    /// Smallest host memory buffer, 4 KiB.
    pub hmmin: U32,
    /// Total capacity, bytes.
    pub tnvmcap: U128,
    /// Unallocated capacity, bytes.
    pub unvmcap: U128,
    /// Replay protected memory block support.
    pub rpmbs: U32,
    /// Extended self-test time, minutes.
    pub edstt: U16,
    /// Self-test options.
    pub dsto: u8,
    /// Firmware update granularity, 4 KiB.
    pub fwug: u8,
    /// Keep alive granularity, 100 ms; 0 if not supported.
    pub kas: U16,
    /// Host controlled thermal management.
    pub hctma: U16,
    /// Smallest thermal management temperature, kelvin.
    pub mntmt: U16,
    /// Largest thermal management temperature, kelvin.
    pub mxtmt: U16,
    /// Sanitize capabilities.
    pub sanicap: U32,
    /// Smallest host memory buffer descriptor, 4 KiB.
    pub hmminds: U32,
    /// Most host memory buffer descriptors.
    pub hmmaxd: U16,
    /// Largest NVM set identifier.
    pub nsetidmax: U16,
    /// Largest endurance group identifier.
    pub endgidmax: U16,
    /// ANA transition time, seconds.
    pub anatt: u8,
    /// ANA capabilities.
    pub anacap: u8,
    /// Largest ANA group identifier.
    pub anagrpmax: U32,
    /// Number of ANA groups.
    pub nanagrpid: U32,
    /// Persistent event log size, 64 KiB.
    pub pels: U32,
    /// Domain identifier.
    pub domain_id: U16,
    /// Reserved.
    pub reserved358: [u8; 10],
    /// Largest endurance group capacity, bytes.
    pub megcap: U128,
    /// Reserved.
    pub reserved384: [u8; 128],
    /// Submission queue entry sizes: low nibble required, high nibble largest, powers of two.
    pub sqes: u8,
    /// Completion queue entry sizes, likewise.
    pub cqes: u8,
    /// Outstanding commands a fabrics controller takes on one queue.
    pub maxcmd: U16,
    /// Largest namespace identifier.
    pub nn: U32,
    /// Optional NVM commands, see [`Oncs`].
    pub oncs: U16,
    /// Fused operations.
    pub fuses: U16,
    /// Format NVM attributes.
    pub fna: u8,
    /// Volatile write cache: bit 0 present, bits 2:1 flush of all namespaces.
    pub vwc: u8,
    /// Atomic write unit, normal; logical blocks, 0's based.
    pub awun: U16,
    /// Atomic write unit, power fail; logical blocks, 0's based.
    pub awupf: U16,
    /// I/O vendor specific command configuration.
    pub icsvscc: u8,
    /// Namespace write protection capabilities.
    pub nwpc: u8,
    /// Atomic compare and write unit; logical blocks, 0's based.
    pub acwu: U16,
    /// Copy descriptor formats.
    pub cdfs: U16,
    /// SGL support.
    pub sgls: U32,
    /// Most allowed namespaces; 0 means `nn`.
    pub mnan: U32,
    /// Most domain namespace attachments.
    pub maxdna: U128,
    /// Most I/O controller namespace attachments.
    pub maxcna: U32,
    /// Reserved.
    pub reserved564: [u8; 204],
    /// NVM subsystem qualified name, UTF-8, NUL terminated.
    pub subnqn: [u8; 256],
    /// Reserved.
    pub reserved1024: [u8; 768],
    /// Fabrics: I/O queue command capsule size, 16 bytes.
    pub ioccsz: U32,
    /// Fabrics: I/O queue response capsule size, 16 bytes.
    pub iorcsz: U32,
    /// Fabrics: in-capsule data offset, 16 bytes.
    pub icdoff: U16,
    /// Fabrics: controller attributes; bit 0 static controller model.
    pub fcatt: u8,
    /// Fabrics: most SGL data block descriptors.
    pub msdbd: u8,
    /// Fabrics: optional commands; bit 0 Disconnect.
    pub ofcs: U16,
    /// Reserved.
    pub reserved1806: [u8; 242],
    /// Power states.
    pub psd: [PowerState; 32],
    /// Vendor specific.
    pub vendor: [u8; 1024],
}

const _: () = assert!(size_of::<IdentifyController>() == IDENTIFY_LEN);
const _: () = assert!(size_of::<PowerState>() == 32);

/// A limit that a field tells as a power of two of CAP.MPSMIN, in bytes; `None` if there is none.
pub const fn size_limit(field: u8, page_size_min: u64) -> Option<u64> {
    match field {
        0 => None,
        shift if shift as u32 > page_size_min.leading_zeros() => None,
        shift => Some(page_size_min << shift),
    }
}

impl IdentifyController {
    /// Largest transfer in bytes, or `None` for no limit. `page_size_min` is CAP.MPSMIN in bytes.
    pub const fn transfer_max(&self, page_size_min: u64) -> Option<u64> {
        size_limit(self.mdts, page_size_min)
    }

    /// Whether it has the Copy command, with ranges in format 0 (CDFS).
    pub const fn copies(&self) -> bool {
        self.oncs().contains(Oncs::COPY) && self.cdfs.get() & 1 != 0
    }

    /// Optional NVM commands.
    pub const fn oncs(&self) -> Oncs {
        Oncs::from_bits_retain(self.oncs.get())
    }

    /// Whether all vendor specific admin commands say how much data they move, as dwords in
    /// dword 10 (AVSCC).
    pub const fn has_common_vendor_format(&self) -> bool {
        self.avscc & 1 != 0
    }

    /// Optional admin commands.
    pub const fn oacs(&self) -> Oacs {
        Oacs::from_bits_retain(self.oacs.get())
    }

    /// Whether it fuses Compare and Write (FUSES).
    pub const fn compares_and_writes(&self) -> bool {
        self.fuses.get() & 1 != 0
    }

    /// Whether there is a volatile write cache.
    pub const fn volatile_write_cache(&self) -> bool {
        self.vwc & 1 != 0
    }
}

impl Default for IdentifyController {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

bitflags! {
    /// Optional NVM commands supported (ONCS).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Oncs: u16 {
        /// Compare.
        const COMPARE = 1 << 0;
        /// Write Uncorrectable.
        const WRITE_UNCORRECTABLE = 1 << 1;
        /// Dataset Management.
        const DATASET_MANAGEMENT = 1 << 2;
        /// Write Zeroes.
        const WRITE_ZEROES = 1 << 3;
        /// Save and select fields of features.
        const SAVE = 1 << 4;
        /// Reservations.
        const RESERVATIONS = 1 << 5;
        /// Timestamp feature.
        const TIMESTAMP = 1 << 6;
        /// Verify.
        const VERIFY = 1 << 7;
        /// Copy.
        const COPY = 1 << 8;
    }

    /// Optional admin commands supported (OACS).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Oacs: u16 {
        /// Security Send and Receive.
        const SECURITY = 1 << 0;
        /// Format NVM.
        const FORMAT = 1 << 1;
        /// Firmware Commit and Image Download.
        const FIRMWARE = 1 << 2;
        /// Namespace Management and Attachment.
        const NAMESPACE_MANAGEMENT = 1 << 3;
        /// Device Self-test.
        const SELF_TEST = 1 << 4;
        /// Directives.
        const DIRECTIVES = 1 << 5;
        /// Doorbell Buffer Config.
        const DOORBELL_BUFFER = 1 << 8;
    }

    /// Namespace features (NSFEAT).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct NsFeatures: u8 {
        /// Thin provisioning.
        const THIN = 1 << 0;
        /// Atomic write units of the namespace's own.
        const ATOMICS = 1 << 1;
        /// Deallocated or unwritten logical block error.
        const DEALLOCATED_ERROR = 1 << 2;
        /// NGUID and EUI64 are never reused.
        const UID_REUSE = 1 << 3;
        /// NPWG, NPWA, NPDG, NPDA and NOWS are valid.
        const OPTIMAL_IO = 1 << 4;
    }
}

/// An LBA format, 4 bytes (NVM §4.1.5.1, figure 98).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct LbaFormat {
    /// Metadata bytes per block.
    pub metadata_size: U16,
    /// Data bytes per block as a power of two; less than 9 is not valid.
    pub data_size_log2: u8,
    /// Bits 1:0 relative performance, 0 best.
    pub performance: u8,
}

/// Identify Namespace of the NVM command set, 4,096 bytes (NVM §4.1.5.1, figure 97).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// Size, logical blocks. 0 if the namespace is not active.
    pub nsze: U64,
    /// Capacity, logical blocks.
    pub ncap: U64,
    /// Utilisation, logical blocks.
    pub nuse: U64,
    /// Features, see [`NsFeatures`].
    pub nsfeat: u8,
    /// LBA formats, 0's based.
    pub nlbaf: u8,
    /// Formatted LBA size: bits 3:0 and 6:5 the format, bit 4 metadata in line with the data.
    pub flbas: u8,
    /// Metadata capabilities.
    pub mc: u8,
    /// Protection capabilities.
    pub dpc: u8,
    /// Protection settings; bits 2:0 type, 0 for none.
    pub dps: u8,
    /// Multi-path; bit 0 shared.
    pub nmic: u8,
    /// Reservation capabilities: bit 0 they survive a loss of power, 1 to 6 the types, 7 IEKEY as
    /// from revision 1.3 on.
    pub rescap: u8,
    /// Format progress.
    pub fpi: u8,
    /// Deallocate features: bits 2:0 what reads give (1 zeroes), bit 3 by Write Zeroes.
    pub dlfeat: u8,
    /// Atomic write unit, normal.
    pub nawun: U16,
    /// Atomic write unit, power fail.
    pub nawupf: U16,
    /// Atomic compare and write unit.
    pub nacwu: U16,
    /// Atomic boundary size, normal.
    pub nabsn: U16,
    /// Atomic boundary offset.
    pub nabo: U16,
    /// Atomic boundary size, power fail.
    pub nabspf: U16,
    /// Optimal I/O boundary, logical blocks; 0 if unknown.
    pub noiob: U16,
    /// Capacity, bytes.
    pub nvmcap: U128,
    /// Preferred write granularity, logical blocks, 0's based.
    pub npwg: U16,
    /// Preferred write alignment.
    pub npwa: U16,
    /// Preferred deallocate granularity.
    pub npdg: U16,
    /// Preferred deallocate alignment.
    pub npda: U16,
    /// Optimal write size.
    pub nows: U16,
    /// Longest source range of a copy.
    pub mssrl: U16,
    /// Longest copy.
    pub mcl: U32,
    /// Most source ranges of a copy, 0's based.
    pub msrc: u8,
    /// Reserved.
    pub reserved81: [u8; 11],
    /// ANA group.
    pub anagrpid: U32,
    /// Reserved.
    pub reserved96: [u8; 3],
    /// Attributes; bit 0 write protected.
    pub nsattr: u8,
    /// NVM set.
    pub nvmsetid: U16,
    /// Endurance group.
    pub endgid: U16,
    /// Globally unique identifier; zero if none.
    pub nguid: [u8; 16],
    /// IEEE extended unique identifier; zero if none.
    pub eui64: [u8; 8],
    /// LBA formats.
    pub lbaf: [LbaFormat; 64],
    /// Vendor specific.
    pub vendor: [u8; 3712],
}

const _: () = assert!(size_of::<IdentifyNamespace>() == IDENTIFY_LEN);

impl IdentifyNamespace {
    /// The LBA format in use. The claimed index always lies inside the table.
    pub fn format(&self) -> LbaFormat {
        let high = if self.nlbaf >= 16 { self.flbas >> 1 & 0x30 } else { 0 };
        self.lbaf[usize::from(self.flbas & 0xf | high)]
    }

    /// Blocks that a fused Compare and Write is atomic for, 0's based, if the namespace has another
    /// number than its controller (NACWU).
    pub fn compare_and_write_unit(&self) -> Option<u16> {
        let has_own = self.features().contains(NsFeatures::ATOMICS);
        has_own.then_some(self.nacwu.get())
    }

    /// Whether writes that cross certain blocks are not atomic (NABSN).
    pub fn has_atomic_boundary(&self) -> bool {
        self.features().contains(NsFeatures::ATOMICS) && self.nabsn.get() != 0
    }

    const fn features(&self) -> NsFeatures {
        NsFeatures::from_bits_retain(self.nsfeat)
    }

    /// Bytes per logical block, if the format in use is a valid one (512 bytes to 2 GiB).
    pub fn block_size(&self) -> Option<u32> {
        let log2 = self.format().data_size_log2;
        (9..32).contains(&log2).then(|| 1 << log2)
    }
}

impl IdentifyNamespace {
    /// The valid LBA formats with their indices.
    pub fn formats(&self) -> impl Iterator<Item = (u8, LbaFormat)> + '_ {
        let count = usize::from(self.nlbaf) + 1;
        let formats = (0..).zip(self.lbaf).take(count);
        formats.filter(|(_, format)| (9..32).contains(&format.data_size_log2))
    }
}

impl Default for IdentifyNamespace {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// A list of up to 1,024 namespace identifiers, ascending, ended by 0 (§5.17.2.2).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NamespaceList {
    /// The identifiers.
    pub nsid: [U32; 1024],
}

const _: () = assert!(size_of::<NamespaceList>() == IDENTIFY_LEN);

impl NamespaceList {
    /// The identifiers before the first 0.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsid.iter().map(|nsid| nsid.get()).take_while(|&nsid| nsid != 0)
    }
}

impl Default for NamespaceList {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One way to identify a namespace (§5.17.2.3, figure 277).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamespaceDescriptor {
    /// Type 1: IEEE extended unique identifier.
    Eui64([u8; 8]),
    /// Type 2: globally unique identifier.
    Nguid([u8; 16]),
    /// Type 3: RFC 9562 UUID.
    Uuid([u8; 16]),
    /// Type 4: the command set.
    CommandSet(super::Csi),
}

impl NamespaceDescriptor {
    /// Type and value bytes; the value is at the front, its length the third.
    const fn parts(self) -> (u8, [u8; 16], u8) {
        match self {
            Self::Eui64([a, b, c, d, e, f, g, h]) => {
                (1, [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0], 8)
            }
            Self::Nguid(value) => (2, value, 16),
            Self::Uuid(value) => (3, value, 16),
            Self::CommandSet(csi) => (4, [csi.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        }
    }

    /// Writes the descriptor at the start of `out`; the bytes written, or `None` if it is too
    /// short.
    pub fn write(self, out: &mut [u8]) -> Option<usize> {
        let (kind, value, len) = self.parts();
        let total = 4 + usize::from(len);
        let out = out.get_mut(..total)?;
        out[..4].copy_from_slice(&[kind, len, 0, 0]);
        out[4..].copy_from_slice(&value[..usize::from(len)]);
        Some(total)
    }
}

/// Reads a Namespace Identification Descriptor list. Unknown types and wrong lengths are skipped;
/// a length past the end stops it.
pub fn namespace_descriptors(list: &[u8]) -> impl Iterator<Item = NamespaceDescriptor> + '_ {
    let mut rest = list;
    core::iter::from_fn(move || {
        let (&[kind, len, _, _], tail) = rest.split_first_chunk::<4>()?;
        let (value, next) = tail.split_at_checked(usize::from(len))?;
        if len == 0 {
            return None;
        }
        rest = next;
        Some(descriptor(kind, value))
    })
    .flatten()
}

fn descriptor(kind: u8, value: &[u8]) -> Option<NamespaceDescriptor> {
    match kind {
        1 => Some(NamespaceDescriptor::Eui64(value.try_into().ok()?)),
        2 => Some(NamespaceDescriptor::Nguid(value.try_into().ok()?)),
        3 => Some(NamespaceDescriptor::Uuid(value.try_into().ok()?)),
        4 => Some(NamespaceDescriptor::CommandSet(super::Csi(*value.first()?))),
        _ => None,
    }
}
