//! Waking threads that sleep.

use std::sync::Arc;

use basalt_env::CoreId;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::Readiness;

/// A bell for each core. Clones are the same bells.
#[derive(Clone, Debug)]
pub struct Bells {
    bells: Arc<[EventFd]>,
}

impl Bells {
    /// For `cores` cores.
    ///
    /// # Errors
    /// The process may open no more files.
    pub fn new(cores: usize) -> Result<Self, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bells: Result<Vec<_>, Errno> =
            (0..cores).map(|_| EventFd::from_value_and_flags(0, flags)).collect();
        Ok(Self { bells: bells?.into() })
    }

    /// Has the bell of `core` end sleeps on `readiness`, as the file with that token.
    ///
    /// # Errors
    /// The host is out of memory.
    pub fn add_to(&self, readiness: &Readiness, core: CoreId, token: u64) -> Result<(), Errno> {
        self.bells.get(core.index()).map_or(Ok(()), |bell| readiness.add(bell, token))
    }

    /// Ends the sleep of `core`, or its next one.
    pub fn ring(&self, core: CoreId) {
        if let Some(bell) = self.bells.get(core.index()) {
            // Refused only when it was rung 2^64 - 2 times: it rings all the same.
            let _ = bell.write(1);
        }
    }

    /// Ends the sleep of every core, or its next one.
    pub fn ring_all(&self) {
        (0..self.bells.len()).for_each(|core| self.ring(CoreId(core as u16)));
    }
}
