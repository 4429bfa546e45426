//! Discovery: the subsystems that a discovery service tells of are attached, and let go of when it
//! no longer tells of them (base specification 2.0 §5.16.1.23; SPDK's `bdev_nvme_start_discovery`).

mod log_page;

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_nvme_spec::Command;
use basalt_nvme_spec::fabrics::DISCOVERY_NQN;
use basalt_reactor::Local;
use basalt_reactor::sync::Notify;

use super::Doing;
use super::error::PathError;
use super::options::{RemoteOptions, TransportId};
use super::remotes::{Multipath, RemoteError, Remotes};
use super::session::{Plan, Session};
use basalt_nvmf_host::CoreHost;
use basalt_nvmf_host::Data;
use basalt_nvmf_host::PathId;
use log_page::Entry;

/// How long to wait before what has failed is tried again, where no other time was set.
const DELAY: Duration = Duration::from_secs(2);

/// What to look for, and how what is found is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryOptions {
    /// Its name, from which its controllers get theirs: `Far` gives `Far0`, `Far1`.
    pub name: String,
    /// The discovery service.
    pub transport: TransportId,
    /// How its controllers are used; name and subsystem are filled in.
    pub remote: RemoteOptions,
}

/// A discovery service that is followed, as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryInfo {
    /// Its name.
    pub name: String,
    /// Where the service is that is followed now.
    pub transport: TransportId,
    /// Others it has told of: one of them is followed when this one is lost.
    pub referrals: Vec<TransportId>,
}

/// A subsystem that was found.
struct Found {
    controller: String,
    subnqn: String,
    paths: Vec<TransportId>,
}

/// One discovery service, and those it refers to: as in SPDK they are taken for ways to the same
/// knowledge, of which one is used at a time.
///
/// ```text
///   connecting -> reading the log -> attaching, detaching -> waiting -(log changed)-> reading
///       ^                 | lost           |                    | lost
///       +--- the next ----+----------------+--------------------+        stop: all is detached
/// ```
struct Discovery {
    local: Local,
    options: DiscoveryOptions,
    path: PathId,
    found: RefCell<Vec<Found>>,
    /// The service in use.
    at: Cell<TransportId>,
    /// The others, the next one first.
    referrals: RefCell<Vec<TransportId>>,
    next: Cell<u32>,
    /// Something has happened that the task is to look at.
    asked: Notify,
    is_stopping: Cell<bool>,
    has_changed: Cell<bool>,
    is_lost: Cell<bool>,
    /// Whether all that was told of has been attached once.
    is_settled: Cell<bool>,
    settled: Notify,
    stopped: Notify,
}

/// All discovery services that are followed: a service of core 0.
#[derive(Default)]
pub struct Discoveries {
    all: RefCell<Vec<Rc<Discovery>>>,
}

impl Discoveries {
    /// This core's instance; it means something on core 0 only.
    pub fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let discoveries = Rc::new(Self::default());
            local.provide(Rc::clone(&discoveries));
            discoveries
        })
    }

    /// Follows a discovery service from now on.
    ///
    /// # Errors
    /// One of that name, or at that address, is followed already.
    pub fn start(&self, local: &Local, options: DiscoveryOptions) -> Result<(), RemoteError> {
        let all = &mut *self.all.borrow_mut();
        if all.iter().any(|other| other.options.name == options.name) {
            return Err(RemoteError::NameTaken);
        }
        if all.iter().any(|other| other.knows(options.transport)) {
            return Err(RemoteError::PathTaken);
        }
        let discovery = Rc::new(Discovery {
            local: local.clone(),
            at: Cell::new(options.transport),
            options,
            path: Remotes::of(local).next_path(),
            found: RefCell::default(),
            referrals: RefCell::default(),
            next: Cell::new(0),
            asked: Notify::new(),
            is_stopping: Cell::new(false),
            has_changed: Cell::new(false),
            is_lost: Cell::new(false),
            is_settled: Cell::new(false),
            settled: Notify::new(),
            stopped: Notify::new(),
        });
        all.push(Rc::clone(&discovery));
        local.spawn("bdev_nvme_discovery", discovery.run());
        Ok(())
    }

    /// Waits until all that a service tells of has been attached once.
    ///
    /// # Errors
    /// There is no such service, or it is followed no longer.
    pub fn settled<'a>(&'a self, name: &'a str) -> Doing<'a, ()> {
        Box::pin(self.wait_until_settled(name))
    }

    async fn wait_until_settled(&self, name: &str) -> Result<(), RemoteError> {
        let discovery = self.find(name).ok_or(RemoteError::NoSuchController)?;
        while !discovery.is_settled.get() {
            if discovery.is_stopping.get() {
                return Err(RemoteError::NoSuchController);
            }
            discovery.settled.notified().await;
        }
        Ok(())
    }

    /// Follows a service no longer, and lets go of all that it has told of.
    ///
    /// # Errors
    /// There is no such service.
    pub fn stop<'a>(&'a self, name: &'a str) -> Doing<'a, ()> {
        Box::pin(self.stop_following(name))
    }

    async fn stop_following(&self, name: &str) -> Result<(), RemoteError> {
        let discovery = self.find(name).ok_or(RemoteError::NoSuchController)?;
        discovery.is_stopping.set(true);
        discovery.asked.notify_one();
        discovery.settled.notify_all();
        discovery.stopped.notified().await;
        Ok(())
    }

    /// All services in the order of their start.
    pub fn list(&self) -> Vec<DiscoveryInfo> {
        let info = |discovery: &Rc<Discovery>| DiscoveryInfo {
            name: discovery.options.name.clone(),
            transport: discovery.at.get(),
            referrals: discovery.referrals.borrow().clone(),
        };
        self.all.borrow().iter().map(info).collect()
    }

    fn find(&self, name: &str) -> Option<Rc<Discovery>> {
        self.all.borrow().iter().find(|other| other.options.name == name).map(Rc::clone)
    }
}

impl Discovery {
    async fn run(self: Rc<Self>) {
        while !self.is_stopping.get() {
            if let Err(error) = self.follow().await {
                let (name, peer) = (&self.options.name, self.at.get().peer);
                log::warn!(target: "bdev_nvme", "{name}: discovery at {peer}: {error}");
                self.turn_to_next();
            }
            self.drop_link();
            if !self.is_stopping.get() {
                // Either there was something to look at, or it is time for another try.
                let _ = self.local.timeout(self.delay(), self.asked.notified()).await;
            }
        }
        self.agree_on(Vec::new()).await;
        let discoveries = Discoveries::of(&self.local);
        discoveries.all.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self));
        self.stopped.notify_all();
    }

    /// One association with the service, from its Connect to its loss, or to the end.
    async fn follow(&self) -> Result<(), PathError> {
        let session = Session::open(&self.local, &self.plan()).await?;
        self.is_lost.set(false);
        self.listen(&session);
        loop {
            self.has_changed.set(false);
            let entries = log_page::read(&session).await?;
            let complete = self.agree_on(entries).await;
            self.is_settled.set(self.is_settled.get() || complete);
            self.settled.notify_all();
            let again = self.local.now() + self.delay();
            while !self.has_changed.get() {
                if self.is_stopping.get() {
                    session.shut_down().await;
                    return Ok(());
                }
                if self.is_lost.get() {
                    return Err(PathError::Dropped);
                }
                if !complete && self.local.now() >= again {
                    break;
                }
                self.wait(&session, complete).await?;
            }
        }
    }

    /// Waits until there is something to look at, but not for long; lets the service hear from us.
    async fn wait(&self, session: &Session, complete: bool) -> Result<(), PathError> {
        let keep_alive = Some(session.keep_alive / 2).filter(|period| !period.is_zero());
        let again = (!complete).then(|| self.delay());
        let asked = self.asked.notified();
        let Some(period) = keep_alive.into_iter().chain(again).min() else {
            asked.await;
            return Ok(());
        };
        match self.local.timeout(period, asked).await {
            Err(_) if keep_alive.is_some() => session.keep_alive().await,
            _ => Ok(()),
        }
    }

    /// Attaches what is new and detaches what is gone. Whether all could be attached.
    async fn agree_on(&self, entries: Vec<Entry>) -> bool {
        self.note_referrals(&entries);
        let told: Vec<&Entry> = entries.iter().filter(|entry| !entry.is_referral).collect();
        let remotes = Remotes::of(&self.local);
        for (controller, path) in self.take_gone(&told) {
            // It may have been given up, or detached by somebody else.
            let _ = remotes.detach(&controller, Some(path)).await;
        }
        let mut complete = true;
        for Entry { subnqn, transport, .. } in told {
            complete &= self.attach(&remotes, subnqn, *transport).await;
        }
        complete
    }

    /// The others are those that the service tells of now, and the one that we were told to use.
    fn note_referrals(&self, entries: &[Entry]) {
        let told = entries.iter().filter(|entry| entry.is_referral).map(|entry| entry.transport);
        let mut others: Vec<TransportId> = Vec::new();
        for other in told.chain([self.options.transport]) {
            if other != self.at.get() && !others.contains(&other) {
                others.push(other);
            }
        }
        *self.referrals.borrow_mut() = others;
    }

    /// Another service is asked next, if there is one.
    fn turn_to_next(&self) {
        let mut others = self.referrals.borrow_mut();
        if !others.is_empty() {
            let next = others.remove(0);
            others.push(self.at.replace(next));
        }
    }

    fn knows(&self, transport: TransportId) -> bool {
        self.at.get() == transport || self.referrals.borrow().contains(&transport)
    }

    /// Forgets the paths that are not told of any more, and gives them.
    fn take_gone(&self, told: &[&Entry]) -> Vec<(String, TransportId)> {
        let mut gone = Vec::new();
        let mut found = self.found.borrow_mut();
        for Found { controller, subnqn, paths } in found.iter_mut() {
            let is_told = |path: &TransportId| {
                told.iter().any(|entry| entry.subnqn == *subnqn && entry.transport == *path)
            };
            let left = paths.extract_if(.., |path| !is_told(path));
            gone.extend(left.map(|path| (controller.clone(), path)));
        }
        found.retain(|found| !found.paths.is_empty());
        gone
    }

    async fn attach(&self, remotes: &Remotes, subnqn: &str, transport: TransportId) -> bool {
        let controller = {
            let found = self.found.borrow();
            let known = found.iter().find(|found| found.subnqn == subnqn);
            if known.is_some_and(|found| found.paths.contains(&transport)) {
                return true;
            }
            known.map(|found| found.controller.clone())
        };
        let controller = controller.unwrap_or_else(|| {
            format!("{}{}", self.options.name, self.next.replace(self.next.get() + 1))
        });
        let options = RemoteOptions {
            name: controller.clone(),
            subnqn: subnqn.into(),
            ..self.options.remote.clone()
        };
        match remotes.attach(options, transport, Multipath::Multipath).await {
            Ok(_) => {
                self.note(controller, subnqn, transport);
                true
            }
            Err(error) => {
                let peer = transport.peer;
                log::warn!(target: "bdev_nvme", "{controller}: {subnqn} at {peer}: {error}");
                false
            }
        }
    }

    fn note(&self, controller: String, subnqn: &str, path: TransportId) {
        let mut found = self.found.borrow_mut();
        match found.iter_mut().find(|found| found.subnqn == subnqn) {
            Some(known) => known.paths.push(path),
            None => {
                let (subnqn, paths) = (subnqn.into(), Vec::from([path]));
                found.push(Found { controller, subnqn, paths });
            }
        }
    }

    /// Has the service tell of changes, until its queue is gone.
    fn listen(&self, session: &Session) {
        let (link, local) = (Rc::clone(&session.admin), self.local.clone());
        let name = self.options.name.clone();
        self.local.spawn("bdev_nvme_events", async move {
            loop {
                let command = Command::async_event_request();
                let answer = link.call(command, Data::None, None).await;
                let told = answer.is_ok_and(|answer| answer.completion.status().is_success());
                let Some(discovery) = Discoveries::of(&local).find(&name) else { return };
                let news = if told { &discovery.has_changed } else { &discovery.is_lost };
                news.set(true);
                discovery.asked.notify_one();
                if !told {
                    return;
                }
            }
        });
    }

    fn plan(&self) -> Plan {
        let remote = &self.options.remote;
        Plan {
            path: self.path,
            run: 0,
            peer: self.at.get().peer,
            subnqn: DISCOVERY_NQN.into(),
            host: remote.host.clone(),
            digests: remote.digests,
            entries: 0,
            io_queues: 0,
            keep_alive: remote.keep_alive,
            connect_timeout: remote.connect_timeout,
            io_timeout: None,
        }
    }

    fn delay(&self) -> Duration {
        let delay = self.options.remote.reconnect.delay;
        if delay.is_zero() { DELAY } else { delay }
    }

    fn drop_link(&self) {
        if let Some(host) = CoreHost::of(&self.local) {
            host.drop_path(self.path);
        }
    }
}
