use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use basalt_env::CoreId;

/// Which cores have a queue of one device, for those that have none ([`remote_channel`]).
///
/// [`remote_channel`]: crate::remote_channel
///
/// Any core reads it; what it says is as old as the last reset. A core that has lost its queue
/// since says so itself.
#[derive(Debug)]
pub struct Lenders {
    cores: Box<[AtomicBool]>,
}

impl Lenders {
    /// For so many cores, none of which has one yet.
    pub fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| AtomicBool::new(false)).collect() }
    }

    /// A core has one now, or no longer.
    pub fn set(&self, core: CoreId, has_queue: bool) {
        if let Some(lends) = self.cores.get(core.index()) {
            lends.store(has_queue, Ordering::Relaxed);
        }
    }

    /// Those that have one.
    pub fn iter(&self) -> impl Iterator<Item = CoreId> + '_ {
        let lends = |(_, lends): &(usize, &AtomicBool)| lends.load(Ordering::Relaxed);
        self.cores.iter().enumerate().filter(lends).map(|(core, _)| CoreId(core as u16))
    }

    /// Who lends to `core`: those that have one take turns.
    pub fn lender_of(&self, core: CoreId) -> Option<CoreId> {
        self.iter().nth(core.index().checked_rem(self.iter().count())?)
    }
}
