//! The end of the program, for all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the program is to end, and how. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    asked: AtomicBool,
    failed: AtomicBool,
}

impl Ending {
    /// Asks every core to end.
    pub fn ask(&self) {
        self.state.asked.store(true, Ordering::Release);
    }

    /// Asks every core to end because something went wrong.
    pub fn fail(&self) {
        self.state.failed.store(true, Ordering::Release);
        self.ask();
    }

    /// Whether it is to end.
    pub fn asked(&self) -> bool {
        self.state.asked.load(Ordering::Acquire)
    }

    /// Whether something went wrong.
    pub fn failed(&self) -> bool {
        self.state.failed.load(Ordering::Acquire)
    }
}
