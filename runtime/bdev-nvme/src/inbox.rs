use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_bdev::Io;
use basalt_env::Work;
use basalt_nvme::Namespace;

use crate::split::Limits;

/// One channel as the queue of its core sees it: where its Ios go to, and where they come back.
///
/// It has room for all that its channel has in flight, so putting in never allocates. Once the
/// channel is gone, what still arrives is dropped: the device is done with it.
pub(crate) struct Inbox {
    pub(crate) namespace: Namespace,
    pub(crate) limits: Limits,
    ended: RefCell<Vec<Io>>,
    in_flight: Cell<usize>,
    depth: usize,
    closed: Cell<bool>,
}

impl Inbox {
    pub(crate) fn new(namespace: Namespace, limits: Limits, depth: usize) -> Self {
        let ended = RefCell::new(Vec::with_capacity(depth));
        let (in_flight, closed) = (Cell::new(0), Cell::new(false));
        Self { namespace, limits, ended, in_flight, depth, closed }
    }

    /// Whether as many Ios are under way as it has room for.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.get() >= self.depth
    }

    /// One more Io is under way.
    #[inline]
    pub(crate) fn expect(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// An Io has ended.
    #[inline]
    pub(crate) fn put(&self, io: Io) {
        if !self.closed.get() {
            self.ended.borrow_mut().push(io);
        }
    }

    /// Hands out what has ended.
    #[inline]
    pub(crate) fn drain(&self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let mut ended = self.ended.borrow_mut();
        if ended.is_empty() {
            return Work::IDLE;
        }
        let count = ended.len();
        ended.iter_mut().for_each(done);
        ended.clear();
        self.in_flight.set(self.in_flight.get() - count);
        Work(count as u32)
    }

    /// Its channel is gone.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.ended.take();
    }
}
