//! What the core that has the controller and the core that has an I/O queue tell each other.

use core::time::Duration;

use basalt_env::PciAddress;
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{QueueId, QueuePriority};

use crate::elsewhere::Elsewhere;

/// What a core needs to make an I/O queue of a controller, which makes it and sends it there.
#[derive(Clone, Debug)]
pub struct QueueSpec<R> {
    pub(crate) registers: R,
    pub(crate) stride: usize,
    pub(crate) address: PciAddress,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
    pub(crate) qid: QueueId,
    pub(crate) entries: u16,
    pub(crate) transfer_max: u64,
    pub(crate) oncs: Oncs,
    pub(crate) sgls: Option<Sgls>,
    pub(crate) elsewhere: Option<Elsewhere<R>>,
    pub(crate) priority: QueuePriority,
    pub(crate) timeout: Duration,
}

impl<R> QueueSpec<R> {
    /// Where a queue made after it is.
    pub(crate) const fn with_rings_at(&self, sq: u64, cq: u64) -> QueueAddress {
        let Self { qid, entries, priority, address, epoch, serial, .. } = *self;
        QueueAddress { qid, entries, sq, cq, priority, address, epoch, serial }
    }

    /// Commands that can be outstanding at once.
    pub const fn depth(&self) -> u16 {
        self.entries - 1
    }

    /// The same with a priority, which counts where [`Controller::has_priorities`] says so; without
    /// one it is medium.
    ///
    /// [`Controller::has_priorities`]: crate::Controller::has_priorities
    #[must_use]
    pub fn with_priority(self, priority: QueuePriority) -> Self {
        Self { priority, ..self }
    }

    /// Most bytes one command moves.
    pub const fn transfer_max(&self) -> u64 {
        self.transfer_max
    }

    /// Optional commands the controller does.
    pub const fn optional_commands(&self) -> Oncs {
        self.oncs
    }
}

/// How transfers are described that are scattered over memory, where lists of pages cannot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sgls {
    /// Most segments of one command.
    pub segments_max: usize,
    /// Bytes that each begins and ends on a multiple of.
    pub granule: usize,
}

impl Sgls {
    /// What a controller says of them (base specification §5.17.2.1, SGLS).
    pub(crate) const fn of(sgls: u32) -> Option<Self> {
        let segments_max = crate::describe::SEGMENTS_MAX;
        match sgls & 0b11 {
            1 => Some(Self { segments_max, granule: 1 }),
            2 => Some(Self { segments_max, granule: 4 }),
            _ => None,
        }
    }
}

/// Where a queue's rings are, for the core that sends the admin commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueAddress {
    pub(crate) qid: QueueId,
    pub(crate) entries: u16,
    pub(crate) sq: u64,
    pub(crate) cq: u64,
    pub(crate) priority: QueuePriority,
    pub(crate) address: PciAddress,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
}

impl QueueAddress {
    /// Queue identifier.
    pub const fn qid(&self) -> QueueId {
        self.qid
    }
}

/// Proof that a controller no longer uses the memory of its queues, or of one of them.
///
/// Good for the run of the controller it ended, not for a later one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quiesced {
    pub(crate) address: PciAddress,
    pub(crate) epoch: u64,
    /// The one queue it is about; `None` for all.
    pub(crate) serial: Option<u64>,
}

impl Quiesced {
    pub(crate) fn covers(&self, queue: &QueueAddress) -> bool {
        self.address == queue.address
            && self.epoch == queue.epoch
            && self.serial.is_none_or(|serial| serial == queue.serial)
    }
}
