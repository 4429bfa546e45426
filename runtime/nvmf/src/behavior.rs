//! What the host of a controller has said of itself (Host Behavior Support, base specification 2.0
//! §5.27.1.18), as all queues of the controller go by it.

use core::sync::atomic::{AtomicBool, Ordering};

use basalt_nvme_spec::Status;

/// Length of the feature's data, bytes.
pub(crate) const LEN: usize = 512;
/// Where ACRE is.
const ACRE: usize = 0;
/// CRD: the delay of CRDT1.
const DELAY: u8 = 1;

/// Whether a controller has delays to tell of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delays {
    /// CRDT1 says how long.
    Announced,
    /// It is 0.
    None,
}

/// The behavior of a controller's host. The control plane writes it, the cores of the queues read
/// it when a command has failed.
#[derive(Debug)]
pub(crate) struct HostBehavior {
    /// Whether the host retries as it is told (Advanced Command Retry Enable).
    retries: AtomicBool,
    delays: Delays,
}

impl HostBehavior {
    /// Nothing has been said yet.
    pub(crate) const fn new(delays: Delays) -> Self {
        Self { retries: AtomicBool::new(false), delays }
    }

    /// As by a controller reset.
    pub(crate) fn reset(&self) {
        self.retries.store(false, Ordering::Relaxed);
    }

    /// Takes over the feature's data. Of what else the host may say of itself nothing is made use.
    pub(crate) fn set(&self, data: &[u8]) -> Result<(), Status> {
        let acre = data.get(..LEN).ok_or(Status::SGL_LENGTH_INVALID.with_dnr())?[ACRE];
        if acre > 1 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.retries.store(acre == 1, Ordering::Relaxed);
        Ok(())
    }

    /// The feature's data.
    pub(crate) fn data(&self) -> [u8; LEN] {
        let mut data = [0; LEN];
        data[ACRE] = self.retries.load(Ordering::Relaxed).into();
        data
    }

    /// How a host is told that a command failed with `status`: with a delay if it is to try again
    /// later. Command Interrupted is for hosts only that retry as they are told (base
    /// §3.3.3.2.1.1); others are told the same in older words.
    #[cold]
    pub(crate) fn tell(&self, status: Status) -> Status {
        const LATER: [Status; 4] = [
            Status::INTERRUPTED,
            Status::NAMESPACE_NOT_READY,
            Status::ANA_INACCESSIBLE,
            Status::ANA_TRANSITION,
        ];
        if !self.retries.load(Ordering::Relaxed) {
            let is_unknown = status.is(Status::INTERRUPTED);
            return if is_unknown { Status::NAMESPACE_NOT_READY } else { status };
        }
        let is_later = !status.dnr() && LATER.iter().any(|later| status.is(*later));
        if is_later && self.delays == Delays::Announced { status.with_crd(DELAY) } else { status }
    }
}
