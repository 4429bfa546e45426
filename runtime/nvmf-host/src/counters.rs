use core::cell::Cell;

use basalt_reactor::Local;

use crate::core_host::CoreHost;

/// What one core's connections for I/O to remote controllers have done, those that have ended
/// included; by the names of SPDK's `bdev_nvme_get_transport_statistics`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostStats {
    /// Rounds in which it was looked for answers.
    pub polls: u64,
    /// Those of them that found none.
    pub idle_polls: u64,
    /// Times that a connection had something.
    pub socket_completions: u64,
    /// Commands that have ended.
    pub nvme_completions: u64,
    /// Ios that had to wait for room, or for a path.
    pub queued_requests: u64,
    /// Commands that were handed to a connection.
    pub submitted_requests: u64,
}

impl HostStats {
    /// Those of a core. `None` if it has never had a connection to a controller.
    pub fn of(local: &Local) -> Option<Self> {
        Some(local.service::<CoreHost>()?.stats())
    }
}

/// The same while it is counted.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) polls: Counter,
    pub(crate) idle_polls: Counter,
    pub(crate) socket_completions: Counter,
    pub(crate) nvme_completions: Counter,
    pub(crate) queued_requests: Counter,
    pub(crate) submitted_requests: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Counters {
    pub(crate) fn read(&self) -> HostStats {
        HostStats {
            polls: self.polls.0.get(),
            idle_polls: self.idle_polls.0.get(),
            socket_completions: self.socket_completions.0.get(),
            nvme_completions: self.nvme_completions.0.get(),
            queued_requests: self.queued_requests.0.get(),
            submitted_requests: self.submitted_requests.0.get(),
        }
    }
}
