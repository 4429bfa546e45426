//! All remote subsystems: a service of core 0.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use basalt_bdev::{IoStat, Registry};
use basalt_env::CoreId;
use basalt_nvme_spec::fabrics::NQN_LEN_MAX;
use basalt_nvme_spec::{Command, ErrorChange, QueueKind};
use basalt_reactor::Local;
use basalt_reactor::sync::oneshot;

use super::Doing;
use super::error::PathError;
use super::options::{RemoteOptions, TransportId};
use super::path::{Path, PathState, Request};
use super::remote::Remote;
use basalt_nvmf_host::{Access, Policy};
use basalt_nvmf_host::{CoreHost, PathId};
use basalt_nvmf_host::{Hear, News};

/// Paths of one subsystem.
const PATHS_MAX: usize = 16;

/// What a further path to a controller that is attached already is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Multipath {
    /// An error.
    Disable,
    /// One to change over to when the one in use fails. It is connected at once, as with
    /// [`Self::Multipath`], and shown as a path, whereas SPDK keeps its address only.
    Failover,
    /// One of several.
    Multipath,
}

/// Why a controller could not be attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoteError {
    /// This core has no registry of bdevs: it is not the boot core.
    NoRegistry,
    /// A name that is empty or too long, or has characters that it cannot have.
    BadName,
    /// A controller of that name is attached, and there is to be no further path.
    NameTaken,
    /// A path of that address is there.
    PathTaken,
    /// It is of another subsystem, or of another host.
    OtherController,
    /// It has as many paths as it may have.
    TooManyPaths,
    /// There is no controller of that name.
    NoSuchController,
    /// It has no path of that address.
    NoSuchPath,
    /// There is no remote bdev of that name.
    NoSuchBdev,
    /// It cannot be used.
    Path(PathError),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRegistry => "controllers are attached on the boot core only",
            Self::BadName => {
                "a qualified name has 1 to 223 bytes, a controller's name at least one"
            }
            Self::NameTaken => "a controller of that name is attached already",
            Self::PathTaken => "the controller has a path of that address already",
            Self::OtherController => {
                "the controller of that name has another 'subnqn' or 'hostnqn'"
            }
            Self::TooManyPaths => "the controller has as many paths as it may have",
            Self::NoSuchController => "there is no NVMe controller of that name",
            Self::NoSuchBdev => "there is no bdev of that name on a remote controller",
            Self::NoSuchPath => "the controller has no path of that address",
            Self::Path(error) => return error.fmt(f),
        })
    }
}

/// A path as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathInfo {
    /// Where it leads.
    pub transport: TransportId,
    /// Where it stands.
    pub state: PathState,
    /// The controller's identifier.
    pub cntlid: u16,
    /// What it says of itself; none if it has never been connected.
    pub controller: Option<ControllerData>,
}

/// What a controller says of itself, as it was when last connected (base specification 2.0
/// §5.17.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControllerData {
    /// PCI vendor identifier.
    pub vid: u16,
    /// Model number, ASCII padded with spaces.
    pub model: [u8; 40],
    /// Serial number, alike.
    pub serial: [u8; 20],
    /// Firmware revision, alike.
    pub firmware: [u8; 8],
    /// CMIC: how it shares its subsystem.
    pub cmic: u8,
}

/// A namespace of a remote controller as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteBdevInfo {
    /// The bdev's name.
    pub name: String,
    /// The namespace's identifier.
    pub nsid: u32,
    /// Which of its paths Ios take.
    pub policy: Policy,
    /// Its paths.
    pub paths: Vec<Way>,
}

/// What has gone by a path of a bdev.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathStat {
    /// Where it leads.
    pub transport: TransportId,
    /// The qualified name of the subsystem there.
    pub subnqn: String,
    /// What it was; none if it is not counted ([`RemoteOptions::io_path_stat`]).
    pub stat: Option<IoStat>,
}

/// A path to a namespace as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Its place in [`RemoteInfo::paths`].
    pub path: usize,
    /// How well the namespace is reached by it.
    pub access: Access,
    /// Whether it is preferred to others of the same access.
    pub preferred: bool,
}

/// An attached remote controller as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteInfo {
    /// Its name.
    pub name: String,
    /// The subsystem's qualified name.
    pub subnqn: String,
    /// The host's.
    pub hostnqn: String,
    /// The ways to it.
    pub paths: Vec<PathInfo>,
    /// Its bdevs.
    pub bdevs: Vec<RemoteBdevInfo>,
}

/// All remote controllers that are attached: a service of core 0.
pub struct Remotes {
    local: Local,
    remotes: RefCell<Vec<Rc<Remote>>>,
    numbers: Cell<u32>,
    paths: Cell<u32>,
}

impl Remotes {
    /// This core's instance; it means something on core 0 only.
    pub fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let remotes = Rc::new(Self {
                local: local.clone(),
                remotes: RefCell::default(),
                numbers: Cell::new(0),
                paths: Cell::new(0),
            });
            let hears = Rc::downgrade(&remotes);
            local.provide(Rc::new(Hear(Box::new(move |news| {
                hears.upgrade().into_iter().for_each(|remotes| remotes.hear(news));
            }))));
            local.provide(Rc::clone(&remotes));
            remotes
        })
    }

    /// Connects to a controller and registers its namespaces; gives the names of their bdevs. If a
    /// controller of that name is attached, connects by a further path to it.
    ///
    /// # Errors
    /// See [`RemoteError`]; nothing is left behind.
    pub fn attach(
        &self,
        options: RemoteOptions,
        transport: TransportId,
        multipath: Multipath,
    ) -> Doing<'_, Vec<String>> {
        Box::pin(self.attach_path(options, transport, multipath))
    }

    async fn attach_path(
        &self,
        options: RemoteOptions,
        transport: TransportId,
        multipath: Multipath,
    ) -> Result<Vec<String>, RemoteError> {
        check_names(&options)?;
        let remote = match self.find(&options.name) {
            Some(remote) => self.extend(remote, &options, transport, multipath)?,
            None => self.begin(options)?,
        };
        let id = self.next_path();
        let path = Path::new(&self.local, id, transport, &remote);
        remote.paths.borrow_mut().push(Rc::clone(&path));
        let opened = path.connect(&remote).await;
        let checked = opened.and_then(|(session, found)| match remote.contradicts(&found) {
            true => Err(PathError::OtherSubsystem),
            false => Ok((session, found)),
        });
        match checked {
            Ok((session, found)) => {
                remote.found(id, &session, found).await;
                self.local.spawn("bdev_nvme_path", path.run(session));
                Ok(remote.bdevs())
            }
            Err(error) => {
                path.drop_links().await;
                remote.remove_path(id).await;
                Err(RemoteError::Path(error))
            }
        }
    }

    /// Names a new path.
    pub(super) fn next_path(&self) -> PathId {
        PathId(self.paths.replace(self.paths.get() + 1))
    }

    /// All controllers in order of attachment.
    pub fn list(&self) -> Vec<RemoteInfo> {
        self.remotes.borrow().iter().map(info).collect()
    }

    /// Ends a path, or with `None` all paths, and with the last one the controller and its bdevs.
    ///
    /// # Errors
    /// There is no such controller, or it has no such path.
    pub fn detach<'a>(&'a self, name: &'a str, transport: Option<TransportId>) -> Doing<'a, ()> {
        Box::pin(self.detach_paths(name, transport))
    }

    async fn detach_paths(
        &self,
        name: &str,
        transport: Option<TransportId>,
    ) -> Result<(), RemoteError> {
        let remote = self.find(name).ok_or(RemoteError::NoSuchController)?;
        let is_meant = |path: &&Rc<Path>| transport.is_none_or(|only| path.transport == only);
        let paths: Vec<_> = remote.paths.borrow().iter().filter(is_meant).map(Rc::clone).collect();
        if paths.is_empty() {
            return Err(RemoteError::NoSuchPath);
        }
        for path in paths {
            let (answer, ended) = oneshot::channel();
            path.ask(Request::Detach(answer));
            // One that has gone meanwhile has ended as well.
            let _ = ended.await;
        }
        Ok(())
    }

    /// Connects all paths of a controller anew, or that of one identifier (CNTLID).
    ///
    /// # Errors
    /// There is no such controller, one of its paths is disabled, or does not come back; it is
    /// tried further.
    pub fn reset<'a>(&'a self, name: &'a str, cntlid: Option<u16>) -> Doing<'a, ()> {
        Box::pin(self.order_paths(name, cntlid, Request::Reset))
    }

    /// Lets all paths of a controller go, or that of one identifier, until they are enabled. Ios
    /// that have no other path wait.
    ///
    /// # Errors
    /// There is no such controller, or it is disabled.
    pub fn disable<'a>(&'a self, name: &'a str, cntlid: Option<u16>) -> Doing<'a, ()> {
        Box::pin(self.order_paths(name, cntlid, Request::Disable))
    }

    /// Connects all paths again that were disabled, or that of one identifier.
    ///
    /// # Errors
    /// There is no such controller, it is not disabled, or a path cannot be connected now: then it
    /// is tried again as after a loss.
    pub fn enable<'a>(&'a self, name: &'a str, cntlid: Option<u16>) -> Doing<'a, ()> {
        Box::pin(self.order_paths(name, cntlid, Request::Enable))
    }

    /// Changes which errors are injected into the admin queues that a controller's paths have now,
    /// or into the I/O queues. They lose them when the path is connected anew.
    ///
    /// # Errors
    /// There is no such controller.
    pub fn inject<'a>(
        &'a self,
        name: &'a str,
        queues: QueueKind,
        change: ErrorChange,
    ) -> Doing<'a, ()> {
        Box::pin(self.inject_into(name, queues, change))
    }

    async fn inject_into(
        &self,
        name: &str,
        queues: QueueKind,
        change: ErrorChange,
    ) -> Result<(), RemoteError> {
        let remote = self.find(name).ok_or(RemoteError::NoSuchController)?;
        let paths: Vec<_> = remote.paths.borrow().iter().map(|path| path.id).collect();
        for core in 0..self.local.cores() {
            let paths = paths.clone();
            let inject = move |local: &Local| {
                if let Some(host) = CoreHost::of(local) {
                    host.inject(&paths, queues, change);
                }
            };
            // A core that does not answer has no queues.
            let _ = self.local.call(CoreId(core as u16), inject).await;
        }
        Ok(())
    }

    async fn order_paths(
        &self,
        name: &str,
        cntlid: Option<u16>,
        order: fn(oneshot::Sender<Result<(), PathError>>) -> Request,
    ) -> Result<(), RemoteError> {
        let remote = self.find(name).ok_or(RemoteError::NoSuchController)?;
        let is_meant = |path: &&Rc<Path>| cntlid.is_none_or(|cntlid| path.cntlid.get() == cntlid);
        let paths: Vec<_> = remote.paths.borrow().iter().filter(is_meant).map(Rc::clone).collect();
        if paths.is_empty() {
            return Err(RemoteError::NoSuchController);
        }
        let mut result = Ok(());
        for path in paths {
            let (answer, done) = oneshot::channel();
            path.ask(order(answer));
            let ended = done.await.unwrap_or(Err(PathError::Dropped));
            result = result.and(ended.map_err(RemoteError::Path));
        }
        result
    }

    /// Sets which path the Ios of a bdev take.
    ///
    /// # Errors
    /// There is no such bdev.
    pub fn set_policy<'a>(&'a self, bdev: &'a str, policy: Policy) -> Doing<'a, ()> {
        Box::pin(self.set_policy_of(bdev, policy))
    }

    async fn set_policy_of(&self, bdev: &str, policy: Policy) -> Result<(), RemoteError> {
        for remote in self.all() {
            if remote.set_policy(bdev, policy).await {
                return Ok(());
            }
        }
        Err(RemoteError::NoSuchBdev)
    }

    /// Has the Ios of a bdev take the path to that controller, where others are no better.
    ///
    /// # Errors
    /// There is no such bdev, or it has no such path.
    pub fn prefer<'a>(&'a self, bdev: &'a str, cntlid: u16) -> Doing<'a, ()> {
        Box::pin(self.prefer_path(bdev, cntlid))
    }

    async fn prefer_path(&self, bdev: &str, cntlid: u16) -> Result<(), RemoteError> {
        for remote in self.all() {
            if !remote.bdevs().iter().any(|name| name == bdev) {
                continue;
            }
            let leads = |path: &&Rc<Path>| path.cntlid.get() == cntlid;
            let path = remote.paths.borrow().iter().find(leads).map(|path| path.id);
            let path = path.ok_or(RemoteError::NoSuchPath)?;
            remote.prefer(bdev, path).await;
            return Ok(());
        }
        Err(RemoteError::NoSuchBdev)
    }

    /// What has gone by each path of a bdev. `None` if it is no bdev of a remote controller.
    pub fn path_stats(&self, bdev: &str) -> Option<Vec<PathStat>> {
        self.remotes.borrow().iter().find_map(|remote| remote.path_stats(bdev))
    }

    fn all(&self) -> Vec<Rc<Remote>> {
        self.remotes.borrow().iter().map(Rc::clone).collect()
    }

    /// A core tells of one of its connections.
    fn hear(&self, news: News) {
        let (path, request) = match news {
            News::Lost(path, run, error) => (path, Request::Lost(run, error)),
            News::Doubt(path) => (path, Request::Doubt),
            News::Unwanted(path, run, qid, cid) => {
                (path, Request::Command(run, Command::abort(qid, cid)))
            }
        };
        let remotes = self.remotes.borrow();
        if let Some(path) = remotes.iter().find_map(|remote| remote.path(path)) {
            path.ask(request);
        }
    }

    pub(super) fn remove(&self, name: &str) {
        self.remotes.borrow_mut().retain(|remote| remote.options.name != name);
    }

    pub(super) fn find(&self, name: &str) -> Option<Rc<Remote>> {
        self.remotes.borrow().iter().find(|remote| remote.options.name == name).map(Rc::clone)
    }

    fn begin(&self, options: RemoteOptions) -> Result<Rc<Remote>, RemoteError> {
        let registry: Rc<Registry> = self.local.service().ok_or(RemoteError::NoRegistry)?;
        let number = self.numbers.replace(self.numbers.get() + 1);
        let remote = Remote::new(&self.local, registry, options, number);
        self.remotes.borrow_mut().push(Rc::clone(&remote));
        Ok(remote)
    }

    fn extend(
        &self,
        remote: Rc<Remote>,
        options: &RemoteOptions,
        transport: TransportId,
        multipath: Multipath,
    ) -> Result<Rc<Remote>, RemoteError> {
        if multipath == Multipath::Disable {
            return Err(RemoteError::NameTaken);
        }
        let own = &remote.options;
        if (&own.subnqn, &own.host) != (&options.subnqn, &options.host) {
            return Err(RemoteError::OtherController);
        }
        let paths = remote.paths.borrow();
        if paths.iter().any(|path| path.transport == transport) {
            return Err(RemoteError::PathTaken);
        }
        if paths.len() >= PATHS_MAX {
            return Err(RemoteError::TooManyPaths);
        }
        drop(paths);
        Ok(remote)
    }
}

fn check_names(options: &RemoteOptions) -> Result<(), RemoteError> {
    let is_nqn = |nqn: &str| (1..=NQN_LEN_MAX).contains(&nqn.len());
    let good = is_nqn(&options.subnqn) && is_nqn(&options.host.nqn) && !options.name.is_empty();
    if good { Ok(()) } else { Err(RemoteError::BadName) }
}

fn info(remote: &Rc<Remote>) -> RemoteInfo {
    let path = |path: &Rc<Path>| PathInfo {
        transport: path.transport,
        state: path.state.get(),
        cntlid: path.cntlid.get(),
        controller: path.controller.get(),
    };
    let paths = remote.paths.borrow();
    let place = |id| paths.iter().position(|path| path.id == id);
    RemoteInfo {
        name: remote.options.name.clone(),
        subnqn: remote.options.subnqn.clone(),
        hostnqn: remote.options.host.nqn.clone(),
        paths: paths.iter().map(path).collect(),
        bdevs: remote.shown(&place),
    }
}
