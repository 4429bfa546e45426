use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use basalt_env::{DmaBuf, Instant};

use crate::RejectReason;

/// What an [`Io`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Device to buffers.
    Read,
    /// Buffers to device.
    Write,
    /// All completed writes become durable. `lba` and `blocks` are ignored.
    Flush,
    /// The blocks' contents are no longer needed (deallocate).
    Unmap,
    /// The blocks read as zeroes afterwards.
    WriteZeroes,
    /// Whether the buffers hold what the blocks do; if not, it ends as NVMe's Compare Failure.
    Compare,
    /// Whether the blocks can be read and are as they were written, as far as the device can tell.
    Verify,
    /// The blocks cannot be read until they are written: reads end as NVMe's Unrecovered Read
    /// Error.
    WriteUncorrectable,
    /// Blocks elsewhere on the bdev ([`SgList::Blocks`]) to these.
    Copy,
    /// As [`Op::Compare`] with the first half of the data and, if that is the same, [`Op::Write`]
    /// with the second half; nobody else changes the blocks in between. There are as many bytes of
    /// data as twice the blocks.
    CompareAndWrite,
    /// Blocks to where the next write goes of the zone that begins at `lba`, which is then where
    /// they are.
    ZoneAppend,
    /// The zone, which the blocks are all of, counts as open until it is closed or full.
    ZoneOpen,
    /// It no longer does.
    ZoneClose,
    /// Nothing more is to be written to it.
    ZoneFinish,
    /// Nothing has been written to it.
    ZoneReset,
    /// What there is to be told of the zones from the one of `lba` on: 64 bytes for each (ZNS
    /// §3.4.2.2, figure 37), as many as there is room for, and zeroes after the last.
    ZoneReport,
    /// An NVMe command of the namespace's own command set, as it is ([`SgList::Nvme`]). `lba` and
    /// `blocks` are ignored.
    NvmeIo,
    /// An NVMe command to the controller. `lba` and `blocks` are ignored.
    NvmeAdmin,
    /// The device forgets what it is doing, or all that it is doing ends; then it is as new. `lba`
    /// and `blocks` are ignored.
    Reset,
}

impl Op {
    /// Every operation, for tables indexed by [`Op::index`].
    pub const ALL: [Self; 19] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Unmap,
        Self::WriteZeroes,
        Self::Compare,
        Self::Verify,
        Self::WriteUncorrectable,
        Self::Copy,
        Self::CompareAndWrite,
        Self::ZoneAppend,
        Self::ZoneOpen,
        Self::ZoneClose,
        Self::ZoneFinish,
        Self::ZoneReset,
        Self::ZoneReport,
        Self::NvmeIo,
        Self::NvmeAdmin,
        Self::Reset,
    ];

    /// Position in [`Op::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it moves data between buffers and device.
    pub const fn has_data(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::Write
                | Self::Compare
                | Self::CompareAndWrite
                | Self::ZoneAppend
                | Self::ZoneReport
        )
    }

    /// Whether it is about zones.
    pub const fn is_zoned(self) -> bool {
        let manages =
            matches!(self, Self::ZoneOpen | Self::ZoneClose | Self::ZoneFinish | Self::ZoneReset);
        manages || matches!(self, Self::ZoneAppend | Self::ZoneReport)
    }

    /// Whether it changes blocks that it names.
    pub const fn changes_blocks(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::Unmap
                | Self::WriteZeroes
                | Self::WriteUncorrectable
                | Self::Copy
                | Self::CompareAndWrite
        ) || self.is_zoned() && !matches!(self, Self::ZoneReport)
    }

    /// Whether it is about blocks, and not about the bdev as a whole.
    pub const fn has_blocks(self) -> bool {
        !matches!(self, Self::Flush | Self::Reset | Self::NvmeIo | Self::NvmeAdmin)
    }
}

/// A set of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpSet(u32);

impl OpSet {
    pub(crate) fn of(has: impl Fn(Op) -> bool) -> Self {
        let bit = |op: Op| u32::from(has(op)) << op.index();
        Self(Op::ALL.into_iter().map(bit).fold(0, |set, bit| set | bit))
    }

    #[inline]
    pub(crate) const fn has(self, op: Op) -> bool {
        self.0 & 1 << op.index() != 0
    }

    /// Whether all of `other` are in it.
    pub(crate) const fn has_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

impl core::ops::BitOr for OpSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl core::ops::BitAnd for OpSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The buffers of a transfer, in order. Each contributes its first `len()` bytes.
#[derive(Debug, Default)]
pub enum SgList {
    /// No data.
    #[default]
    Empty,
    /// One buffer: the common case, inline.
    One(DmaBuf),
    /// Several. The vector comes back with the Io, so its owner can use it again.
    Many(Vec<DmaBuf>),
    /// No buffers: the data is that of as many blocks of the bdev, from this one on.
    Blocks(u64),
    /// A command, with its data.
    Nvme(Box<NvmePassthru>),
    /// What several Ios are to write. Who has one of these reads the buffers only, and need not
    /// hand them back.
    Shared(Rc<Vec<DmaBuf>>),
}

impl SgList {
    /// The buffers in order.
    #[inline(always)]
    pub fn as_slice(&self) -> &[DmaBuf] {
        match self {
            Self::Empty | Self::Blocks(_) => &[],
            Self::One(buf) => core::slice::from_ref(buf),
            Self::Many(bufs) => bufs,
            Self::Shared(bufs) => bufs,
            Self::Nvme(passthru) => passthru.data.as_slice(),
        }
    }

    /// The buffers in order, to write; none if they are shared.
    pub fn as_mut_slice(&mut self) -> &mut [DmaBuf] {
        match self {
            Self::Empty | Self::Blocks(_) | Self::Shared(_) => &mut [],
            Self::One(buf) => core::slice::from_mut(buf),
            Self::Many(bufs) => bufs,
            Self::Nvme(passthru) => passthru.data.as_mut_slice(),
        }
    }

    /// Total length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Empty | Self::Blocks(_) => 0,
            Self::One(buf) => buf.len(),
            Self::Many(bufs) => bufs.iter().map(DmaBuf::len).sum(),
            Self::Shared(bufs) => bufs.iter().map(DmaBuf::len).sum(),
            Self::Nvme(passthru) => passthru.data.as_ref().map_or(0, DmaBuf::len),
        }
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `data` here, where nearly always there is none yet, which costs nothing then.
    #[inline]
    pub fn put(&mut self, data: Self) {
        let old = core::mem::replace(self, data);
        if matches!(old, Self::Empty) {
            core::mem::forget(old);
        }
    }
}

/// An NVMe command as its sender wrote it.
///
/// The device reaches `data` and nothing else, whatever the command says.
#[derive(Debug, Default)]
pub struct NvmePassthru {
    /// The submission queue entry (base specification 2.0 §3.3.3.1) in dwords. Identifier, data
    /// and metadata pointers are filled in; so is the namespace of [`Op::NvmeIo`].
    pub command: [u32; 16],
    /// What is sent or comes back; none if the command moves no data. An admin command that failed
    /// does not give it back.
    pub data: Option<DmaBuf>,
    /// Dword 0 of the completion of an admin command.
    pub result: u32,
}

/// Why an accepted [`Io`] failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IoError {
    /// The device reported an NVMe status (base specification 2.0 §3.3.3.2.1).
    Nvme {
        /// Status code type.
        sct: u8,
        /// Status code.
        sc: u8,
        /// Do not retry.
        dnr: bool,
    },
    /// The device did not answer in time and was reset.
    Timeout,
    /// Aborted by a reset or a channel going away.
    Aborted,
    /// The device is gone.
    Removed,
    /// No memory or queue entry could be had even after waiting.
    NoResources,
}

impl IoError {
    /// The kinds that failures are counted by; those with an NVMe status by the type of its code.
    pub const KINDS: [&'static str; 9] = [
        "nvme_generic",
        "nvme_command",
        "nvme_media",
        "nvme_path",
        "nvme_vendor",
        "timeout",
        "aborted",
        "removed",
        "no_resources",
    ];

    /// Position in [`Self::KINDS`].
    pub const fn kind(self) -> usize {
        match self {
            Self::Nvme { sct: sct @ 0..4, .. } => sct as usize,
            Self::Nvme { .. } => 4,
            Self::Timeout => 5,
            Self::Aborted => 6,
            Self::Removed => 7,
            Self::NoResources => 8,
        }
    }

    /// Whether it says that data is not what it was compared with (NVM command set 1.0, figure 8:
    /// Compare Failure).
    pub const fn is_miscompare(self) -> bool {
        matches!(self, Self::Nvme { sct: 2, sc: 0x85, .. })
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nvme { sct, sc, .. } => write!(f, "NVMe status {sct:#x}/{sc:#04x}"),
            Self::Timeout => f.write_str("the device did not answer in time"),
            Self::Aborted => f.write_str("aborted"),
            Self::Removed => f.write_str("the device was removed"),
            Self::NoResources => f.write_str("out of memory or queue entries"),
        }
    }
}

/// How a refusal looks to somebody who only waits for an end: the NVMe status a controller would
/// give (base specification 2.0, figure 102 and NVM command set 1.0, figure 8), not to be retried.
impl From<RejectReason> for IoError {
    fn from(reason: RejectReason) -> Self {
        let generic = |sc| Self::Nvme { sct: 0, sc, dnr: true };
        match reason {
            RejectReason::QueueFull => Self::NoResources,
            RejectReason::OutOfRange => generic(0x80),
            RejectReason::BadBuffer | RejectReason::Unaligned => generic(0x02),
            RejectReason::Unsupported => generic(0x01),
            RejectReason::Removed => Self::Removed,
        }
    }
}

/// How an [`Io`] ended.
pub type IoStatus = Result<(), IoError>;

/// One block operation, owned by whoever holds it.
///
/// Life cycle: built by the submitter -> `submit` moves it into the channel -> `poll` hands it back
/// with `status` set, or `submit` hands it back at once with a reason.
#[derive(Debug)]
pub struct Io {
    /// What to do.
    pub op: Op,
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u32,
    /// The data: for reads and writes exactly `blocks` × block size bytes.
    pub data: SgList,
    /// The submitter's own word; comes back unchanged.
    pub tag: u64,
    /// How it ended; meaningful once it came back from `poll`.
    pub status: IoStatus,
    /// When the [`Channel`](crate::Channel) accepted it; the submitter need not set it.
    pub submitted: Instant,
}

impl Io {
    /// An operation without data: flush, unmap, write zeroes.
    pub fn new(op: Op, lba: u64, blocks: u32, tag: u64) -> Self {
        Self::with_data(op, lba, blocks, SgList::Empty, tag)
    }

    /// An operation with data.
    pub fn with_data(op: Op, lba: u64, blocks: u32, data: SgList, tag: u64) -> Self {
        Self { op, lba, blocks, data, tag, status: Ok(()), submitted: Instant::ZERO }
    }

    /// Copies `blocks` blocks from `from` to `lba`.
    pub fn copy(from: u64, lba: u64, blocks: u32, tag: u64) -> Self {
        Self::with_data(Op::Copy, lba, blocks, SgList::Blocks(from), tag)
    }

    /// Sends an NVMe command: [`Op::NvmeIo`] or [`Op::NvmeAdmin`].
    pub fn nvme(op: Op, passthru: NvmePassthru, tag: u64) -> Self {
        Self::with_data(op, 0, 0, SgList::Nvme(Box::new(passthru)), tag)
    }

    /// Whether it copies blocks to a place that has some of them.
    pub(crate) fn overlaps_itself(&self) -> bool {
        let SgList::Blocks(from) = self.data else { return false };
        from.abs_diff(self.lba) < u64::from(self.blocks)
    }

    /// Whether its blocks are whole units of so many blocks.
    pub(crate) fn is_of_units(&self, unit: u32) -> bool {
        self.lba.is_multiple_of(u64::from(unit)) && self.blocks.is_multiple_of(unit)
    }

    /// Moves it out of where it lies; what stays behind is the same without data.
    #[inline(always)]
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self { data: core::mem::take(&mut self.data), ..*self }
    }
}
