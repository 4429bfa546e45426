mod queues;
mod switch;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_bdev::{Bdev, IoError, RegisterError, Registry};
use basalt_env::{CoreId, Device, sort_few_by_key};
use basalt_nvme::{AdminError, Controller, Namespace, QueueError, Quiesced, Ticket};
use basalt_nvme_spec::QueueId;
use basalt_nvme_spec::manage::FormatTarget;
use basalt_reactor::Local;

use crate::Options;
use crate::bdev::{Family, NvmeBdev};
use crate::controllers::{
    ControlError, ControllerOrder, ControllerState, Handle, NvmeControllers, Request, Run, Unwanted,
};
use crate::jobs::{Jobs, Next};
use crate::path::IoPath;
use crate::poll_group::CoreQueues;
use crate::queue::QueueOrder;

/// How long another core may take to do as told.
const CORE_PATIENCE: Duration = Duration::from_secs(5);
/// How often a controller is asked for events, as SPDK asks (`nvme_adminq_poll_period_us`, 1 s),
/// but sooner.
const EVENT_PERIOD: Duration = Duration::from_millis(250);
/// Resets in a row that may fail before a controller is given up.
const RESETS_MAX: u32 = 3;
/// How long a detach waits for what is in flight.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const DRAIN_PERIOD: Duration = Duration::from_millis(1);

/// Sees to one controller, from core 0, for as long as it is attached.
pub(crate) struct Manager<D: Device> {
    pub(crate) local: Local,
    pub(crate) registry: Rc<Registry>,
    pub(crate) handle: Rc<Handle>,
    pub(crate) controller: Controller<D>,
    path: IoPath<D::Registers>,
    options: Options,
    /// The namespaces that are bdevs, with the names of these.
    pub(crate) shown: RefCell<Vec<(Namespace, String)>>,
    /// Those that are not to be, for what is on them is being lost.
    pub(crate) held: Cell<Option<FormatTarget>>,
    /// Whether they are all held until a sanitize operation is over.
    pub(crate) sanitizing: Cell<bool>,
}

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    pub(crate) const fn new(
        local: Local,
        registry: Rc<Registry>,
        handle: Rc<Handle>,
        controller: Controller<D>,
        path: IoPath<D::Registers>,
        options: Options,
    ) -> Self {
        let shown = RefCell::new(Vec::new());
        let (held, sanitizing) = (Cell::new(None), Cell::new(false));
        Self { local, registry, handle, controller, path, options, shown, held, sanitizing }
    }

    /// Does what it is asked to until it is asked to let go.
    pub(crate) async fn run(self) {
        let mut jobs = Jobs::default();
        loop {
            let next = self.local.timeout(EVENT_PERIOD, jobs.or(self.handle.next())).await;
            let request = match next {
                Err(_) => {
                    self.look_for_events().await;
                    continue;
                }
                Ok(Next::Ended(ended)) => {
                    self.settle(ended).await;
                    continue;
                }
                Ok(Next::Asked(request)) => request,
            };
            let Some(request) = self.unless_disabled(request) else { continue };
            match request {
                Request::Fault(run, fault) => self.see_to(run, fault).await,
                Request::Abort(run, qid, ticket, why) => self.abort(run, qid, ticket, why).await,
                Request::Order(ControllerOrder::Detach, answer) => {
                    self.detach().await;
                    return answer.send(Ok(()));
                }
                Request::Order(order, answer) => answer.send(self.obey(order).await),
                Request::Admin(command, data, answer) => {
                    jobs.add(self.admin(command, data, answer));
                }
                Request::Manage(order, answer) => match self.prepare(&order) {
                    Ok(changes) => jobs.add(self.carry_out(order, changes, answer)),
                    Err(error) => answer.send(Err(error)),
                },
            }
        }
    }

    pub(crate) async fn rescan(&self) {
        match self.controller.rescan().await {
            Ok(()) => self.sync_bdevs().await,
            Err(error) => log::error!(target: "bdev_nvme", "{}: {error}", self.name()),
        }
    }

    /// The controller tells of what has befallen it, and of changes of its namespaces.
    async fn look_for_events(&self) {
        if self.has_failed() || self.is_disabled() {
            return;
        }
        let changed = match self.controller.see_to_events().await {
            Ok(events) => events.namespaces_changed,
            Err(error) => {
                log::error!(target: "bdev_nvme", "{}: events: {error}", self.name());
                // The result is in the state, and in the log.
                let _ = self.reset(IoError::Aborted).await;
                return;
            }
        };
        if changed {
            self.rescan().await;
        }
        self.look_at_sanitizing().await;
    }

    async fn see_to(&self, run: Run, fault: QueueError) {
        // Several cores report the same trouble; the first reset sees to it.
        if run != self.handle.run() || self.has_failed() {
            return;
        }
        log::error!(target: "bdev_nvme", "{}: {fault}", self.name());
        let error = match fault {
            QueueError::Timeout => IoError::Timeout,
            QueueError::Removed => IoError::Removed,
            _ => IoError::Aborted,
        };
        // The result is in the state, and in the log.
        let _ = self.reset(error).await;
    }

    /// Asks the controller to abort a command. If it does not even answer that, it is reset.
    async fn abort(&self, run: Run, qid: QueueId, ticket: Ticket, why: Unwanted) {
        if run != self.handle.run() || self.has_failed() {
            return;
        }
        let (name, cid) = (self.name(), ticket.cid());
        let unwanted = format_args!("{name}: command {cid:#06x} of queue {qid} is {why}");
        let level = match why {
            Unwanted::Late => log::Level::Warn,
            Unwanted::NotNeeded => log::Level::Debug,
        };
        match self.controller.abort(qid, ticket).await {
            Ok(true) => log::log!(target: "bdev_nvme", level, "{unwanted}; it was aborted"),
            Ok(false) | Err(AdminError::Status(_)) => log::log!(
                target: "bdev_nvme",
                level,
                "{unwanted}, and the controller does not abort it"
            ),
            Err(error) => {
                log::error!(target: "bdev_nvme", "{name}: abort: {error}");
                // The result is in the state, and in the log.
                let _ = self.reset(IoError::Timeout).await;
            }
        }
    }

    async fn reset_if_alive(&self) -> Result<(), ControlError> {
        if self.has_failed() {
            return Err(ControlError::Gone);
        }
        self.reset(IoError::Aborted).await
    }

    /// Stops the controller, ends everything in flight with `error`, and brings it up again.
    pub(crate) async fn reset(&self, error: IoError) -> Result<(), ControlError> {
        self.handle.set_state(ControllerState::Resetting);
        let limit = self.options.reset_timeout;
        let back = self.local.timeout(limit, self.reset_at_last(error)).await.unwrap_or(false);
        if !back {
            self.give_up().await;
            return Err(ControlError::ResetFailed);
        }
        log::info!(target: "bdev_nvme", "{}: back after a reset", self.name());
        self.handle.set_state(ControllerState::Enabled);
        Ok(())
    }

    /// Whether one of a few resets has brought it back: something may go wrong on the way up, too.
    async fn reset_at_last(&self, error: IoError) -> bool {
        for _ in 0..RESETS_MAX {
            self.handle.info.borrow_mut().resets += 1;
            self.quiesce(error).await;
            if error == IoError::Removed {
                return false;
            }
            if self.come_back().await {
                return true;
            }
        }
        false
    }

    async fn come_back(&self) -> bool {
        if let Err(error) = self.controller.restart().await {
            log::error!(target: "bdev_nvme", "{}: reset: {error}", self.name());
            return false;
        }
        if !self.make_queues().await {
            return false;
        }
        self.note_firmware();
        self.sync_bdevs().await;
        true
    }

    /// Stops the controller, whatever its state, and hands back what its queues hold.
    async fn quiesce(&self, error: IoError) {
        self.on_each_core(QueueOrder::Suspend).await;
        let proof = self.controller.stop().await;
        self.take_back(proof, error).await;
    }

    async fn take_back(&self, proof: Quiesced, error: IoError) {
        self.on_each_core(QueueOrder::Abort(proof, error)).await;
    }

    /// The device will not come back: its bdevs go.
    async fn give_up(&self) {
        log::error!(target: "bdev_nvme", "{}: given up", self.name());
        self.handle.set_state(ControllerState::Failed);
        self.handle.info.borrow_mut().queues.clear();
        // A reset that ran out of time may have left it half way up.
        let proof = self.controller.stop().await;
        self.take_back(proof, IoError::Removed).await;
        self.on_each_core(QueueOrder::Close).await;
        self.remove_bdevs(|_| true);
    }

    /// Lets the bdevs go, waits for what is in flight, and shuts the controller down.
    async fn detach(&self) {
        let stopped = self.has_failed() || self.is_disabled();
        self.remove_bdevs(|_| true);
        if !stopped {
            self.drain().await;
            self.on_each_core(QueueOrder::Suspend).await;
            for qid in 1..=self.controller.queues() {
                // One that was never made is refused; shutting down makes up for it.
                let _ = self.controller.delete_io_queue(qid).await;
            }
        }
        let proof = self.controller.shutdown().await;
        self.take_back(proof, IoError::Removed).await;
        self.forget().await;
        log::info!(target: "bdev_nvme", "{}: detached", self.name());
    }

    /// Undoes an attachment that came to nothing.
    pub(crate) async fn abandon(&self) {
        self.quiesce(IoError::Removed).await;
        self.forget().await;
    }

    async fn forget(&self) {
        for core in self.cores() {
            self.drop_queue(core).await;
        }
        NvmeControllers::of(&self.local).remove(self.handle.id);
    }

    /// Waits until nothing is in flight on any core, but not for long.
    async fn drain(&self) {
        let id = self.handle.id;
        let give_up = self.local.now() + DRAIN_PATIENCE;
        for core in self.cores() {
            let count = move |local: &Local| {
                let queue = CoreQueues::<D::Registers>::of(local).find(id);
                queue.map_or(0, |queue| queue.outstanding())
            };
            while self.on_core(core, count).await.unwrap_or(0) > 0 && self.local.now() < give_up {
                self.local.sleep(DRAIN_PERIOD).await;
            }
        }
    }

    /// Makes the registry agree with the controller's namespaces: what has another size only is
    /// resized, what is gone or is another one goes, what is new comes.
    pub(crate) async fn sync_bdevs(&self) {
        let present = self.controller.namespaces();
        for namespace in &present {
            self.resize_bdev(namespace).await;
        }
        self.remove_bdevs(|shown| !present.contains(shown));
        let identify = self.controller.identify();
        let family = Family {
            id: self.handle.id,
            name: &self.options.name,
            address: self.controller.address(),
            identify: &identify,
            transfer_max: self.controller.transfer_max(),
            optional: self.controller.optional_commands(),
            sgls: self.controller.sgls(),
            command_limits: self.controller.command_limits(),
            lenders: &self.handle.lenders,
        };
        let is_shown =
            |namespace: &Namespace| self.shown.borrow().iter().any(|(shown, _)| shown == namespace);
        for namespace in present {
            if !is_shown(&namespace) && !self.is_held(&namespace) {
                self.show(&family, namespace);
            }
        }
        sort_few_by_key(&mut self.shown.borrow_mut(), |(namespace, _)| namespace.nsid());
        self.handle.info.borrow_mut().bdevs = self.bdevs();
    }

    async fn resize_bdev(&self, namespace: &Namespace) {
        let (nsid, blocks) = (namespace.nsid(), namespace.blocks());
        let was = |(shown, _): &&mut (Namespace, String)| {
            shown != namespace && shown.with_blocks(blocks) == *namespace
        };
        let name = self.shown.borrow_mut().iter_mut().find(was).map(|(shown, name)| {
            *shown = *namespace;
            name.clone()
        });
        let Some(name) = name else { return };
        // Nobody is told of blocks before every core lets them pass.
        self.on_each_core(QueueOrder::Resize(nsid, blocks)).await;
        if let Err(error) = self.registry.has_size(&name, blocks) {
            log::error!(target: "bdev_nvme", "{name}: {error}");
        }
    }

    fn show(&self, family: &Family<'_>, namespace: Namespace) {
        let make = || NvmeBdev::new(family, namespace, self.path);
        let Some(bdev) = make() else {
            let nsid = namespace.nsid();
            log::warn!(target: "bdev_nvme", "{}: namespace {nsid}: blocks too large", self.name());
            return;
        };
        let name = bdev.info().name.clone();
        let mut registered = self.registry.register(Arc::new(bdev));
        if registered == Err(RegisterError::UuidTaken) {
            log::warn!(target: "bdev_nvme", "{name}: its identifier is another bdev's");
            let uuid = self.registry.make_uuid(&name);
            registered = make()
                .map_or(registered, |bdev| self.registry.register(Arc::new(bdev.with_uuid(uuid))));
        }
        match registered {
            Ok(()) => self.shown.borrow_mut().push((namespace, name)),
            Err(error) => log::error!(target: "bdev_nvme", "{name}: {error}"),
        }
    }

    pub(crate) fn remove_bdevs(&self, goes: impl Fn(&Namespace) -> bool) {
        let going: Vec<_> =
            self.shown.borrow_mut().extract_if(.., |(namespace, _)| goes(namespace)).collect();
        for (_, name) in going {
            // Somebody may have removed it already.
            let _ = self.registry.remove(&name);
        }
        self.handle.info.borrow_mut().bdevs = self.bdevs();
    }

    /// The names of the bdevs.
    pub(crate) fn bdevs(&self) -> Vec<String> {
        self.shown.borrow().iter().map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.handle.info.borrow().state == ControllerState::Failed
    }

    fn cores(&self) -> impl Iterator<Item = CoreId> + use<D> {
        (0..self.local.cores()).map(|core| CoreId(core as u16))
    }

    /// Has every core that has a queue of this controller do that with it. An order, as a closure
    /// would make one of these for each.
    async fn on_each_core(&self, order: QueueOrder) {
        let id = self.handle.id;
        for core in self.cores() {
            let find = move |local: &Local| {
                let queue = CoreQueues::<D::Registers>::of(local).find(id);
                queue.inspect(|queue| queue.obey(order)).is_some()
            };
            if self.on_core(core, find).await.is_none() {
                log::error!(target: "bdev_nvme", "{}: core {core} does not answer", self.name());
            }
        }
    }

    /// Has `core` do `f`. `None` if it does not answer.
    async fn on_core<T: Send + 'static>(
        &self,
        core: CoreId,
        f: impl FnOnce(&Local) -> T + Send + 'static,
    ) -> Option<T> {
        self.local.timeout(CORE_PATIENCE, self.local.call(core, f)).await.ok()?.ok()
    }
}
