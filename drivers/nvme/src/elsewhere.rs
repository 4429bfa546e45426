//! What a queue of few controllers needs beside its rings and registers.

use basalt_env::{Device, DmaMem, Registers};
use basalt_nvme_spec::QueueId;

use crate::Controller;
use crate::cmb::CmbRing;
use crate::shadow::Shadow;

/// Where else a submission queue's entries or its doorbells are.
///
/// Not both: nothing would order a doorbell in memory behind entries in the controller.
#[derive(Clone, Debug)]
pub(crate) enum Elsewhere<R> {
    /// Its doorbells are in memory.
    Doorbells(Shadow),
    /// Its entries are in the controller.
    Entries(CmbRing<R>),
}

impl<R: Registers> Elsewhere<R> {
    /// The tail of a ring of `entries` goes from `old` to `new`; whether the register has to be
    /// written.
    #[inline(never)]
    pub(crate) fn set_tail(&self, ring: &DmaMem, entries: usize, old: usize, new: usize) -> bool {
        match self {
            Self::Doorbells(shadow) => shadow.set_tail(old as u16, new as u16),
            Self::Entries(place) => {
                place.bring(ring, old, new, entries);
                true
            }
        }
    }

    /// The head of the completion queue is `new`.
    pub(crate) fn set_head(&self, new: u16) {
        if let Self::Doorbells(shadow) = self {
            shadow.set_head(new);
        }
    }

    /// Whether the doorbells are in memory.
    pub(crate) const fn has_doorbells(&self) -> bool {
        matches!(self, Self::Doorbells(_))
    }

    /// Where the controller finds the entries, if not in memory.
    pub(crate) const fn entries_bus(&self) -> Option<u64> {
        match self {
            Self::Doorbells(_) => None,
            Self::Entries(place) => Some(place.bus()),
        }
    }
}

impl<D: Device> Controller<D> {
    /// What queue `qid` of `entries` needs.
    pub(crate) fn elsewhere(&self, qid: QueueId, entries: u16) -> Option<Elsewhere<D::Registers>> {
        let doorbells = self.shadow_of(qid).map(Elsewhere::Doorbells);
        doorbells.or_else(|| self.cmb_ring(qid, entries).map(Elsewhere::Entries))
    }
}
