use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use basalt_env::Work;
use basalt_reactor::Local;

use crate::{Io, Op};

/// What there is to know about a bdev.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BdevInfo {
    /// Unique name, for example `Nvme0n1`.
    pub name: String,
    /// What kind it is, as SPDK prints it, for example `NVMe disk`.
    pub product_name: &'static str,
    /// Bytes per logical block, a power of two from 512.
    pub block_size: u32,
    /// Number of logical blocks now.
    pub num_blocks: BlockCount,
    /// RFC 9562 UUID.
    pub uuid: [u8; 16],
    /// A multiple of this many blocks, aligned, is written fastest; 0 if unknown.
    pub optimal_io_boundary: u32,
}

impl BdevInfo {
    /// Capacity in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.num_blocks.get() * self.block_size as u64
    }
}

/// A size in blocks, which changes when the bdev is resized.
#[derive(Debug)]
pub struct BlockCount(AtomicU64);

impl BlockCount {
    /// The size now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Only the registry changes sizes, as others are to hear of it.
    pub(crate) fn set(&self, blocks: u64) {
        self.0.store(blocks, Ordering::Relaxed);
    }
}

impl From<u64> for BlockCount {
    fn from(blocks: u64) -> Self {
        Self(AtomicU64::new(blocks))
    }
}

impl Clone for BlockCount {
    fn clone(&self) -> Self {
        Self::from(self.get())
    }
}

impl PartialEq for BlockCount {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for BlockCount {}

/// The zones of a bdev, of one size each (SPDK's `zone_size` and the like).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zones {
    /// Blocks from the start of one to that of the next.
    pub blocks: u64,
    /// Most blocks of one append.
    pub append_max: u32,
    /// Most that are open at a time, 0 for no limit.
    pub open_max: u32,
    /// Most that are open or closed, 0 for no limit.
    pub active_max: u32,
}

/// A block device. Shared by all cores; immutable but for atomics.
pub trait Bdev: Send + Sync {
    /// Its properties.
    fn info(&self) -> &BdevInfo;

    /// Whether it accepts `op`.
    fn supports(&self, op: Op) -> bool;

    /// Makes this core's channel (SPDK's `get_io_channel`).
    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError>;

    /// What a write has to be of: so many blocks, from a multiple of so many on, or several of
    /// these. The same is true of whatever else changes blocks. 1 if they may be any.
    fn write_unit(&self) -> u32 {
        1
    }

    /// Most blocks that it compares and writes by itself ([`Op::CompareAndWrite`]), which more are
    /// emulated for; 0 if it does not.
    fn compare_and_write_max(&self) -> u32 {
        0
    }

    /// Its zones, if it has some: it is written in order within each.
    fn zones(&self) -> Option<Zones> {
        None
    }

    /// Whether it can end an Io early ([`IoChannel::abort`]). One whose Ios end within a round has
    /// nothing to do for that.
    fn can_abort(&self) -> bool {
        false
    }

    /// Of a bdev over others: its size in blocks, now that one of those has changed its own. `None`
    /// if that changes nothing.
    fn resized_with_base(&self) -> Option<u64> {
        None
    }

    /// The identifier of the namespace it is, on the controller that gets its
    /// [`Op::NvmeAdmin`]; `None` for what is not just that.
    fn nvme_nsid(&self) -> Option<u32> {
        None
    }

    /// The module-specific part of `bdev_get_bdevs`, as one JSON object.
    fn driver_specific(&self) -> String {
        String::from("{}")
    }
}

/// Why a bdev or its channel cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// There is no bdev of that name.
    NoSuchBdev,
    /// It has no queue on this core.
    NoQueueOnCore,
    /// Out of memory.
    NoMemory,
    /// Somebody else claimed it.
    Claimed,
    /// The device is gone.
    Removed,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchBdev => "there is no bdev of that name",
            Self::NoQueueOnCore => "the device has no queue on this core",
            Self::NoMemory => "out of DMA memory",
            Self::Claimed => "another module has claimed the bdev",
            Self::Removed => "the device was removed",
        })
    }
}

/// Why a submission was refused. Nothing has happened to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectReason {
    /// The queue is full: poll, then try again.
    QueueFull,
    /// Blocks outside the device, or none at all.
    OutOfRange,
    /// The data's length is not `blocks` × block size, or a buffer is not aligned.
    BadBuffer,
    /// The blocks to be changed are not whole write units ([`Bdev::write_unit`]).
    Unaligned,
    /// The bdev does not do this, or it was opened read-only.
    Unsupported,
    /// The device is gone.
    Removed,
}

/// A refused submission, with everything that was handed in.
#[derive(Debug)]
pub struct Rejected {
    /// The Io, unchanged.
    pub io: Io,
    /// Why.
    pub reason: RejectReason,
}

/// One core's way to one bdev.
///
/// Implementations may rely on a [`Channel`](crate::Channel) above them having checked range,
/// support and buffer length. Dropping one with Ios in flight is allowed: it must keep their
/// buffers until the device is done with them.
///
/// An Io is handed on by reference, so that it moves only where somebody keeps it: a layer that
/// passes it on edits it where it lies, on the way down and on the way up.
pub trait IoChannel {
    /// Takes `io` ([`Io::take`]), which the device sees at the end of the core's round at the
    /// latest; or leaves it as it is and says why.
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason>;

    /// Shows each finished Io to `done`, which may take it; what it leaves is dropped. A module
    /// with hardware may leave doorbells and completion queues to a poller of its own, so that a
    /// round costs one of each for all channels.
    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work;

    /// Ends the Ios with that tag early, if it can: as [`IoError::Aborted`](crate::IoError), or as
    /// they would have, whichever comes first, and by a later [`Self::poll`] in any case. Whether
    /// there may be one that ends early now.
    fn abort(&mut self, tag: u64) -> bool {
        let _ = tag;
        false
    }
}
