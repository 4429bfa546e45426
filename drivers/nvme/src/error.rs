use core::fmt;
use core::time::Duration;

use basalt_env::{BarError, OutOfDmaMemory};
use basalt_nvme_spec::{AdminOpcode, Status};

/// Why a controller could not be brought up or restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// BAR 0, which holds the registers, cannot be used.
    Bar(BarError),
    /// The registers end before the doorbells.
    RegistersTooShort {
        /// Their length, bytes.
        len: usize,
    },
    /// The registers read as all ones: the device is gone.
    Removed,
    /// The controller reports a fatal status (CSTS.CFS).
    Fatal,
    /// The controller does not do the NVM command set.
    NoNvmCommandSet,
    /// The controller does not do 4 KiB pages.
    PageSize,
    /// The controller did not stop in the time it claims to need (CAP.TO).
    NeverStopped {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The controller did not become ready in the time it claims to need (CAP.TO).
    NeverReady {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The controller wants commands or completions of another size.
    EntrySize,
    /// Out of DMA memory.
    NoMemory,
    /// An admin command failed.
    Command {
        /// Which.
        opcode: AdminOpcode,
        /// How.
        error: AdminError,
    },
}

impl From<OutOfDmaMemory> for InitError {
    fn from(_: OutOfDmaMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bar(error) => write!(f, "registers: {error}"),
            Self::RegistersTooShort { len } => write!(f, "only {len} bytes of registers"),
            Self::Removed => f.write_str("the device was removed"),
            Self::Fatal => f.write_str("the controller reports a fatal status"),
            Self::NoNvmCommandSet => f.write_str("the controller lacks the NVM command set"),
            Self::PageSize => f.write_str("the controller does not do 4 KiB pages"),
            Self::NeverStopped { waited } => write!(f, "did not stop within {waited:?}"),
            Self::NeverReady { waited } => write!(f, "did not become ready within {waited:?}"),
            Self::EntrySize => f.write_str("unusual queue entry sizes are required"),
            Self::NoMemory => f.write_str("out of DMA memory; give the machine more memory"),
            Self::Command { opcode, error } => write!(f, "{opcode}: {error}"),
        }
    }
}

/// Why an admin command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminError {
    /// The controller refused or failed it.
    Status(Status),
    /// No answer within the limit; the controller should be reset.
    Timeout,
    /// The device is gone.
    Removed,
    /// The controller reports a fatal status (CSTS.CFS).
    Fatal,
    /// A reset came in between.
    Reset,
    /// All admin slots are in use: try again later.
    QueueFull,
    /// The controller answered something that was not asked; it should be reset.
    BadCompletion,
    /// The driver does not pass this opcode on: it cannot tell how much data it would move.
    NotAllowed,
    /// The buffer is missing, shorter than the data, or longer than two pages.
    BadBuffer,
    /// Out of DMA memory.
    NoMemory,
    /// The controller's answer makes no sense.
    BadData,
    /// The controller says that it does not do this.
    Unsupported,
    /// What was asked for makes no sense for this controller: it was not asked.
    BadArgument,
    /// It would do to all namespaces what was asked for one: it was not asked.
    ReachesAll,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(status) => return status.fmt(f),
            Self::Timeout => "no answer in time",
            Self::Removed => "the device was removed",
            Self::Fatal => "the controller reports a fatal status",
            Self::Reset => "the controller was reset",
            Self::QueueFull => "the admin queue is full",
            Self::BadCompletion => "the controller completed a command that was not outstanding",
            Self::NotAllowed => "the command is not allowed here",
            Self::BadBuffer => "the buffer does not fit the command",
            Self::NoMemory => "out of DMA memory",
            Self::BadData => "the answer makes no sense",
            Self::Unsupported => "the controller does not offer that",
            Self::BadArgument => "what is asked for makes no sense for this controller",
            Self::ReachesAll => {
                "the controller does that to all namespaces together: all must be asked for"
            }
        })
    }
}

/// Why a queue takes no more commands. It stays so until the controller is reset and a new queue
/// is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueError {
    /// The device completed something that is not outstanding.
    BadCompletion {
        /// The identifier it named.
        cid: u16,
    },
    /// A command was not answered in time.
    Timeout,
    /// The controller reports a fatal status (CSTS.CFS).
    Fatal,
    /// The device is gone.
    Removed,
    /// The controller was reset or the queue deleted.
    Stopped,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCompletion { cid } => {
                write!(f, "the device completed command {cid:#06x}, which is not outstanding")
            }
            Self::Timeout => f.write_str("a command was not answered in time"),
            Self::Fatal => f.write_str("the controller reports a fatal status"),
            Self::Removed => f.write_str("the device was removed"),
            Self::Stopped => f.write_str("the queue was stopped"),
        }
    }
}

/// Why a submission was refused. The device has seen nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectReason {
    /// Every slot is in use: poll, then try again.
    QueueFull,
    /// The queue takes no more commands.
    Failed(QueueError),
    /// Blocks outside the namespace, none, or more than one command can name.
    OutOfRange,
    /// The data is not `blocks` × block size bytes long.
    BadLength,
    /// A buffer starts or ends inside a page where PRPs cannot express it: copy to one buffer.
    Misaligned,
    /// More data than one command moves: split. See [`crate::QueueSpec::transfer_max`].
    MaxTransfer,
    /// The controller does not do this.
    Unsupported,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the queue is full",
            Self::Failed(error) => return error.fmt(f),
            Self::OutOfRange => "blocks out of range",
            Self::BadLength => "the data's length is not that of the blocks",
            Self::Misaligned => "buffers not aligned to pages where they meet",
            Self::MaxTransfer => "more data than one command moves",
            Self::Unsupported => "not supported by the controller",
        })
    }
}

/// A refused submission, with what was handed in.
#[derive(Debug)]
pub struct Rejected<T> {
    /// What the command would have carried, unchanged.
    pub payload: T,
    /// Why.
    pub reason: RejectReason,
}

/// The proof is of another controller, an earlier run of it, or another queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotQuiesced;

impl fmt::Display for NotQuiesced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device may still be using the queue")
    }
}

/// Why a namespace is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnusableNamespace {
    /// It has no blocks.
    Empty,
    /// Its block size is not between 512 bytes and 1 MiB.
    BlockSize,
    /// Its blocks carry metadata of which the controller cannot be told: more than a page of it, or
    /// behind each block's data where SGLs are not taken; or protection without room for it.
    Metadata,
    /// It is of another command set.
    CommandSet,
    /// It has zones of no blocks, or whose blocks carry metadata.
    Zones,
}

impl fmt::Display for UnusableNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it has no blocks",
            Self::BlockSize => "its block size is not supported",
            Self::Metadata => {
                "its blocks carry metadata in a way that takes SGLs, which the controller lacks"
            }
            Self::CommandSet => "it is neither of the NVM nor of the zoned command set",
            Self::Zones => "it has zones of no blocks, or whose blocks carry metadata",
        })
    }
}
