//! A namespace as one core sees it: the paths to it, and which of them an Io takes.

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_bdev::{Io, IoCounters, IoError, Op};
use basalt_nvme_spec::Status;
use basalt_reactor::Local;

use crate::counters::Counters;
use crate::inbox::Inbox;
use crate::link::Link;
use crate::pending::Pending;
use crate::{NamespaceId, PathId};

/// Blocks that one command covers at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Of reads, writes and compares.
    pub transfer: u32,
    /// Of Write Zeroes.
    pub write_zeroes: u32,
    /// Of deallocations.
    pub unmap: u32,
    /// Of Verify.
    pub verify: u32,
    /// Of Write Uncorrectable.
    pub write_uncorrectable: u32,
    /// Of Copy.
    pub copy: u32,
}

impl Limits {
    pub(crate) const fn blocks_of(&self, op: Op) -> u32 {
        match op {
            Op::Read | Op::Write | Op::Compare => self.transfer,
            Op::WriteZeroes => self.write_zeroes,
            Op::Unmap => self.unmap,
            Op::Verify => self.verify,
            Op::WriteUncorrectable => self.write_uncorrectable,
            Op::Copy => self.copy,
            _ => u32::MAX,
        }
    }
}

/// How a namespace can be reached by a path (base specification 2.0 §8.1, ANA states).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// As well as it can be.
    Optimized,
    /// It can be.
    NonOptimized,
    /// Not now, and by this path only.
    Inaccessible,
    /// Not by this path, ever again.
    PersistentLoss,
    /// Not now; what comes after that is not known.
    Changing,
}

impl Access {
    /// Whether commands may go that way.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

/// One path to a namespace.
#[derive(Clone, Debug)]
pub struct Route {
    /// The path.
    pub path: PathId,
    /// What the namespace is called there.
    pub nsid: u32,
    /// How well it is reached by it.
    pub access: Access,
    /// What its controller allows there.
    pub limits: Limits,
    /// Whether the path is preferred to others of the same access.
    pub preferred: bool,
    /// What has gone that way is counted there, if anywhere.
    pub counters: Option<Arc<IoCounters>>,
}

/// What a core has to know of a namespace; core 0 says it.
#[derive(Clone, Debug)]
pub struct Routes {
    /// The paths to it.
    pub routes: Vec<Route>,
    /// Which of them Ios take.
    pub policy: Policy,
    /// Whether Ios wait if there is none.
    pub hope: Hope,
}

/// Which of several paths an Io takes (SPDK's `bdev_nvme_set_multipath_policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The best one, as long as it works.
    ActivePassive,
    /// All of the best access in turn, each so many times in a row.
    RoundRobin {
        /// How many Ios go one way before the next is taken.
        min_io: u32,
    },
    /// Of those of the best access, the one with the fewest commands under way.
    QueueDepth,
}

/// Whether Ios that find no path may wait for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hope {
    /// They may.
    Some,
    /// There has been none for too long (SPDK's `fast_io_fail_timeout_sec`).
    Lost,
    /// The bdev goes.
    Removed,
}

/// One core's paths to one namespace.
pub struct CoreNamespace {
    pub(crate) id: NamespaceId,
    block: usize,
    routes: RefCell<Vec<(Route, Option<Rc<Link>>)>>,
    policy: Cell<Policy>,
    hope: Cell<Hope>,
    /// Which route has its turn, and how many Ios it is still to get.
    turn: Cell<(usize, u32)>,
    inboxes: RefCell<Vec<Rc<Inbox>>>,
    has_parked: Cell<bool>,
    /// Whether there are paths that are counted one by one.
    has_counters: Cell<bool>,
    counters: Rc<Counters>,
}

impl CoreNamespace {
    /// One of blocks of `block` bytes, to which there is no path yet.
    pub(crate) fn new(id: NamespaceId, block: usize, counters: &Rc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            id,
            block,
            routes: RefCell::default(),
            policy: Cell::new(Policy::ActivePassive),
            hope: Cell::new(Hope::Some),
            turn: Cell::new((0, 0)),
            inboxes: RefCell::default(),
            has_parked: Cell::new(false),
            has_counters: Cell::new(false),
            counters: Rc::clone(counters),
        })
    }

    /// A new channel's place.
    pub fn open(self: &Rc<Self>) -> Rc<Inbox> {
        let inbox = Inbox::new(Rc::clone(self));
        let mut inboxes = self.inboxes.borrow_mut();
        inboxes.retain(|inbox| !inbox.is_closed());
        inboxes.push(Rc::clone(&inbox));
        inbox
    }

    /// Takes over what core 0 says. `link_of` knows this core's connections.
    pub(crate) fn update(&self, new: Routes, link_of: impl Fn(PathId) -> Option<Rc<Link>>) {
        let Routes { routes, policy, hope } = new;
        self.has_counters.set(routes.iter().any(|route| route.counters.is_some()));
        let with_link = |route: Route| {
            let link = link_of(route.path);
            (route, link)
        };
        *self.routes.borrow_mut() = routes.into_iter().map(with_link).collect();
        self.policy.set(policy);
        self.hope.set(hope);
        // What has ended there can wait no longer, and what waits may have a path now.
        self.has_parked.set(true);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.hope.get() == Hope::Removed
    }

    /// What Ios that have no path end with, if they are not to wait.
    pub(crate) fn hopeless(&self) -> Option<IoError> {
        let status = Status::PATH_INTERNAL;
        match self.hope.get() {
            Hope::Some => None,
            Hope::Removed => Some(IoError::Removed),
            Hope::Lost if self.routes.borrow().iter().any(is_open) => None,
            Hope::Lost => Some(IoError::Nvme { sct: status.sct(), sc: status.sc(), dnr: false }),
        }
    }

    /// Sends the next command of an Io by the path whose turn it is; gives it back if none has
    /// room.
    pub(crate) fn send(&self, mut pending: Pending) -> Result<(), Pending> {
        let routes = self.routes.borrow();
        let Some(at) = self.choose(&routes) else { return Err(pending) };
        let (route, Some(link)) = &routes[at] else { return Err(pending) };
        let (command, data) = pending.next_command(route.nsid, self.block, &route.limits);
        if !link.is_plain() {
            return link.submit_io_closely(command, data, pending);
        }
        link.submit_io(command, data, pending)
    }

    /// The namespace is not to be reached by that path for now.
    pub(crate) fn avoid(&self, path: PathId) {
        for (route, _) in self.routes.borrow_mut().iter_mut().filter(|(r, _)| r.path == path) {
            if route.access.is_usable() {
                route.access = Access::Changing;
            }
        }
    }

    /// An Io has ended that went by that path.
    pub(crate) fn count(&self, path: PathId, io: &Io, local: &Local) {
        if !self.has_counters.get() {
            return;
        }
        let routes = self.routes.borrow();
        let route = routes.iter().find(|(route, _)| route.path == path);
        if let Some(counters) = route.and_then(|(route, _)| route.counters.as_ref()) {
            counters.record(local.core(), io, local.now());
        }
    }

    /// An Io could not be sent when it came.
    pub(crate) fn note_queued(&self) {
        self.counters.queued_requests.count();
    }

    pub(crate) fn note_parked(&self) {
        self.has_parked.set(true);
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn retry(&self) {
        if !self.has_parked.replace(false) {
            return;
        }
        let inboxes = self.inboxes.borrow();
        let waiting = inboxes.iter().filter(|inbox| !inbox.retry()).count();
        if waiting > 0 {
            self.has_parked.set(true);
        }
    }

    /// It is gone: what waits ends, and its channels, which hold it, are held no longer.
    pub(crate) fn let_go(&self) {
        self.retry();
        self.inboxes.take();
    }

    fn choose(&self, routes: &[(Route, Option<Rc<Link>>)]) -> Option<usize> {
        let open = || routes.iter().enumerate().filter(|(_, route)| is_open(route));
        let best = open().map(|(_, (route, _))| route.access).min()?;
        let mut usable = open().filter(move |(_, (route, _))| route.access == best);
        match self.policy.get() {
            Policy::ActivePassive => {
                usable.min_by_key(|(_, (route, _))| !route.preferred).map(|(at, _)| at)
            }
            Policy::QueueDepth => usable.min_by_key(|(_, route)| depth(route)).map(|(at, _)| at),
            Policy::RoundRobin { min_io } => {
                let (at, left) = self.turn.get();
                let is_open_still = usable.clone().any(|(other, _)| other == at);
                if is_open_still && left > 0 {
                    self.turn.set((at, left - 1));
                    return Some(at);
                }
                let next = usable.clone().find(|(other, _)| *other > at);
                let (next, _) = next.or_else(|| usable.next())?;
                self.turn.set((next, min_io.saturating_sub(1)));
                Some(next)
            }
        }
    }
}

fn is_open((route, link): &(Route, Option<Rc<Link>>)) -> bool {
    route.access.is_usable() && link.as_ref().is_some_and(|link| link.is_live())
}

fn depth((_, link): &(Route, Option<Rc<Link>>)) -> usize {
    link.as_ref().map_or(usize::MAX, |link| link.outstanding())
}
