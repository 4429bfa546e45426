use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use basalt_env::CoreId;

/// Which cores have a queue pair of one controller, for those that have none.
///
/// Any core reads it; what it says is as old as the last reset. A core that has lost its queue
/// since says so itself.
pub(crate) struct Lenders {
    cores: Box<[AtomicBool]>,
}

impl Lenders {
    /// For so many cores, none of which has one yet.
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| AtomicBool::new(false)).collect() }
    }

    pub(crate) fn set(&self, core: CoreId, has_queue: bool) {
        if let Some(lends) = self.cores.get(core.index()) {
            lends.store(has_queue, Ordering::Relaxed);
        }
    }

    /// Those that have one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = CoreId> {
        let lends = |(_, lends): &(usize, &AtomicBool)| lends.load(Ordering::Relaxed);
        self.cores.iter().enumerate().filter(lends).map(|(core, _)| CoreId(core as u16))
    }

    /// Who lends to `core`: those that have one take turns.
    pub(crate) fn lender_of(&self, core: CoreId) -> Option<CoreId> {
        self.iter().nth(core.index().checked_rem(self.iter().count())?)
    }
}
