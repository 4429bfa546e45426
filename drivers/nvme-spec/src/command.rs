use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{AdminOpcode, Cns, Csi, FeatureId, LogPageId, NvmOpcode, QueuePriority, SglDescriptor};

/// A submission queue entry, 64 bytes (§3.3.3.1).
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
pub struct Command {
    /// Opcode: an [`AdminOpcode`] or [`NvmOpcode`], by queue.
    pub opcode: u8,
    /// Bits 1:0 fused operation, 7:6 PRP or SGL (PSDT).
    pub flags: u8,
    /// Command identifier, unique among the queue's outstanding commands.
    pub cid: U16,
    /// Namespace, 0 where unused.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer.
    pub mptr: U64,
    /// Data pointer: two PRPs or one SGL descriptor.
    pub dptr: [u8; 16],
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

const _: () = assert!(size_of::<Command>() == 64);

/// A queue identifier; 0 is the admin queue.
pub type QueueId = u16;

impl Command {
    /// Flags: data pointer is an SGL, metadata (if any) contiguous (PSDT 01b).
    pub const FLAG_SGL: u8 = 0x40;
    /// Flags: the bits of PSDT.
    pub const FLAG_PSDT_MASK: u8 = 0xc0;
    /// Flags: the bits of a fused operation.
    pub const FLAG_FUSE_MASK: u8 = 0x03;
    /// Flags: the first command of a fused operation.
    pub const FUSE_FIRST: u8 = 0x01;
    /// Flags: the second one.
    pub const FUSE_SECOND: u8 = 0x02;

    /// An admin command with all else zero.
    #[inline]
    pub fn admin(opcode: AdminOpcode) -> Self {
        Self { opcode: opcode.0, ..Self::default() }
    }

    /// An NVM command on `nsid` with all else zero.
    #[inline]
    pub fn nvm(opcode: NvmOpcode, nsid: u32) -> Self {
        Self { opcode: opcode.0, nsid: U32::new(nsid), ..Self::default() }
    }

    /// PRP entry 1.
    pub const fn prp1(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.dptr;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// PRP entry 2.
    pub const fn prp2(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.dptr;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Sets both PRP entries.
    #[inline]
    pub fn set_prps(&mut self, prp1: u64, prp2: u64) {
        let pair = u128::from(prp2) << 64 | u128::from(prp1);
        self.dptr = pair.to_le_bytes();
    }

    /// Whether the data pointer is an SGL descriptor (PSDT not 00b).
    pub const fn uses_sgl(&self) -> bool {
        self.flags & Self::FLAG_PSDT_MASK != 0
    }

    /// The data pointer as SGL descriptor 1.
    pub fn sgl1(&self) -> SglDescriptor {
        zerocopy::transmute!(self.dptr)
    }

    /// Sets SGL descriptor 1 and the flag that says so.
    pub fn set_sgl1(&mut self, sgl: SglDescriptor) {
        self.dptr = zerocopy::transmute!(sgl);
        self.flags = (self.flags & !Self::FLAG_PSDT_MASK) | Self::FLAG_SGL;
    }

    /// Identify (§5.17). `nsid` is 0 where the structure is not a namespace's.
    pub fn identify(cns: Cns, nsid: u32) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(cns.0)),
            ..Self::admin(AdminOpcode::IDENTIFY)
        }
    }

    /// Identify for one command set (§5.17, CNS 05h, 06h and the like).
    pub fn identify_csi(cns: Cns, nsid: u32, csi: Csi) -> Self {
        Self { cdw11: U32::new(u32::from(csi.0) << 24), ..Self::identify(cns, nsid) }
    }

    /// Get Log Page (§5.16): `bytes` (a multiple of 4, at least 4) from byte `offset`.
    pub fn get_log_page(page: LogPageId, nsid: u32, offset: u64, bytes: u32) -> Self {
        let dwords = (bytes / 4).saturating_sub(1);
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(page.0) | (dwords & 0xffff) << 16),
            cdw11: U32::new(dwords >> 16),
            cdw12: U32::new(offset as u32),
            cdw13: U32::new((offset >> 32) as u32),
            ..Self::admin(AdminOpcode::GET_LOG_PAGE)
        }
    }

    /// Bytes a Get Log Page asks for (NUMD, 0's based dwords).
    pub const fn log_bytes(&self) -> u64 {
        let dwords = (self.cdw11.get() as u64 & 0xffff) << 16 | self.cdw10.get() as u64 >> 16;
        (dwords + 1) * 4
    }

    /// Where in the page a Get Log Page starts, bytes.
    pub const fn log_offset(&self) -> u64 {
        (self.cdw13.get() as u64) << 32 | self.cdw12.get() as u64
    }

    /// Set Features (§5.27) with `cdw11` and no data.
    pub fn set_features(feature: FeatureId, cdw11: u32) -> Self {
        Self {
            cdw10: U32::new(u32::from(feature.0)),
            cdw11: U32::new(cdw11),
            ..Self::admin(AdminOpcode::SET_FEATURES)
        }
    }

    /// Get Features (§5.15): the current value.
    pub fn get_features(feature: FeatureId, nsid: u32) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(feature.0)),
            ..Self::admin(AdminOpcode::GET_FEATURES)
        }
    }

    /// Create I/O Completion Queue (§5.4), contiguous, no interrupts.
    /// `entries` is the size, not 0's based.
    pub fn create_io_cq(qid: QueueId, entries: u16, base: u64) -> Self {
        let mut command = Self::admin(AdminOpcode::CREATE_IO_CQ);
        command.cdw10 = queue_dword(qid, entries);
        command.cdw11 = U32::new(1);
        command.set_prps(base, 0);
        command
    }

    /// Has a Create I/O Completion Queue ask for message `vector` with each completion (§5.4.1).
    #[must_use]
    pub fn with_interrupt(mut self, vector: u16) -> Self {
        const ENABLED: u32 = 1 << 1;
        self.cdw11 = U32::new(self.cdw11.get() | u32::from(vector) << 16 | ENABLED);
        self
    }

    /// Create I/O Submission Queue (§5.5), contiguous, without a priority.
    /// `entries` is the size, not 0's based.
    pub fn create_io_sq(qid: QueueId, entries: u16, base: u64, cqid: QueueId) -> Self {
        let mut command = Self::admin(AdminOpcode::CREATE_IO_SQ);
        command.cdw10 = queue_dword(qid, entries);
        command.cdw11 = U32::new(u32::from(cqid) << 16 | 1);
        command.set_prps(base, 0);
        command
    }

    /// Has a Create I/O Submission Queue name its priority (§5.5), which counts only where
    /// [`Cc::AMS_WEIGHTED`](crate::Cc::AMS_WEIGHTED) was selected.
    #[must_use]
    pub fn with_priority(mut self, priority: QueuePriority) -> Self {
        self.cdw11 = U32::new(self.cdw11.get() & !0b110 | (priority as u32) << 1);
        self
    }

    /// The bits of the priority that a Create I/O Submission Queue names.
    pub const fn priority_bits(&self) -> u32 {
        self.cdw11.get() >> 1 & 3
    }

    /// Delete I/O Submission Queue (§5.7).
    pub fn delete_io_sq(qid: QueueId) -> Self {
        Self { cdw10: U32::new(u32::from(qid)), ..Self::admin(AdminOpcode::DELETE_IO_SQ) }
    }

    /// Delete I/O Completion Queue (§5.6).
    pub fn delete_io_cq(qid: QueueId) -> Self {
        Self { cdw10: U32::new(u32::from(qid)), ..Self::admin(AdminOpcode::DELETE_IO_CQ) }
    }

    /// Abort (§5.1): command `cid` of submission queue `sqid`.
    pub fn abort(sqid: QueueId, cid: u16) -> Self {
        let cdw10 = u32::from(cid) << 16 | u32::from(sqid);
        Self { cdw10: U32::new(cdw10), ..Self::admin(AdminOpcode::ABORT) }
    }

    /// Doorbell Buffer Config (§5.8): a page of doorbells, and one of where the controller wants to
    /// be told of them.
    pub fn doorbell_buffer(doorbells: u64, events: u64) -> Self {
        let mut command = Self::admin(AdminOpcode::DOORBELL_BUFFER_CONFIG);
        command.set_prps(doorbells, events);
        command
    }

    /// Asynchronous Event Request (§5.2).
    pub fn async_event_request() -> Self {
        Self::admin(AdminOpcode::ASYNC_EVENT_REQUEST)
    }

    /// Keep Alive (§5.18).
    pub fn keep_alive() -> Self {
        Self::admin(AdminOpcode::KEEP_ALIVE)
    }
}

const fn queue_dword(qid: QueueId, entries: u16) -> U32 {
    U32::new((entries.saturating_sub(1) as u32) << 16 | qid as u32)
}
