use alloc::vec::Vec;

use basalt_nvme_spec::{NvmOpcode, Status};

/// A host identifier.
pub(crate) type HostId = [u8; 16];

/// What a command does to a namespace, as far as reservations are concerned (base specification
/// 2.0 §8.19.1, figure "Command Behavior in the Presence of a Reservation").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// It tells what is there.
    Read,
    /// It may change what is there, or how durable that is.
    Write,
    /// Neither.
    Other,
}

impl Access {
    /// Of an I/O command. A Copy reads as well, but whoever may write may read.
    pub(crate) const fn of(opcode: NvmOpcode) -> Self {
        match opcode {
            NvmOpcode::READ | NvmOpcode::COMPARE | NvmOpcode::VERIFY | NvmOpcode::ZONE_RECEIVE => {
                Self::Read
            }
            NvmOpcode::FLUSH
            | NvmOpcode::WRITE
            | NvmOpcode::WRITE_UNCORRECTABLE
            | NvmOpcode::WRITE_ZEROES
            | NvmOpcode::DATASET_MANAGEMENT
            | NvmOpcode::COPY
            | NvmOpcode::ZONE_SEND
            | NvmOpcode::ZONE_APPEND => Self::Write,
            _ => Self::Other,
        }
    }
}

/// What a reservation keeps other hosts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Excluded {
    /// Writes.
    Writes,
    /// Reads and writes.
    All,
}

impl Excluded {
    /// Whether that leaves an access.
    pub(crate) fn check(self, access: Access) -> Result<(), Status> {
        let is_excluded = match self {
            Self::Writes => access == Access::Write,
            Self::All => access != Access::Other,
        };
        if is_excluded { Err(Status::RESERVATION_CONFLICT.with_dnr()) } else { Ok(()) }
    }
}

/// A reservation as the I/O path sees it.
#[derive(Debug)]
pub(crate) struct Guard {
    /// What other hosts may not do.
    pub(crate) excluded: Excluded,
    /// The hosts that may do everything, ascending.
    pub(crate) hosts: Vec<HostId>,
}

impl Guard {
    /// What `host` may not do.
    pub(crate) fn excluded_for(&self, host: &HostId) -> Option<Excluded> {
        self.hosts.binary_search(host).is_err().then_some(self.excluded)
    }
}
