//! The control plane on core 0: subsystems, controllers, and everything that is not I/O.

mod abort;
mod admin;
mod ana;
mod configure;
mod connect;
mod controller;
mod discovery;
mod error_log;
mod events;
mod features;
mod identify;
mod listeners;
mod log_pages;
mod namespaces;
mod notifications;
mod passthru;
mod property;
mod reservations;
mod reserve;
mod subsystem;
mod zoned;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_bdev::{Event, Registry};
use basalt_env::{CoreId, Instant, Work, sort_few_by_key};
use basalt_reactor::{Local, Poller};

pub use configure::{ConfigError, ControllerInfo, HostPolicy, NamespaceInfo, SubsystemInfo};
use controller::Controller;
pub use discovery::{DiscoveryFilter, Referral};
pub(crate) use error_log::Failure;
pub use passthru::AdminPassthru;
pub(crate) use subsystem::SeenBy;
use subsystem::Subsystem;
pub use subsystem::{Listener, NamespaceOptions, SubsystemOptions, SubsystemReset};

use crate::config::TransportConfig;
use crate::connection::{AdminReply, AdminRequest, ConnectionId, Source};
use crate::group::{PollGroup, Tag};

/// The subsystem every drive is exported in when nothing is configured.
pub const DEFAULT_NQN: &str = "nqn.2026-11.io.basalt:storage";

/// How often keep-alive timers are checked.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_millis(250);
/// Subsystems there may be unless it is said otherwise, the discovery subsystem among them.
const SUBSYSTEMS_MAX: u32 = 1024;
/// Largest namespace identifier.
const NSID_MAX: u32 = 1024;

/// Whether a host may have several controllers of a subsystem by one listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DuplicateHosts {
    /// As many as it connects.
    Allow,
    /// One by each listener; while it is there, another is refused as busy.
    RestrictPerListener,
}

struct State {
    subsystems: Vec<Subsystem>,
    controllers: Vec<Controller>,
    /// Cores with a poll group.
    members: Vec<CoreId>,
    /// Where only discovery is served, subsystems' listeners aside.
    discovery: Vec<Listener>,
    /// Other services that hosts are told of.
    referrals: Vec<Referral>,
    discovery_filter: DiscoveryFilter,
    /// Changes of anything that some host's discovery log may hold.
    genctr: u64,
    cntlid_last: u16,
    subsystem_last: u32,
    /// How many subsystems there may be, the discovery subsystem among them.
    subsystems_max: u32,
    listener_last: u32,
    duplicates: DuplicateHosts,
    /// Command retry delay times (CRDT1 to CRDT3), 100 ms.
    crdt: [u16; 3],
    started: Instant,
}

/// The target's control plane. A service of the boot core.
///
/// A controller's life:
///
/// ```text
/// Connect(qid 0) -> disabled -CC.EN-> ready -CC.EN=0, CC.SHN-> disabled, shut down
///        any -> ended, on: admin connection lost, keep-alive timeout, host or subsystem removed
/// ```
///
/// Whatever ends a controller ends its connections, each of which reports back.
pub struct Target {
    local: Local,
    config: Cell<TransportConfig>,
    passthru: Cell<AdminPassthru>,
    state: RefCell<State>,
    poller: RefCell<Option<Poller>>,
}

impl Target {
    /// Starts the control plane; to be called on the boot core, before or after the poll groups
    /// of the cores, which find it as a service.
    pub fn start(local: &Local, config: TransportConfig) -> Rc<Self> {
        let state = State {
            subsystems: Vec::new(),
            controllers: Vec::new(),
            members: Vec::new(),
            discovery: Vec::new(),
            referrals: Vec::new(),
            discovery_filter: DiscoveryFilter::default(),
            genctr: 1,
            cntlid_last: 0,
            subsystem_last: 0,
            subsystems_max: SUBSYSTEMS_MAX,
            listener_last: 0,
            duplicates: DuplicateHosts::Allow,
            crdt: [0; 3],
            started: local.now(),
        };
        let target = Rc::new(Self {
            local: local.clone(),
            config: Cell::new(config.clamped()),
            passthru: Cell::default(),
            state: RefCell::new(state),
            poller: RefCell::default(),
        });
        let weak = Rc::downgrade(&target);
        let poller = local.timed_poller("nvmf_keep_alive", KEEP_ALIVE_PERIOD, move |local| {
            weak.upgrade().map_or(Work::IDLE, |target| target.check_keep_alive(local.now()))
        });
        *target.poller.borrow_mut() = Some(poller);
        local.provide(Rc::clone(&target));
        target.follow_bdevs();
        target
    }

    /// A namespace ends with its bdev, and is as large.
    fn follow_bdevs(self: &Rc<Self>) {
        let Some(registry) = self.local.service::<Registry>() else { return };
        let target = Rc::downgrade(self);
        registry.subscribe(move |event| {
            let Some(target) = target.upgrade() else { return };
            match event {
                Event::Removed(bdev) => target.bdev_removed(bdev),
                Event::Resized(bdev, _) => target.bdev_resized(bdev),
                Event::Registered(_) => {}
            }
        });
    }

    /// A core has a poll group now; gives the transport's options and the ports to listen on.
    pub(crate) fn join(&self, core: CoreId) -> (TransportConfig, Vec<u16>) {
        let mut state = self.state.borrow_mut();
        if !state.members.contains(&core) {
            state.members.push(core);
            sort_few_by_key(&mut state.members, |core| *core);
        }
        (self.config.get(), state.ports())
    }

    /// Answers a command of any connection.
    pub(crate) fn handle(&self, request: AdminRequest) -> AdminReply {
        match request.from {
            Source::Stranger => self.connect(&request),
            Source::Admin { cntlid } => self.admin(cntlid, &request),
            Source::Io { cntlid } => self.reserve(cntlid, &request),
        }
    }

    /// A command of a controller failed.
    pub(crate) fn command_failed(&self, cntlid: u16, failure: &Failure) {
        if let Some(controller) = self.state.borrow_mut().controller_mut(cntlid) {
            controller.errors.push(failure);
        }
    }

    /// A connection is no more.
    pub(crate) fn disconnected(&self, id: ConnectionId) {
        let mut state = self.state.borrow_mut();
        for controller in &mut state.controllers {
            controller.queues.retain(|queue| queue.connection != id);
        }
        let ended = |c: &Controller| c.admin == id;
        if let Some(at) = state.controllers.iter().position(ended) {
            let controller = state.controllers.swap_remove(at);
            log::info!(
                target: "nvmf",
                "controller {} of {} ended",
                controller.cntlid,
                controller.hostnqn
            );
            self.end_connections(controller.queues.iter().map(|queue| queue.connection));
            let subsystem = controller.subsystem.and_then(|id| state.subsystem(id));
            if let Some(subsystem) = subsystem.filter(|_| controller.is_in_use()) {
                subsystem.health.unsafe_shutdown();
            }
        }
    }

    fn check_keep_alive(&self, now: Instant) -> Work {
        let state = self.state.borrow();
        let mut work = Work::IDLE;
        for controller in state.controllers.iter().filter(|c| c.is_overdue(now)) {
            log::warn!(
                target: "nvmf",
                "controller {} of {}: keep-alive timeout",
                controller.cntlid,
                controller.hostnqn
            );
            self.end_controller(controller);
            work += Work(1);
        }
        work
    }

    /// Ends all connections of a controller; it goes when they have reported back.
    fn end_controller(&self, controller: &Controller) {
        let queues = controller.queues.iter().map(|queue| queue.connection);
        self.end_connections(queues.chain([controller.admin]));
    }

    fn end_connections(&self, connections: impl Iterator<Item = ConnectionId>) {
        for id in connections {
            self.tell(id.core, move |group| group.end(id));
        }
    }

    /// Delivers the late answer to a held command.
    fn answer(&self, connection: ConnectionId, tag: Tag, reply: AdminReply) {
        self.tell(connection.core, move |group| group.answer(tag, reply));
    }

    /// Runs `f` on the poll group of `core`, soon.
    fn tell(&self, core: CoreId, f: impl FnOnce(&PollGroup) + Send + 'static) {
        let local = self.local.clone();
        self.local.spawn("nvmf_tell", async move {
            let run = move |local: &Local| {
                if let Some(group) = local.service::<PollGroup>() {
                    f(&group);
                }
            };
            if let Err(error) = local.call(core, run).await {
                log::error!(target: "nvmf", "core {core}: {error}");
            }
        });
    }
}

impl State {
    /// All ports in use, each once.
    fn ports(&self) -> Vec<u16> {
        let listeners = self.subsystems.iter().flat_map(|subsystem| &subsystem.listeners);
        subsystem::ports(listeners.map(|listener| &listener.at).chain(&self.discovery))
    }

    fn subsystem(&self, id: u32) -> Option<&Subsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.id == id)
    }

    fn named(&self, nqn: &str) -> Option<&Subsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.nqn == nqn)
    }

    fn controller_mut(&mut self, cntlid: u16) -> Option<&mut Controller> {
        self.controllers.iter_mut().find(|controller| controller.cntlid == cntlid)
    }
}
