//! One core's share of the target: its connections, channels and buffers.

mod channels;
mod drain;
mod guard;
mod views;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::Io;
use basalt_env::{CoreId, DmaPool, Work};
use basalt_net::{ListenError, ListenerId, NetStack, SocketId};
use basalt_nvme_spec::Status;
use basalt_reactor::{Local, Poller};

use channels::Channels;
pub(crate) use channels::Tag;
pub(crate) use drain::{Affected, Origin, drained};
pub(crate) use guard::{Access, Excluded, Guard, HostId};
use views::Views;
pub(crate) use views::{
    CommandSets, Namespace, SharedNamespace, SubsystemView, Visitor, command_set,
};

use crate::config::TransportConfig;
use crate::connection::{
    Aborting, AdminReply, AdminRequest, Connection, ConnectionId, Ends, Preempted, QueueInfo,
};
use crate::control::Target;
use crate::pdu::FaultKind;

/// A core's network stack, shared with whoever polls it.
pub type SharedStack = Rc<RefCell<dyn NetStack>>;

/// How often deadlines are checked.
const DEADLINE_PERIOD: Duration = Duration::from_millis(100);
/// Connections accepted per listener and round.
const ACCEPT_BUDGET: u32 = 8;
/// Connections per core; their slot must fit a [`Tag`].
const CONNECTIONS_MAX: usize = 4096;

/// What has happened on a core, and what is there now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupStats {
    /// Live connections, those that wait for their last Io included.
    pub connections: u32,
    /// Command slots of live connections.
    pub slots: u32,
    /// Commands outstanding.
    pub commands: u32,
    /// Commands at bdevs or the control plane.
    pub outstanding: u32,
    /// Open bdev channels.
    pub channels: u32,
    /// Ways by which hosts use subsystems: one for each host and listener.
    pub paths: u32,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections that ended.
    pub lost: u64,
    /// Admin queues connected so far.
    pub admin_queues: u64,
    /// I/O queues connected so far.
    pub io_queues: u64,
    /// Ios that came back.
    pub ios: u64,
    /// Violations of the protocol.
    pub faults: u64,
    /// The same by [`FaultKind::index`](crate::pdu::FaultKind::index).
    pub fault_kinds: [u64; FaultKind::NAMES.len()],
    /// Times a command had to wait for a data buffer.
    pub buffer_waits: u64,
    /// Times a channel had no room.
    pub queue_full: u64,
    /// Completions of commands that were no longer there.
    pub stale: u64,
}

/// What connections use of their core.
pub(crate) struct Core {
    pub(crate) local: Local,
    pub(crate) pool: DmaPool,
    /// Whether the network keeps what is shared with it.
    pub(crate) keeps_shared: bool,
    pub(crate) config: TransportConfig,
    pub(crate) channels: Channels,
    pub(crate) views: Views,
    pub(crate) counters: GroupStats,
    generation: u32,
}

impl Core {
    /// A number for the next command.
    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Takes over a view; gives its index on this core.
    pub(crate) fn learn(&mut self, view: &Arc<SubsystemView>) -> usize {
        self.views.update(view, &mut self.channels, &self.local)
    }

    /// Sends a command to the control plane; the answer reaches the connection by itself.
    pub(crate) fn ask_control(&self, request: AdminRequest) {
        let (local, tag) = (self.local.clone(), request.tag);
        self.local.spawn("nvmf_admin", async move {
            let handle = move |local: &Local| match local.service::<Target>() {
                Some(target) => target.handle(request),
                None => AdminReply::Done(Status::INTERNAL_ERROR.into(), Vec::new()),
            };
            let reply = local.call(CoreId::BOOT, handle).await;
            let lost = |_| AdminReply::Done(Status::INTERNAL_ERROR.into(), Vec::new());
            if let Some(group) = local.service::<PollGroup>() {
                group.answer(tag, reply.unwrap_or_else(lost));
            }
        });
    }
}

#[derive(Default)]
struct Place {
    generation: u32,
    connection: Option<Box<Connection>>,
}

struct State {
    core: Core,
    places: Vec<Place>,
    listeners: Vec<(u16, ListenerId)>,
    done: Vec<Io>,
}

/// One core's connections and the pollers that drive them. A service of its core.
pub struct PollGroup {
    state: RefCell<State>,
    stack: SharedStack,
    pollers: RefCell<Vec<Poller>>,
}

impl PollGroup {
    /// Starts the core's share of the target: registers it as a service with its pollers
    /// `nvmf_tcp` and `nvmf_acceptor`, and joins the [`Target`] on the boot core, from which it
    /// learns the ports to listen on.
    pub fn start(
        local: &Local,
        stack: SharedStack,
        pool: DmaPool,
        config: TransportConfig,
    ) -> Rc<Self> {
        let core = Core {
            local: local.clone(),
            pool,
            keeps_shared: stack.borrow().keeps_shared(),
            config: config.clamped(),
            channels: Channels::default(),
            views: Views::default(),
            counters: GroupStats::default(),
            generation: 0,
        };
        let (places, listeners, done) = (Vec::new(), Vec::new(), Vec::with_capacity(256));
        let state = RefCell::new(State { core, places, listeners, done });
        let group = Rc::new(Self { state, stack, pollers: RefCell::default() });
        group.register(local);
        local.provide(Rc::clone(&group));
        let (core, joining, member) = (local.core(), local.clone(), Rc::downgrade(&group));
        local.spawn("nvmf_join", async move {
            let join =
                move |local: &Local| local.service::<Target>().map(|target| target.join(core));
            let joined = joining.call(CoreId::BOOT, join).await;
            let (Ok(Some((config, ports))), Some(group)) = (joined, member.upgrade()) else {
                return;
            };
            group.configure(config);
            for port in ports {
                if let Err(error) = group.listen(port) {
                    log::error!(target: "nvmf", "core {core}: port {port}: {error:?}");
                }
            }
        });
        group
    }

    fn register(self: &Rc<Self>, local: &Local) {
        let run = |name, period: Option<Duration>, f: fn(&Self) -> Work| {
            let group = Rc::downgrade(self);
            let body = move |_: &Local| group.upgrade().map_or(Work::IDLE, |group| f(&group));
            match period {
                None => local.poller(name, body),
                Some(period) => local.timed_poller(name, period, body),
            }
        };
        let pollers = [
            run("nvmf_acceptor", None, Self::accept),
            run("nvmf_tcp", None, Self::poll),
            run("nvmf_deadlines", Some(DEADLINE_PERIOD), Self::check_deadlines),
        ];
        self.pollers.borrow_mut().extend(pollers);
    }

    /// What is and was on this core.
    pub fn stats(&self) -> GroupStats {
        let state = self.state.borrow();
        let mut stats = state.core.counters;
        stats.channels = state.core.channels.len() as u32;
        stats.paths = state.core.views.paths() as u32;
        for connection in state.places.iter().filter_map(|place| place.connection.as_ref()) {
            let info = connection.info();
            stats.connections += 1;
            stats.slots += u32::from(info.slots);
            stats.commands += u32::from(info.in_use);
            stats.outstanding += connection.outstanding();
            stats.ios += connection.ios();
        }
        stats
    }

    /// The queues of this core.
    pub fn queues(&self) -> Vec<QueueInfo> {
        let state = self.state.borrow();
        let live = state.places.iter().filter_map(|place| place.connection.as_ref());
        live.map(|connection| connection.info()).collect()
    }

    /// Listens on `port`, if it does not yet.
    pub(crate) fn listen(&self, port: u16) -> Result<(), ListenError> {
        let mut state = self.state.borrow_mut();
        if state.listeners.iter().any(|(other, _)| *other == port) {
            return Ok(());
        }
        let listener = self.stack.borrow_mut().listen(port)?;
        state.listeners.push((port, listener));
        Ok(())
    }

    /// Stops listening on `port`; connections stay.
    pub(crate) fn unlisten(&self, port: u16) {
        let mut state = self.state.borrow_mut();
        if let Some(at) = state.listeners.iter().position(|(other, _)| *other == port) {
            let (_, listener) = state.listeners.swap_remove(at);
            self.stack.borrow_mut().unlisten(listener);
        }
    }

    /// Connections accepted from now on are made by `config`.
    pub(crate) fn configure(&self, config: TransportConfig) {
        self.state.borrow_mut().core.config = config;
    }

    /// Takes over a changed view, if the subsystem is in use here.
    pub(crate) fn refresh(&self, view: &Arc<SubsystemView>) {
        let State { core, places, .. } = &mut *self.state.borrow_mut();
        // The answer to a Connect, which brings an older view, may be on its way.
        let mut connections = places.iter().filter_map(|place| place.connection.as_ref());
        if core.views.knows(view.subsystem) || connections.any(|c| c.is_connecting()) {
            core.learn(view);
        }
    }

    /// The control plane's answer to the command of `tag`.
    pub(crate) fn answer(&self, tag: Tag, reply: AdminReply) {
        let State { core, places, .. } = &mut *self.state.borrow_mut();
        match connection(places, tag.connection) {
            Some(connection) => connection.admin_done(core, tag, reply),
            None => core.counters.stale += 1,
        }
    }

    /// Aborts a command of a connection, if it can be.
    pub(crate) fn abort(&self, id: ConnectionId, cid: u16) -> Aborting {
        let State { core, places, .. } = &mut *self.state.borrow_mut();
        let place = places.get_mut(usize::from(id.slot));
        let place = place.filter(|place| place.generation == id.generation);
        match place.and_then(|place| place.connection.as_mut()) {
            Some(connection) => connection.abort_command(core, cid),
            None => Aborting::No,
        }
    }

    /// Aborts what preempted hosts have under way; gives the youngest command that there is.
    pub(crate) fn abort_all(&self, target: &Preempted<'_>) -> u32 {
        let State { core, places, .. } = &mut *self.state.borrow_mut();
        for connection in places.iter_mut().filter_map(|place| place.connection.as_mut()) {
            connection.abort_all(target, core);
        }
        core.generation
    }

    /// Whether one of those commands, not younger than `mark`, is still under way.
    pub(crate) fn is_busy(&self, target: &Preempted<'_>, mark: u32) -> bool {
        let State { core, places, .. } = &*self.state.borrow();
        let mut connections = places.iter().filter_map(|place| place.connection.as_ref());
        connections.any(|connection| connection.is_busy(target, mark, core))
    }

    /// Ends a connection at the control plane's wish.
    pub(crate) fn end(&self, id: ConnectionId) {
        let State { core, places, .. } = &mut *self.state.borrow_mut();
        let Some(place) = places.get_mut(usize::from(id.slot)) else { return };
        if place.generation == id.generation
            && let Some(connection) = &mut place.connection
        {
            connection.abort(core, &mut *self.stack.borrow_mut());
        }
    }

    fn accept(&self) -> Work {
        let state = &mut *self.state.borrow_mut();
        let mut stack = self.stack.borrow_mut();
        let mut work = Work::IDLE;
        for at in 0..state.listeners.len() {
            let (_, listener) = state.listeners[at];
            for _ in 0..ACCEPT_BUDGET {
                let Some(socket) = stack.accept(listener) else { break };
                state.admit(socket, &mut *stack);
                work += Work(1);
            }
        }
        work
    }

    fn poll(&self) -> Work {
        let state = &mut *self.state.borrow_mut();
        let mut work = state.poll_channels();
        let mut stack = self.stack.borrow_mut();
        let State { core, places, .. } = state;
        for place in places.iter_mut() {
            let Some(connection) = &mut place.connection else { continue };
            work += connection.poll(core, &mut *stack);
            if connection.is_reclaimable() {
                connection.leave(core);
                let info = connection.info();
                core.counters.ios += connection.ios();
                place.connection = None;
                core.farewell(info);
            }
        }
        work
    }

    fn check_deadlines(&self) -> Work {
        let State { core, places, .. } = &mut *self.state.borrow_mut();
        let mut stack = self.stack.borrow_mut();
        for connection in places.iter_mut().filter_map(|place| place.connection.as_mut()) {
            connection.check_deadlines(core, &mut *stack);
        }
        Work::IDLE
    }
}

impl Core {
    /// Tells the control plane that a connection is no more.
    fn farewell(&self, info: QueueInfo) {
        let (local, id) = (self.local.clone(), info.connection);
        log::info!(
            target: "nvmf",
            "connection {}.{} closed: controller {:?} queue {:?}",
            id.core, id.slot, info.cntlid, info.qid
        );
        self.local.spawn("nvmf_farewell", async move {
            let leave = move |local: &Local| {
                if let Some(target) = local.service::<Target>() {
                    target.disconnected(id);
                }
            };
            if let Err(error) = local.call(CoreId::BOOT, leave).await {
                log::error!(target: "nvmf", "control plane: {error}");
            }
        });
    }
}

impl State {
    fn admit(&mut self, socket: SocketId, stack: &mut dyn NetStack) {
        let vacant = self.places.iter().position(|place| place.connection.is_none());
        let at = vacant.unwrap_or(self.places.len());
        if at >= CONNECTIONS_MAX {
            log::warn!(target: "nvmf", "core {}: too many connections", self.core.local.core());
            return stack.abort(socket);
        }
        if vacant.is_none() {
            self.places.push(Place::default());
        }
        let place = &mut self.places[at];
        place.generation = place.generation.wrapping_add(1);
        let id = ConnectionId {
            core: self.core.local.core(),
            slot: at as u16,
            generation: place.generation,
        };
        let ends = Ends { local: stack.local(socket), peer: stack.peer(socket) };
        let connection = Connection::new(id, socket, ends, &mut self.core);
        place.connection = Some(Box::new(connection));
        self.core.counters.accepted += 1;
    }

    /// Polls every channel, hands finished Ios to their connections, then submits what channels
    /// had no room for.
    fn poll_channels(&mut self) -> Work {
        let mut work = Work::IDLE;
        for channel in 0..self.core.channels.bound() {
            work += self.core.channels.poll(channel, &mut self.done);
            for io in &mut self.done {
                let tag = Tag::from_u64(io.tag);
                match connection(&mut self.places, tag.connection) {
                    Some(connection) => connection.io_done(&mut self.core, tag, io),
                    None => self.core.counters.stale += 1,
                }
            }
            self.done.clear();
            self.resubmit(channel);
        }
        work
    }

    fn resubmit(&mut self, channel: u16) {
        while let Some(tag) = self.core.channels.next_refused(channel) {
            let Some(connection) = connection(&mut self.places, tag.connection) else { continue };
            if !connection.resubmit(&mut self.core, tag) {
                return self.core.channels.still_refused(channel, tag);
            }
        }
    }
}

fn connection(places: &mut [Place], slot: u16) -> Option<&mut Connection> {
    places.get_mut(usize::from(slot))?.connection.as_deref_mut()
}
