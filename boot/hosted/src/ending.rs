//! The end of the program, for all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use basalt_hosted::Bells;

/// Whether the program is to end, and how. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Ending {
    state: Arc<State>,
    bells: Bells,
}

#[derive(Debug, Default)]
struct State {
    asked: AtomicBool,
    failed: AtomicBool,
}

impl Ending {
    /// Of the cores that `bells` wake.
    pub fn new(bells: Bells) -> Self {
        Self { state: Arc::default(), bells }
    }

    /// Asks every core to end, asleep or not.
    pub fn ask(&self) {
        self.state.asked.store(true, Ordering::Release);
        self.bells.ring_all();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use basalt_env::CoreId;
    use basalt_hosted::Readiness;

    use super::*;

    #[test]
    fn every_core_is_woken_to_end() {
        let bells = Bells::new(2).unwrap();
        let cores: Vec<_> = (0..2).map(|_| Readiness::new().unwrap()).collect();
        for (index, readiness) in (0..).zip(&cores) {
            bells.add_to(readiness, CoreId(index), index.into()).unwrap();
            // To be told once that it can be written to.
            readiness.look(|_| {});
        }
        let ending = Ending::new(bells);
        ending.ask();
        for readiness in &cores {
            // Not woken, it would sleep for longer than a test may take.
            readiness.sleep(Duration::from_secs(3600));
            assert_eq!(readiness.look(|ready| assert!(ready.readable)), 1);
        }
    }
}
