use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_bdev::Io;
use basalt_env::Work;

use crate::unit::Unit;

/// Most Ios of one channel that can be under way.
const DEPTH: usize = 512;

/// One channel as the queue of its core sees it: what its Ios are for, and where those wait that
/// have ended.
///
/// It has room for all that its channel has in flight, so putting in never allocates. Once the
/// channel is gone, what still arrives is dropped: the device is done with it.
pub(crate) struct Inbox {
    pub(crate) unit: Unit,
    ended: RefCell<Vec<Io>>,
    in_flight: Cell<usize>,
    closed: Cell<bool>,
}

impl Inbox {
    pub(crate) fn new(unit: Unit) -> Rc<Self> {
        let ended = RefCell::new(Vec::with_capacity(DEPTH));
        Rc::new(Self { unit, ended, in_flight: Cell::new(0), closed: Cell::new(false) })
    }

    /// Whether as many Ios are under way as it has room for.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.get() >= DEPTH
    }

    /// One more Io is under way.
    pub(crate) fn expect(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// An Io has ended.
    pub(crate) fn put(&self, io: Io) {
        if !self.closed.get() {
            self.ended.borrow_mut().push(io);
        }
    }

    /// Hands out what has ended.
    pub(crate) fn drain(&self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let mut ended = self.ended.borrow_mut();
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
