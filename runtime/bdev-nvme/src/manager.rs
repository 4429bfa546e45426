use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::{Bdev, IoError, RegisterError, Registry};
use basalt_env::{CoreId, Device, DmaBuf, DmaPool, Registers};
use basalt_nvme::{
    AdminError, Controller, IoQueue, Namespace, Outcome, QueueAddress, QueueError, QueueSpec,
    Quiesced, Ticket,
};
use basalt_nvme_spec::{AdminOpcode, Command, QueueId};
use basalt_reactor::Local;

use crate::Options;
use crate::bdev::{Family, NvmeBdev};
use crate::controllers::{
    ControlError, ControllerId, ControllerState, Handle, NvmeControllers, Request, Run, Unwanted,
};
use crate::queue::{CoreQueue, CoreQueues};

/// How long another core may take to do as told.
const CORE_PATIENCE: Duration = Duration::from_secs(5);
/// How often a controller is asked for events, as SPDK asks (`nvme_adminq_poll_period_us`, 1 s),
/// but sooner.
const EVENT_PERIOD: Duration = Duration::from_millis(250);
/// How long a detach waits for what is in flight.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const DRAIN_PERIOD: Duration = Duration::from_millis(1);

/// Why a core has no queue pair.
enum NoQueue {
    /// Its core has no memory for one, or the controller wants no more: the others can do without.
    Refused,
    /// Nobody knows whether the controller uses it: it must be stopped before the memory is freed.
    Unknown,
}

/// Sees to one controller, from core 0, for as long as it is attached.
pub(crate) struct Manager<D: Device> {
    local: Local,
    registry: Rc<Registry>,
    handle: Rc<Handle>,
    controller: Controller<D>,
    options: Options,
    /// The namespaces that are bdevs, with the names of these.
    shown: RefCell<Vec<(Namespace, String)>>,
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
        options: Options,
    ) -> Self {
        let shown = RefCell::new(Vec::new());
        Self { local, registry, handle, controller, options, shown }
    }

    /// Does what it is asked to until it is asked to let go.
    pub(crate) async fn run(self) {
        loop {
            match self.local.timeout(EVENT_PERIOD, self.handle.next()).await {
                Err(_) => self.look_for_events().await,
                Ok(Request::Fault(run, fault)) => self.see_to(run, fault).await,
                Ok(Request::Abort(run, qid, ticket, why)) => {
                    self.abort(run, qid, ticket, why).await;
                }
                Ok(Request::Reset(answer)) => answer.send(self.reset_if_alive().await),
                Ok(Request::Admin(command, data, answer)) => {
                    answer.send(self.admin(command, data).await);
                }
                Ok(Request::Detach(answer)) => {
                    self.detach().await;
                    return answer.send(Ok(()));
                }
            }
        }
    }

    async fn admin(&self, command: Command, data: Option<DmaBuf>) -> Result<Outcome, AdminError> {
        if self.has_failed() {
            return Err(AdminError::Removed);
        }
        let outcome = self.controller.admin(command, data).await;
        // Its namespaces may be others now, whether or not the controller reports that.
        let changes = [
            AdminOpcode::NAMESPACE_MANAGEMENT,
            AdminOpcode::NAMESPACE_ATTACHMENT,
            AdminOpcode::FORMAT_NVM,
        ];
        if outcome.is_ok() && changes.contains(&AdminOpcode(command.opcode)) {
            self.rescan().await;
        }
        outcome
    }

    async fn rescan(&self) {
        match self.controller.rescan().await {
            Ok(()) => self.sync_bdevs().await,
            Err(error) => log::error!(target: "bdev_nvme", "{}: {error}", self.name()),
        }
    }

    /// The controller tells of what has befallen it, and of changes of its namespaces.
    async fn look_for_events(&self) {
        if self.has_failed() {
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
    async fn reset(&self, error: IoError) -> Result<(), ControlError> {
        self.handle.set_state(ControllerState::Resetting);
        self.handle.info.borrow_mut().resets += 1;
        self.quiesce(error).await;
        let limit = self.options.reset_timeout;
        let back = match error {
            IoError::Removed => false,
            _ => self.local.timeout(limit, self.come_back()).await.unwrap_or(false),
        };
        if !back {
            self.give_up().await;
            return Err(ControlError::ResetFailed);
        }
        log::info!(target: "bdev_nvme", "{}: back after a reset", self.name());
        self.handle.set_state(ControllerState::Enabled);
        Ok(())
    }

    async fn come_back(&self) -> bool {
        if let Err(error) = self.controller.restart().await {
            log::error!(target: "bdev_nvme", "{}: reset: {error}", self.name());
            return false;
        }
        if !self.make_queues().await {
            return false;
        }
        self.sync_bdevs().await;
        true
    }

    /// Stops the controller, whatever its state, and hands back what its queues hold.
    async fn quiesce(&self, error: IoError) {
        self.on_each_core(|queue| queue.suspend()).await;
        let proof = self.controller.stop().await;
        self.take_back(proof, error).await;
    }

    async fn take_back(&self, proof: Quiesced, error: IoError) {
        self.on_each_core(move |queue| {
            if queue.abort(proof, error).is_err() {
                // Only the proof of another run could fail: the memory stays where it is.
                log::error!(target: "bdev_nvme", "a queue is of another run of its controller");
            }
        })
        .await;
    }

    /// The device will not come back: its bdevs go.
    async fn give_up(&self) {
        log::error!(target: "bdev_nvme", "{}: given up", self.name());
        self.handle.set_state(ControllerState::Failed);
        self.handle.info.borrow_mut().queues.clear();
        // A reset that ran out of time may have left it half way up.
        let proof = self.controller.stop().await;
        self.take_back(proof, IoError::Removed).await;
        self.on_each_core(|queue| queue.close()).await;
        self.remove_bdevs(|_| true);
    }

    /// Lets the bdevs go, waits for what is in flight, and shuts the controller down.
    async fn detach(&self) {
        let failed = self.has_failed();
        self.remove_bdevs(|_| true);
        if !failed {
            self.drain().await;
            self.on_each_core(|queue| queue.suspend()).await;
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

    /// Gives the first cores in turn a queue pair each, which they lend to the others. Whether any
    /// has one now.
    pub(crate) async fn make_queues(&self) -> bool {
        self.cores().for_each(|core| self.handle.lenders.set(core, false));
        for (core, qid) in self.cores_in_turn().zip(1..) {
            let Some(spec) = self.controller.queue_spec(qid) else { break };
            let spec = spec.with_priority(self.options.priority_of(core));
            match self.make_queue(core, spec).await {
                Ok(()) => self.handle.lenders.set(core, true),
                Err(NoQueue::Refused) => self.drop_queue(core).await,
                Err(NoQueue::Unknown) => return false,
            }
        }
        let with_queue: Vec<_> = self.handle.lenders.iter().collect();
        let (made, cores, name) = (with_queue.len(), self.local.cores(), self.name());
        if made < cores {
            let with_queue: Vec<_> = with_queue.iter().map(|core| core.0).collect();
            log::warn!(
                target: "bdev_nvme",
                "{name}: queues for {made} of {cores} cores, which lend them to the others: \
                 {with_queue:?}"
            );
        }
        self.handle.info.borrow_mut().queues = with_queue;
        made > 0
    }

    /// The core allocates the rings from its own memory, the controller is told of them, and the
    /// core is told that it was.
    async fn make_queue(&self, core: CoreId, spec: QueueSpec<D::Registers>) -> Result<(), NoQueue> {
        let (id, timeout) = (self.handle.id, self.options.io_timeout);
        let allocate = move |local: &Local| allocate_queue(local, id, spec, timeout);
        let Some(address) = self.on_core(core, allocate).await.flatten() else {
            log::warn!(target: "bdev_nvme", "{}: no queue memory on core {core}", self.name());
            return Err(NoQueue::Refused);
        };
        let message = match self.controller.create_io_queue(address, Some(core)).await {
            Ok(message) => message,
            Err(error) => {
                let qid = address.qid();
                log::warn!(target: "bdev_nvme", "{}: queue {qid}: {error}", self.name());
                let refused = matches!(error, AdminError::Status(_));
                return Err(if refused { NoQueue::Refused } else { NoQueue::Unknown });
            }
        };
        let run = self.handle.run();
        let go_live = move |local: &Local| {
            CoreQueues::<D::Registers>::of(local).find(id).map(|queue| queue.go_live(run, message))
        };
        self.on_core(core, go_live).await.flatten().ok_or(NoQueue::Unknown)
    }

    /// The core goes without a queue: its channels, if it has any, will hear that it is gone.
    async fn drop_queue(&self, core: CoreId) {
        let id = self.handle.id;
        let close = move |local: &Local| {
            let queues = CoreQueues::<D::Registers>::of(local);
            queues.find(id).inspect(|queue| queue.close());
            queues.remove(id);
        };
        let _ = self.on_core(core, close).await;
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
            if !is_shown(&namespace) {
                self.show(&family, namespace);
            }
        }
        self.shown.borrow_mut().sort_by_key(|(namespace, _)| namespace.nsid());
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
        self.on_each_core(move |queue| queue.resize(nsid, blocks)).await;
        if let Err(error) = self.registry.has_size(&name, blocks) {
            log::error!(target: "bdev_nvme", "{name}: {error}");
        }
    }

    fn show(&self, family: &Family<'_>, namespace: Namespace) {
        let make = || NvmeBdev::<D::Registers>::new(family, namespace);
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

    fn remove_bdevs(&self, goes: impl Fn(&Namespace) -> bool) {
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

    fn name(&self) -> &str {
        &self.options.name
    }

    fn has_failed(&self) -> bool {
        self.handle.info.borrow().state == ControllerState::Failed
    }

    fn cores(&self) -> impl Iterator<Item = CoreId> + use<D> {
        (0..self.local.cores()).map(|core| CoreId(core as u16))
    }

    /// All cores in the order in which they get queues.
    fn cores_in_turn(&self) -> impl Iterator<Item = CoreId> {
        let first = &self.options.cores;
        let others = self.cores().filter(|core| !first.contains(core));
        let first = first.iter().copied().filter(|core| core.index() < self.local.cores());
        first.chain(others)
    }

    /// Has every core that has a queue of this controller do `f` with it.
    async fn on_each_core(&self, f: impl Fn(&CoreQueue<D::Registers>) + Copy + Send + 'static) {
        let id = self.handle.id;
        for core in self.cores() {
            let find = move |local: &Local| {
                let queue = CoreQueues::<D::Registers>::of(local).find(id);
                queue.inspect(|queue| f(queue)).is_some()
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

fn allocate_queue<R: Registers>(
    local: &Local,
    id: ControllerId,
    spec: QueueSpec<R>,
    timeout: Duration,
) -> Option<QueueAddress> {
    let pool: Rc<DmaPool> = local.service()?;
    let queues = CoreQueues::<R>::of(local);
    let depth = usize::from(spec.depth());
    let pair = IoQueue::allocate(&pool, spec).ok()?;
    let queue = queues.find(id).unwrap_or_else(|| {
        let queue = CoreQueue::new(id, depth, pool);
        queue.start(local, check_period(timeout));
        queues.add(Rc::clone(&queue));
        queue
    });
    Some(queue.put(pair))
}

/// Often enough to notice a late command soon after its time.
fn check_period(timeout: Duration) -> Duration {
    (timeout / 8).clamp(Duration::from_millis(1), Duration::from_secs(1))
}
