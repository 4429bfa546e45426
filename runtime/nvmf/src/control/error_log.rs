use alloc::collections::VecDeque;
use alloc::vec::Vec;

use basalt_nvme_spec::Status;
use basalt_nvme_spec::log_page::{DiscoveryEntry, ErrorEntry};
use zerocopy::IntoBytes;

/// Entries a controller keeps (ELPE + 1).
pub(super) const ENTRIES: usize = 64;

/// A command that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// Queue it came by.
    pub(crate) qid: u16,
    /// Its identifier.
    pub(crate) cid: u16,
    /// How it ended.
    pub(crate) status: Status,
    /// Namespace, 0 if it named none.
    pub(crate) nsid: u32,
    /// First block it was about, 0 if none.
    pub(crate) lba: u64,
}

/// A controller's Error Information log (§5.16.1.2).
#[derive(Default)]
pub(super) struct ErrorLog {
    /// Newest first.
    entries: VecDeque<ErrorEntry>,
    /// Failures over the controller's life.
    count: u64,
}

impl ErrorLog {
    /// Adds a failure; the oldest gives way.
    pub(super) fn push(&mut self, failure: &Failure) {
        const NO_PARAMETER: u16 = 0xffff;
        self.count += 1;
        self.entries.truncate(ENTRIES - 1);
        self.entries.push_front(ErrorEntry {
            error_count: self.count.into(),
            sqid: failure.qid.into(),
            cid: failure.cid.into(),
            status_phase: (failure.status.bits() << 1).into(),
            parameter_location: NO_PARAMETER.into(),
            lba: failure.lba.into(),
            nsid: failure.nsid.into(),
            trtype: DiscoveryEntry::TRTYPE_TCP,
            ..ErrorEntry::default()
        });
    }

    /// Forgets the entries, as a controller reset does; counting goes on.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Failures over the controller's life.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The log page: the newest entry first, then unused ones.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENTRIES * size_of::<ErrorEntry>());
        for entry in &self.entries {
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.resize(ENTRIES * size_of::<ErrorEntry>(), 0);
        bytes
    }
}
