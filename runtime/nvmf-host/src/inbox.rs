use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_bdev::{Io, IoError, RejectReason};
use basalt_env::Work;

use crate::namespace::CoreNamespace;
use crate::pending::Pending;

/// Ios of one channel at a time.
pub(crate) const DEPTH: usize = 1024;

/// One channel as its core sees it: where its Ios wait for a path, and where they wait that have
/// ended.
pub struct Inbox {
    pub(crate) namespace: Rc<CoreNamespace>,
    ended: RefCell<Vec<Io>>,
    /// Those that have no path now, pieces that come next, and what is to be tried again.
    parked: RefCell<VecDeque<Pending>>,
    in_flight: Cell<usize>,
    closed: Cell<bool>,
}

impl Inbox {
    pub(crate) fn new(namespace: Rc<CoreNamespace>) -> Rc<Self> {
        Rc::new(Self {
            namespace,
            ended: RefCell::new(Vec::with_capacity(DEPTH)),
            parked: RefCell::default(),
            in_flight: Cell::new(0),
            closed: Cell::new(false),
        })
    }

    /// Takes `io`, or leaves it as it is and says why.
    ///
    /// # Errors
    /// The namespace is gone, or so many Ios are under way, or wait, that this one has no room.
    pub fn submit(self: &Rc<Self>, io: &mut Io) -> Result<(), RejectReason> {
        if self.namespace.is_removed() {
            return Err(RejectReason::Removed);
        }
        // Behind those that wait, all wait.
        if self.in_flight.get() >= DEPTH || !self.parked.borrow().is_empty() {
            return Err(RejectReason::QueueFull);
        }
        self.expect();
        self.send(Pending::new(io.take(), Rc::clone(self)));
        Ok(())
    }

    /// One more Io is under way.
    pub fn expect(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Whether as many Ios are under way as there is room for.
    pub fn is_full(&self) -> bool {
        self.in_flight.get() >= DEPTH
    }

    /// Sends the next command of an Io by some path; if none has room, the Io waits.
    pub(crate) fn send(&self, pending: Pending) {
        if pending.is_given_up() {
            return pending.fail(IoError::Aborted);
        }
        if let Err(pending) = self.namespace.send(pending) {
            self.namespace.note_queued();
            self.park(pending);
        }
    }

    /// It is sent when there is a path. Nobody looks for one to a namespace that is gone.
    pub(crate) fn park(&self, pending: Pending) {
        if self.namespace.is_removed() {
            return pending.fail(IoError::Removed);
        }
        self.namespace.note_parked();
        self.parked.borrow_mut().push_back(pending);
    }

    /// Sends what waits, or fails it if there will be no path. Whether nothing waits any more.
    pub(crate) fn retry(&self) -> bool {
        loop {
            let Some(pending) = self.parked.borrow_mut().pop_front() else { return true };
            if pending.is_given_up() {
                pending.fail(IoError::Aborted);
                continue;
            }
            if let Some(error) = self.namespace.hopeless() {
                pending.fail(error);
                continue;
            }
            if let Err(pending) = self.namespace.send(pending) {
                self.parked.borrow_mut().push_front(pending);
                return false;
            }
        }
    }

    /// Ends those with that tag that wait. Whether there were any.
    pub fn abort_parked(&self, tag: u64) -> bool {
        let mut any = false;
        for pending in self.parked.borrow_mut().iter_mut().filter(|pending| pending.io.tag == tag) {
            pending.give_up();
            any = true;
        }
        any
    }

    /// An Io has ended.
    pub fn put(&self, io: Io) {
        if self.closed.get() {
            self.in_flight.set(self.in_flight.get() - 1);
        } else {
            self.ended.borrow_mut().push(io);
        }
    }

    /// Hands out what has ended.
    pub fn drain(&self, done: &mut dyn FnMut(&mut Io)) -> Work {
        // Whoever is handed one may submit another, which may end at once.
        let mut ended = self.ended.take();
        let count = ended.len();
        ended.iter_mut().for_each(done);
        ended.clear();
        let new = self.ended.replace(ended);
        if !new.is_empty() {
            self.ended.borrow_mut().extend(new);
        }
        self.in_flight.set(self.in_flight.get() - count);
        Work(count as u32)
    }

    /// Its channel is gone: what still comes is dropped.
    pub fn close(&self) {
        self.closed.set(true);
        let count = self.ended.take().len();
        self.in_flight.set(self.in_flight.get() - count);
        // Nobody waits for these.
        let parked = self.parked.take().len();
        self.in_flight.set(self.in_flight.get() - parked);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}
