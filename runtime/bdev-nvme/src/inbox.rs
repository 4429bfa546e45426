use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, Ref, RefCell};

use basalt_bdev::Io;
use basalt_env::Work;
use basalt_nvme::Namespace;

use crate::split::Limits;

/// Names an [`Inbox`] among those of its core's queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InboxId(u16);

impl InboxId {
    /// Of none.
    pub(crate) const NONE: Self = Self(u16::MAX);
}

/// One channel as the queue of its core sees it: what its Ios are for, and where those wait that
/// were found while another channel was served.
///
/// It has room for all that its channel has in flight, so putting in never allocates. Once the
/// channel is gone, what still arrives is dropped: the device is done with it.
pub(crate) struct Inbox {
    pub(crate) id: InboxId,
    namespace: Cell<Namespace>,
    pub(crate) limits: Limits,
    ended: RefCell<Vec<Io>>,
    in_flight: Cell<usize>,
    depth: usize,
    closed: Cell<bool>,
}

impl Inbox {
    fn new(id: InboxId, namespace: Namespace, limits: Limits, depth: usize) -> Rc<Self> {
        let ended = RefCell::new(Vec::with_capacity(depth));
        let (in_flight, closed) = (Cell::new(0), Cell::new(false));
        let namespace = Cell::new(namespace);
        Rc::new(Self { id, namespace, limits, ended, in_flight, depth, closed })
    }

    /// What its Ios are for.
    #[inline(always)]
    pub(crate) fn namespace(&self) -> Namespace {
        self.namespace.get()
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

    /// So many Ios have come back to the channel.
    #[inline]
    pub(crate) fn settle(&self, count: usize) {
        self.in_flight.set(self.in_flight.get() - count);
    }

    /// An Io has ended.
    #[inline]
    pub(crate) fn put(&self, io: Io) {
        if self.closed.get() {
            self.settle(1);
        } else {
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
        self.settle(count);
        Work(count as u32)
    }

    /// Its channel is gone.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.settle(self.ended.take().len());
    }

    fn is_over(&self) -> bool {
        self.closed.get() && self.in_flight.get() == 0
    }
}

/// The inboxes of one queue. Commands name theirs by number, which costs them less than to hold it.
#[derive(Default)]
pub(crate) struct Inboxes {
    inboxes: RefCell<Vec<Rc<Inbox>>>,
}

impl Inboxes {
    /// A new one with room for `depth` Ios. It takes the place of one that nothing comes to any
    /// more, if there is one. `None` if there are too many.
    pub(crate) fn open(
        &self,
        namespace: Namespace,
        limits: Limits,
        depth: usize,
    ) -> Option<Rc<Inbox>> {
        let mut inboxes = self.inboxes.borrow_mut();
        let at = inboxes.iter().position(|inbox| inbox.is_over()).unwrap_or(inboxes.len());
        let id = u16::try_from(at).ok().map(InboxId).filter(|id| *id != InboxId::NONE)?;
        let inbox = Inbox::new(id, namespace, limits, depth);
        match inboxes.get_mut(at) {
            Some(over) => *over = Rc::clone(&inbox),
            None => inboxes.push(Rc::clone(&inbox)),
        }
        Some(inbox)
    }

    /// The namespace with that identifier has so many blocks now.
    pub(crate) fn resize(&self, nsid: u32, blocks: u64) {
        for inbox in self.inboxes.borrow().iter() {
            if inbox.namespace().nsid() == nsid {
                inbox.namespace.set(inbox.namespace().with_blocks(blocks));
            }
        }
    }

    /// The one of that name.
    #[inline]
    pub(crate) fn get(&self, InboxId(id): InboxId) -> Option<Ref<'_, Inbox>> {
        let inboxes = self.inboxes.borrow();
        Ref::filter_map(inboxes, |inboxes| inboxes.get(usize::from(id)).map(|inbox| &**inbox)).ok()
    }

    /// An Io that came to `id` has ended.
    #[inline]
    pub(crate) fn put(&self, id: InboxId, io: Io) {
        if let Some(inbox) = self.get(id) {
            inbox.put(io);
        }
    }
}
