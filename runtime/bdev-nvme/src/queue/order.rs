//! What core 0 has every core do with its queue of a controller.

use basalt_bdev::IoError;
use basalt_env::Registers;
use basalt_nvme::Quiesced;
use basalt_nvme_spec::ErrorChange;

use super::CoreQueue;

/// What is done with a core's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueueOrder {
    /// No more Ios for now.
    Suspend,
    /// Every Io under way is taken back, now that the device is proven quiet: see
    /// `CoreQueue::abort`.
    Abort(Quiesced, IoError),
    /// The device will not come back, or not for this core.
    Close,
    /// The namespace with that identifier has so many blocks now.
    Resize(u32, u64),
    /// Its commands get other errors.
    Inject(ErrorChange),
}

impl<R: Registers> CoreQueue<R> {
    pub(crate) fn obey(&self, order: QueueOrder) {
        match order {
            QueueOrder::Suspend => self.suspend(),
            QueueOrder::Abort(proof, error) => {
                if self.abort(proof, error).is_err() {
                    // Only the proof of another run could fail: the memory stays where it is.
                    log::error!(target: "bdev_nvme", "a queue is of another run of its controller");
                }
            }
            QueueOrder::Close => self.close(),
            QueueOrder::Resize(nsid, blocks) => self.resize(nsid, blocks),
            QueueOrder::Inject(change) => self.inject(change),
        }
    }
}
