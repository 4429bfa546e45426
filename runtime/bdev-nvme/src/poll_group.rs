use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_env::Registers;
use basalt_nvme::IoQueueStats;
use basalt_reactor::Local;

use crate::controllers::ControllerId;
use crate::queue::CoreQueue;

/// What the queues of one core have done, those of controllers that have gone included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PollGroupStats {
    /// All queue pairs together.
    pub queues: IoQueueStats,
    /// Commands that did not go out when their Io was submitted, but in a later round: further
    /// pieces of a large one, and what was sent again.
    pub queued: u64,
}

impl PollGroupStats {
    const fn plus(self, other: Self) -> Self {
        Self { queues: self.queues.plus(other.queues), queued: self.queued + other.queued }
    }

    /// Those of a core, whose controllers have registers of type `R`. `None` if it has never had a
    /// queue.
    pub fn of<R: Registers>(local: &Local) -> Option<Self> {
        Some(local.service::<CoreQueues<R>>()?.stats())
    }
}

/// The queues of one core, one for each controller: a service of the core.
pub(crate) struct CoreQueues<R: Registers> {
    queues: RefCell<Vec<Rc<CoreQueue<R>>>>,
    /// What those have done that are gone.
    past: Cell<PollGroupStats>,
}

impl<R: Registers> CoreQueues<R> {
    /// This core's instance.
    pub(crate) fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let queues = Rc::new(Self { queues: RefCell::default(), past: Cell::default() });
            local.provide(Rc::clone(&queues));
            queues
        })
    }

    pub(crate) fn add(&self, queue: Rc<CoreQueue<R>>) {
        self.queues.borrow_mut().push(queue);
    }

    pub(crate) fn find(&self, id: ControllerId) -> Option<Rc<CoreQueue<R>>> {
        self.queues.borrow().iter().find(|queue| queue.id == id).map(Rc::clone)
    }

    pub(crate) fn remove(&self, id: ControllerId) {
        for gone in self.queues.borrow_mut().extract_if(.., |queue| queue.id == id) {
            self.past.set(self.past.get().plus(gone.stats()));
        }
    }

    fn stats(&self) -> PollGroupStats {
        let queues = self.queues.borrow();
        queues.iter().fold(self.past.get(), |sum, queue| sum.plus(queue.stats()))
    }
}
