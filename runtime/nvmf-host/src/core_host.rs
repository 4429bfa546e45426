//! One core's connections to remote controllers, and its paths to their namespaces.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_env::{CoreId, Work};
use basalt_net::{ConnectError, Endpoint, NetHandle, NetStack};
use basalt_nvme_spec::{ErrorChange, QueueKind};
use basalt_reactor::{Local, Poller};

use crate::counters::{Counters, HostStats};
use crate::link::Link;
use crate::namespace::{CoreNamespace, Routes};
use crate::queue::{HostQueue, LinkError, QueueOptions};
use crate::{NamespaceId, PathId, Run};

/// How often it is looked for late commands.
const CHECK_PERIOD: Duration = Duration::from_millis(500);

/// Who core 0's news are for: a service of core 0.
pub struct Hear(pub Box<dyn Fn(News)>);

/// What a core tells core 0.
#[derive(Clone, Copy, Debug)]
pub enum News {
    /// A connection of that path is lost, in that run.
    Lost(PathId, Run, LinkError),
    /// A path does not lead to a namespace that it was said to lead to.
    Doubt(PathId),
    /// That command of that queue is to be aborted, in that run of the path.
    Unwanted(PathId, Run, u16, u16),
}

/// A service of its core.
pub struct CoreHost {
    stack: Rc<RefCell<dyn NetStack>>,
    links: RefCell<Vec<Rc<Link>>>,
    namespaces: RefCell<Vec<Rc<CoreNamespace>>>,
    /// What core 0 has not been told yet.
    news: RefCell<VecDeque<News>>,
    pollers: RefCell<Vec<Poller>>,
    counters: Rc<Counters>,
}

impl CoreHost {
    /// This core's instance, with its pollers `bdev_nvme_tcp`; none on a core without a network.
    pub fn of(local: &Local) -> Option<Rc<Self>> {
        if let Some(host) = local.service::<Self>() {
            return Some(host);
        }
        let stack = local.service::<NetHandle>()?.stack();
        let host = Rc::new(Self {
            stack,
            links: RefCell::default(),
            namespaces: RefCell::default(),
            news: RefCell::default(),
            pollers: RefCell::default(),
            counters: Rc::default(),
        });
        let [polled, flushed, checked] = [(); 3].map(|()| Rc::downgrade(&host));
        let poll = local.poller("bdev_nvme_tcp", move |local| {
            polled.upgrade().map_or(Work::IDLE, |host| host.poll(local))
        });
        let flush = local.late_poller("bdev_nvme_tcp_send", move |local| {
            flushed.upgrade().map_or(Work::IDLE, |host| host.flush(local))
        });
        let check = local.timed_poller("bdev_nvme_tcp_check", CHECK_PERIOD, move |local| {
            checked.upgrade().map_or(Work::IDLE, |host| host.check(local))
        });
        host.pollers.borrow_mut().extend([poll, flush, check]);
        local.provide(Rc::clone(&host));
        Some(host)
    }

    /// Tells core 0.
    pub fn tell(local: &Local, news: News) {
        if let Some(host) = Self::of(local) {
            host.news.borrow_mut().push_back(news);
        }
    }

    /// Asks `peer` for a connection that becomes a queue of that path.
    ///
    /// # Errors
    /// The network cannot ask for it; `NoRoom` also if there can be no queue of so many commands.
    pub fn connect(
        &self,
        local: &Local,
        at: (PathId, Run, u16),
        peer: Endpoint,
        options: QueueOptions,
        io_timeout: Option<Duration>,
    ) -> Result<Rc<Link>, ConnectError> {
        let socket = self.stack.borrow_mut().connect(peer)?;
        let Some(queue) = HostQueue::new(socket, options, local) else {
            self.stack.borrow_mut().abort(socket);
            return Err(ConnectError::NoRoom);
        };
        let link = Rc::new(Link::new(local.clone(), at, queue, io_timeout, &self.counters));
        self.links.borrow_mut().push(Rc::clone(&link));
        Ok(link)
    }

    /// Ends a connection.
    pub fn disconnect(&self, link: &Link) {
        link.end(&mut *self.stack.borrow_mut());
        self.links.borrow_mut().retain(|other| !other.is_dead());
    }

    /// Ends all connections of a path.
    pub fn drop_path(&self, path: PathId) {
        let gone: Vec<_> = {
            let mut links = self.links.borrow_mut();
            links.extract_if(.., |link| link.path == path).collect()
        };
        gone.iter().for_each(|link| link.end(&mut *self.stack.borrow_mut()));
    }

    /// Changes which errors the commands of some of these paths' connections get.
    pub fn inject(&self, paths: &[PathId], queues: QueueKind, change: ErrorChange) {
        for link in self.links.borrow().iter() {
            if paths.contains(&link.path) && link.carries_io() == (queues == QueueKind::Io) {
                link.inject(change);
            }
        }
    }

    /// Takes over what core 0 says of a namespace of blocks of `block` bytes.
    pub fn route(&self, id: NamespaceId, block: usize, routes: Routes) {
        let namespace = self.namespace(id).unwrap_or_else(|| {
            let new = CoreNamespace::new(id, block, &self.counters);
            self.namespaces.borrow_mut().push(Rc::clone(&new));
            new
        });
        // The admin queue is the path's first; I/O goes by the others.
        let links = self.links.borrow();
        let by_path = |path| links.iter().rfind(|link| link.path == path && link.carries_io());
        namespace.update(routes, |path| by_path(path).map(Rc::clone));
    }

    /// The namespace is gone.
    pub fn forget(&self, id: NamespaceId) {
        let mut namespaces = self.namespaces.borrow_mut();
        namespaces.extract_if(.., |namespace| namespace.id == id).for_each(|gone| gone.let_go());
    }

    /// What this core knows of a namespace.
    pub fn namespace(&self, id: NamespaceId) -> Option<Rc<CoreNamespace>> {
        self.namespaces.borrow().iter().find(|namespace| namespace.id == id).map(Rc::clone)
    }

    /// The connections of this core that carry I/O.
    pub fn links(&self) -> Vec<Rc<Link>> {
        self.links.borrow().iter().filter(|link| link.carries_io()).map(Rc::clone).collect()
    }

    pub(crate) fn stats(&self) -> HostStats {
        self.counters.read()
    }

    fn poll(&self, local: &Local) -> Work {
        let work = self.on_each(|link, stack| link.receive(stack));
        if !self.links.borrow().is_empty() {
            self.counters.polls.count();
            if !work.is_busy() {
                self.counters.idle_polls.count();
            }
        }
        self.namespaces.borrow().iter().for_each(|namespace| namespace.retry());
        work + self.pass_on(local)
    }

    fn flush(&self, _: &Local) -> Work {
        self.on_each(|link, stack| link.flush(stack))
    }

    fn check(&self, local: &Local) -> Work {
        let now = local.now();
        self.on_each(
            |link, _| if link.is_late(now) { Err(LinkError::Timeout) } else { Ok(Work::IDLE) },
        )
    }

    /// Has every connection do something; those that fail are ended and reported.
    fn on_each(
        &self,
        mut act: impl FnMut(&Link, &mut dyn NetStack) -> Result<Work, LinkError>,
    ) -> Work {
        let links = self.links.borrow();
        if links.is_empty() {
            return Work::IDLE;
        }
        let mut stack = self.stack.borrow_mut();
        let (mut work, mut failed) = (Work::IDLE, false);
        for link in links.iter() {
            match act(link, &mut *stack) {
                Ok(done) => work += done,
                Err(error) => {
                    failed = true;
                    link.fail(&mut *stack, error);
                    self.news.borrow_mut().push_back(News::Lost(link.path, link.run, error));
                }
            }
        }
        drop(links);
        if failed {
            self.links.borrow_mut().retain(|link| !link.is_dead());
        }
        work
    }

    /// Passes news on to core 0; what its mailbox has no room for, in a later round.
    fn pass_on(&self, local: &Local) -> Work {
        let mut waiting = self.news.borrow_mut();
        while let Some(&news) = waiting.front() {
            let tell = move |local: &Local| {
                if let Some(hear) = local.service::<Hear>() {
                    (hear.0)(news);
                }
            };
            if local.send(CoreId::BOOT, tell).is_err() {
                return Work(1);
            }
            waiting.pop_front();
        }
        Work::IDLE
    }
}
