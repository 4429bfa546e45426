//! A remote subsystem as core 0 sees it: the paths to it, and its namespaces, which are bdevs.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use basalt_bdev::{IoCounters, Lenders, RegisterError, Registry};
use basalt_env::{CoreId, sort_few_by_key};
use basalt_reactor::Local;

use super::bdev::RemoteBdev;
use super::discover::Namespace;
use super::options::RemoteOptions;
use super::path::{Path, Request};
use super::remotes::{PathStat, RemoteBdevInfo, Way};
use super::session::Session;
use basalt_nvmf_host::CoreHost;
use basalt_nvmf_host::{Hope, Limits, Policy, Route, Routes};
use basalt_nvmf_host::{NamespaceId, PathId};

/// Most blocks one command can name (NVM command set 1.0 §3.2: NLB has 16 bits).
const BLOCKS_MAX: u64 = 1 << 16;

/// A namespace, with the ways to it.
struct Shown {
    id: NamespaceId,
    namespace: Namespace,
    name: String,
    routes: Vec<Route>,
    policy: Policy,
    /// Whether its bdev is registered.
    registered: bool,
}

/// A remote subsystem.
pub(super) struct Remote {
    local: Local,
    registry: Rc<Registry>,
    pub(super) options: RemoteOptions,
    pub(super) paths: RefCell<Vec<Rc<Path>>>,
    shown: RefCell<Vec<Shown>>,
    lenders: Arc<Lenders>,
    ids: Cell<u32>,
    /// The first part of its namespaces' identifiers.
    number: u32,
}

impl Remote {
    pub(super) fn new(
        local: &Local,
        registry: Rc<Registry>,
        options: RemoteOptions,
        number: u32,
    ) -> Rc<Self> {
        Rc::new(Self {
            local: local.clone(),
            registry,
            options,
            paths: RefCell::default(),
            shown: RefCell::default(),
            lenders: Arc::new(Lenders::new(local.cores())),
            ids: Cell::new(0),
            number,
        })
    }

    /// The names of its bdevs.
    pub(super) fn bdevs(&self) -> Vec<String> {
        let shown = self.shown.borrow();
        shown.iter().filter(|shown| shown.registered).map(|shown| shown.name.clone()).collect()
    }

    /// Changes which path the Ios of a bdev take. Whether it is one of ours.
    pub(super) async fn set_policy(&self, bdev: &str, policy: Policy) -> bool {
        self.change(bdev, |shown| shown.policy = policy).await
    }

    /// Prefers a path of a bdev to others that are as good.
    pub(super) async fn prefer(&self, bdev: &str, path: PathId) -> bool {
        let prefer = |shown: &mut Shown| {
            shown.routes.iter_mut().for_each(|route| route.preferred = route.path == path);
        };
        self.change(bdev, prefer).await
    }

    async fn change(&self, bdev: &str, change: impl FnOnce(&mut Shown)) -> bool {
        let changed = {
            let mut shown = self.shown.borrow_mut();
            let known = shown.iter_mut().find(|shown| shown.name == bdev && shown.registered);
            known.map(|shown| {
                change(shown);
                shown.id
            })
        };
        if let Some(id) = changed {
            self.publish(id).await;
        }
        changed.is_some()
    }

    /// Its bdevs as they are now; `place` says where a path is among the paths.
    pub(super) fn shown(&self, place: &dyn Fn(PathId) -> Option<usize>) -> Vec<RemoteBdevInfo> {
        let way = |route: &Route| {
            let Route { access, preferred, .. } = *route;
            Some(Way { path: place(route.path)?, access, preferred })
        };
        let info = |shown: &Shown| RemoteBdevInfo {
            name: shown.name.clone(),
            nsid: shown.namespace.nsid,
            policy: shown.policy,
            paths: shown.routes.iter().filter_map(way).collect(),
        };
        self.shown.borrow().iter().filter(|shown| shown.registered).map(info).collect()
    }

    /// What has gone by each path of a bdev. `None` if it is not one of ours.
    pub(super) fn path_stats(&self, bdev: &str) -> Option<Vec<PathStat>> {
        let shown = self.shown.borrow();
        let known = shown.iter().find(|shown| shown.name == bdev && shown.registered)?;
        let stat = |route: &Route| {
            let stat = route.counters.as_ref().map(|counters| counters.total());
            let (transport, subnqn) = (self.path(route.path)?.transport, &self.options.subnqn);
            Some(PathStat { transport, subnqn: subnqn.clone(), stat })
        };
        Some(known.routes.iter().filter_map(stat).collect())
    }

    /// Whether one of those namespaces is another's by its identifier.
    pub(super) fn contradicts(&self, found: &[Namespace]) -> bool {
        let shown = self.shown.borrow();
        found.iter().any(|new| {
            shown.iter().any(|old| old.namespace.nsid == new.nsid && !old.namespace.is_same(new))
        })
    }

    pub(super) fn path(&self, id: PathId) -> Option<Rc<Path>> {
        self.paths.borrow().iter().find(|path| path.id == id).map(Rc::clone)
    }

    pub(super) fn ask(&self, id: PathId, request: Request) {
        if let Some(path) = self.path(id) {
            path.ask(request);
        }
    }

    /// A path leads to these namespaces, and to no others: what is new comes, what has another size
    /// is resized, what no path leads to any more goes.
    pub(super) async fn found(&self, path: PathId, session: &Session, found: Vec<Namespace>) {
        for core in &session.cores {
            self.lenders.set(*core, true);
        }
        self.remove_routes(|shown, route| {
            let is_there = |new: &Namespace| new.is_same(&shown.namespace);
            route.path == path && !found.iter().any(is_there)
        });
        self.drop_unreachable().await;
        for namespace in &found {
            let route = Route {
                path,
                nsid: namespace.nsid,
                access: namespace.access,
                limits: limits(session, namespace),
                preferred: false,
                counters: None,
            };
            self.add_route(*namespace, route);
        }
        self.publish_all().await;
        // A path that does not lead to a namespace does not tell how large it is.
        for namespace in found.iter().filter(|namespace| namespace.blocks > 0) {
            self.resize(namespace);
            self.show(session, namespace);
        }
    }

    /// There is no such path any more.
    pub(super) async fn remove_path(&self, id: PathId) {
        self.paths.borrow_mut().retain(|path| path.id != id);
        self.remove_routes(|_, route| route.path == id);
        self.drop_unreachable().await;
        self.publish_all().await;
        if self.paths.borrow().is_empty() {
            super::remotes::Remotes::of(&self.local).remove(&self.options.name);
        }
    }

    /// Tells all cores of all namespaces: what may be reached has changed.
    pub(super) async fn publish_all(&self) {
        let ids: Vec<_> = self.shown.borrow().iter().map(|shown| shown.id).collect();
        for id in ids {
            self.publish(id).await;
        }
    }

    /// A path that is there already goes on with its counters.
    fn add_route(&self, namespace: Namespace, route: Route) {
        let mut shown = self.shown.borrow_mut();
        let known = shown.iter_mut().find(|known| known.namespace.nsid == namespace.nsid);
        let Some(known) = known else {
            let id = NamespaceId(self.number, self.ids.replace(self.ids.get() + 1));
            let name = format!("{}n{}", self.options.name, namespace.nsid);
            let routes = Vec::from([self.counted(route, &namespace)]);
            let policy = self.options.policy;
            shown.push(Shown { id, namespace, name, routes, policy, registered: false });
            return sort_few_by_key(&mut shown, |shown| shown.namespace.nsid);
        };
        if !known.namespace.is_same(&namespace) {
            log::error!(target: "bdev_nvme", "{} is another namespace by one path", known.name);
            return;
        }
        let at = known.routes.iter().position(|known| known.path == route.path);
        match at {
            Some(at) => {
                let Route { preferred, counters, .. } = known.routes[at].clone();
                known.routes[at] = Route { preferred, counters, ..route };
            }
            None => known.routes.push(self.counted(route, &namespace)),
        }
    }

    /// A new path, with counters if it is to have some.
    fn counted(&self, route: Route, namespace: &Namespace) -> Route {
        let new = || Arc::new(IoCounters::new(self.local.cores(), namespace.block_size));
        Route { counters: self.options.io_path_stat.then(new), ..route }
    }

    fn remove_routes(&self, goes: impl Fn(&Shown, &Route) -> bool) {
        for shown in self.shown.borrow_mut().iter_mut() {
            let mut routes = core::mem::take(&mut shown.routes);
            routes.retain(|route| !goes(shown, route));
            shown.routes = routes;
        }
    }

    /// Those that no path leads to any more go, with their bdevs.
    async fn drop_unreachable(&self) {
        let gone: Vec<Shown> = {
            let mut shown = self.shown.borrow_mut();
            shown.extract_if(.., |shown| shown.routes.is_empty()).collect()
        };
        for Shown { id, name, registered, namespace, policy, .. } in gone {
            if registered {
                // Somebody may have removed it already.
                let _ = self.registry.remove(&name);
            }
            let last = Routes { routes: Vec::new(), policy, hope: Hope::Removed };
            self.tell_cores(id, namespace.block_size, move || last.clone()).await;
            self.forget(id).await;
        }
    }

    async fn publish(&self, id: NamespaceId) {
        let block = self.with(id, |shown| shown.namespace.block_size);
        let Some(block) = block else { return };
        self.tell_cores(id, block, || self.routes(id)).await;
    }

    /// What cores are to know of a namespace now.
    fn routes(&self, id: NamespaceId) -> Routes {
        let hope = self.paths.borrow().iter().any(|path| path.has_hope(self));
        let hope = if hope { Hope::Some } else { Hope::Lost };
        let known = self.with(id, |shown| (shown.routes.clone(), shown.policy));
        match known {
            Some((routes, policy)) => Routes { routes, policy, hope },
            None => {
                let (routes, policy) = (Vec::new(), Policy::ActivePassive);
                Routes { routes, policy, hope: Hope::Removed }
            }
        }
    }

    /// Tells each core what is true when it is told: news that follow each other arrive so.
    async fn tell_cores(&self, id: NamespaceId, block: u32, routes: impl Fn() -> Routes) {
        for core in 0..self.local.cores() {
            let routes = routes();
            let tell = move |local: &Local| {
                if let Some(host) = CoreHost::of(local) {
                    host.route(id, block as usize, routes);
                }
            };
            if self.local.call(CoreId(core as u16), tell).await.is_err() {
                log::error!(target: "bdev_nvme", "core {core} does not answer");
            }
        }
    }

    async fn forget(&self, id: NamespaceId) {
        for core in 0..self.local.cores() {
            let forget = move |local: &Local| {
                if let Some(host) = CoreHost::of(local) {
                    host.forget(id);
                }
            };
            // A core that does not answer has nothing to forget.
            let _ = self.local.call(CoreId(core as u16), forget).await;
        }
    }

    fn resize(&self, namespace: &Namespace) {
        let mut shown = self.shown.borrow_mut();
        let known = shown.iter_mut().find(|shown| {
            shown.namespace.is_same(namespace) && shown.namespace.blocks != namespace.blocks
        });
        let Some(known) = known else { return };
        known.namespace.blocks = namespace.blocks;
        let (name, registered) = (known.name.clone(), known.registered);
        drop(shown);
        if registered && let Err(error) = self.registry.has_size(&name, namespace.blocks) {
            log::error!(target: "bdev_nvme", "{name}: {error}");
        }
    }

    /// Registers the bdev of a namespace that has none.
    fn show(&self, session: &Session, namespace: &Namespace) {
        let mut shown = self.shown.borrow_mut();
        let new = |shown: &&mut Shown| !shown.registered && shown.namespace.is_same(namespace);
        let Some(known) = shown.iter_mut().find(new) else { return };
        let (id, name) = (known.id, known.name.clone());
        // Others hear of it, and may look at what there is.
        known.registered = true;
        drop(shown);
        let make = |uuid| {
            let what = RemoteBdev::new(self, session, (id, &name), namespace, uuid);
            Arc::new(what)
        };
        let mut registered = self.registry.register(make(namespace.uuid));
        if registered == Err(RegisterError::UuidTaken) {
            // Seen by another way as well, perhaps as the drive that it is.
            registered = self.registry.register(make(self.registry.make_uuid(&name)));
        }
        if let Err(error) = registered {
            log::error!(target: "bdev_nvme", "{name}: {error}");
            let mut shown = self.shown.borrow_mut();
            let known = shown.iter_mut().find(|shown| shown.id == id);
            known.into_iter().for_each(|shown| shown.registered = false);
        }
    }

    pub(super) fn lenders(&self) -> &Arc<Lenders> {
        &self.lenders
    }

    fn with<T>(&self, id: NamespaceId, look: impl FnOnce(&Shown) -> T) -> Option<T> {
        self.shown.borrow().iter().find(|shown| shown.id == id).map(look)
    }
}

fn limits(session: &Session, namespace: &Namespace) -> Limits {
    let blocks = |bytes: u64| (bytes / u64::from(namespace.block_size)).clamp(1, BLOCKS_MAX) as u32;
    let nvm = session.nvm;
    Limits {
        transfer: blocks(session.transfer_max()),
        write_zeroes: blocks(nvm.write_zeroes_bytes),
        unmap: nvm.deallocate_blocks,
        verify: blocks(nvm.verify_bytes),
        write_uncorrectable: blocks(nvm.write_uncorrectable_bytes),
        copy: namespace.copy_max.min(BLOCKS_MAX as u32),
    }
}
