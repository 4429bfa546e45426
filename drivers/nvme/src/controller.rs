use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use basalt_env::{CoreId, Device, DmaPool, Instant, PciAddress, Registers, WakeMessage};
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::registers::{ACQ, AQA, ASQ, CAP, DOORBELLS};
use basalt_nvme_spec::{
    Aqa, AsyncEvent, Cap, Cc, Command, IdentifyController, InjectedErrors, QueueId, QueuePriority,
    Shutdown,
};

use crate::admin::AdminQueue;
use crate::cmb::Cmb;
use crate::discover::failed;
use crate::queue_spec::{QueueAddress, QueueSpec, Quiesced, Sgls};
use crate::quirks::{self, Quirks};
use crate::registers::{Health, configuration, configure, health};
use crate::shadow::ShadowPages;
use crate::yield_now::yield_now;
use crate::{AdminError, CommandLimits, InitError, Namespace, Options, Ticket, prp};

/// Tells the time. Only used on the control path.
pub type Clock = Rc<dyn Fn() -> Instant>;

/// Shortest limit for getting ready: some controllers claim less than they need.
const READY_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// A controller and its admin queue, owned by the core that runs the control plane.
///
/// ```text
///   bring_up ──> ready ──1 stop──> stopped ──2 restart──> ready (next epoch, no I/O queues)
///                  └───3 drop or stop after removal: bus mastering off
/// ```
///
/// Dropping it turns the device's bus mastering off, so that nothing it was given is reached again.
pub struct Controller<D: Device> {
    pub(crate) device: RefCell<D>,
    pub(crate) registers: D::Registers,
    pub(crate) address: PciAddress,
    pub(crate) quirks: Quirks,
    pub(crate) cap: Cap,
    pub(crate) pool: DmaPool,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    pub(crate) admin: RefCell<AdminQueue<D::Registers>>,
    /// What is injected into admin commands, in whichever run.
    pub(crate) errors: RefCell<InjectedErrors>,
    pub(crate) identify: RefCell<Box<IdentifyController>>,
    pub(crate) namespaces: RefCell<Vec<Namespace>>,
    pub(crate) limits: Cell<CommandLimits>,
    pub(crate) shadow: RefCell<Option<ShadowPages>>,
    pub(crate) cmb: RefCell<Option<Cmb<D::Registers>>>,
    queues: Cell<u16>,
    /// Counts the runs of the controller.
    pub(crate) epoch: Cell<u64>,
    /// Counts the queues ever described, so that no two are taken for each other.
    serial: Cell<u64>,
    /// The I/O queues the controller has.
    live: RefCell<Vec<QueueAddress>>,
}

impl<D: Device> Controller<D> {
    /// Makes a controller usable: reset, admin queue, identify, number of queues, namespaces.
    ///
    /// The future yields wherever it waits and can be polled by any executor. Dropped half way, it
    /// turns the device off. Every wait is bounded by CAP.TO or `options.admin_timeout`.
    pub async fn bring_up(
        mut device: D,
        pool: &DmaPool,
        clock: Clock,
        options: Options,
    ) -> Result<Self, InitError> {
        device.enable();
        let registers = device.bar(0).map_err(InitError::Bar)?;
        let cap = capabilities(&registers)?;
        let stride = cap.doorbell_stride();
        let admin = AdminQueue::allocate(pool, registers.clone(), stride)?;
        let controller = Self {
            address: device.address(),
            quirks: Quirks::of(device.config_read(0)),
            device: RefCell::new(device),
            registers,
            cap,
            pool: pool.clone(),
            clock,
            options,
            admin: RefCell::new(admin),
            errors: RefCell::default(),
            identify: RefCell::default(),
            namespaces: RefCell::default(),
            limits: Cell::new(CommandLimits::NONE),
            shadow: RefCell::default(),
            cmb: RefCell::new(None),
            queues: Cell::new(0),
            epoch: Cell::new(0),
            serial: Cell::new(0),
            live: RefCell::default(),
        };
        controller.start().await?;
        Ok(controller)
    }

    /// Brings a stopped controller up again. Its I/O queues are gone: make new ones.
    pub async fn restart(&self) -> Result<(), InitError> {
        self.stop().await;
        // Bus mastering stays off until the controller has forgotten the memory it was given.
        self.disable().await?;
        let stride = self.cap.doorbell_stride();
        let admin = AdminQueue::allocate(&self.pool, self.registers.clone(), stride)?;
        drop(self.admin.replace(admin));
        self.device.borrow_mut().enable();
        self.start().await
    }

    async fn start(&self) -> Result<(), InitError> {
        self.disable().await?;
        self.take_memory_buffer();
        self.program_admin_queue();
        configure(&self.registers, self.enabled());
        self.wait_ready().await?;
        self.identify_controller().await?;
        self.identify_limits().await?;
        self.set_arbitration().await?;
        self.share_doorbells().await?;
        let queues = self.agree_on_queues().await?;
        self.queues.set(queues);
        self.arm_events().await.map_err(failed(Command::async_event_request()))?;
        self.rescan().await?;
        self.log_summary();
        Ok(())
    }

    async fn disable(&self) -> Result<(), InitError> {
        let cc = configuration(&self.registers);
        if cc.0 == u32::MAX {
            return Err(InitError::Removed);
        }
        if cc.enable() {
            // Clearing EN while the controller is still starting is undefined (§3.1.3.5): let it
            // finish, if it will.
            match self.wait(true).await {
                Err(InitError::Removed) => return Err(InitError::Removed),
                Ok(()) | Err(_) => configure(&self.registers, cc.disabled()),
            }
        }
        self.wait(false).await
    }

    async fn wait_ready(&self) -> Result<(), InitError> {
        self.wait(true).await
    }

    /// Waits for CSTS.RDY, at most CAP.TO. A fatal status ends only the wait for ready: a
    /// controller being stopped is on its way out of it.
    async fn wait(&self, ready: bool) -> Result<(), InitError> {
        if self.quirks.contains(Quirks::DELAY_BEFORE_READY) {
            let changed = (self.clock)();
            while (self.clock)().since(changed) < quirks::READY_DELAY {
                yield_now().await;
            }
        }
        let start = (self.clock)();
        let limit = self.cap.timeout().max(READY_TIMEOUT_MIN);
        loop {
            let waited = (self.clock)().since(start);
            match health(&self.registers) {
                Health::Removed => return Err(InitError::Removed),
                Health::Fatal if ready => return Err(InitError::Fatal),
                Health::Fine { ready: now } if now == ready => return Ok(()),
                _ if waited > limit && ready => return Err(InitError::NeverReady { waited }),
                _ if waited > limit => return Err(InitError::NeverStopped { waited }),
                _ => yield_now().await,
            }
        }
    }

    fn program_admin_queue(&self) {
        let admin = self.admin.borrow();
        let rings = admin.rings();
        let entries = rings.entries();
        self.registers.write32(AQA, Aqa::new(entries, entries).0);
        self.registers.write64(ASQ, rings.sq_bus());
        self.registers.write64(ACQ, rings.cq_bus());
    }

    pub(crate) const fn command_set(&self) -> u8 {
        // With all of them, namespaces of the zoned command set can be used too.
        let all = self.cap.io_command_sets() || !self.cap.nvm_command_set();
        if all { Cc::CSS_ALL } else { Cc::CSS_NVM }
    }

    fn log_summary(&self) {
        let identify = self.identify.borrow();
        let model = basalt_nvme_spec::ascii_field(&identify.mn).unwrap_or("?");
        let namespaces = self.namespaces.borrow().len();
        log::info!(
            "nvme {}: {model}, {} namespaces, {} I/O queues of {} entries",
            self.address,
            namespaces,
            self.queues.get(),
            self.entries()
        );
    }

    /// What a core needs to allocate I/O queue `qid` (1 to [`Self::queues`]).
    pub fn queue_spec(&self, qid: QueueId) -> Option<QueueSpec<D::Registers>> {
        if qid == 0 || qid > self.queues.get() {
            return None;
        }
        self.serial.set(self.serial.get() + 1);
        Some(QueueSpec {
            serial: self.serial.get(),
            registers: self.registers.clone(),
            stride: self.cap.doorbell_stride(),
            address: self.address,
            epoch: self.epoch.get(),
            qid,
            entries: self.entries(),
            transfer_max: self.transfer_max(),
            oncs: self.optional_commands(),
            sgls: self.sgls(),
            elsewhere: self.elsewhere(qid, self.entries()),
            priority: QueuePriority::default(),
            timeout: self.options.io_timeout,
        })
    }

    /// Makes the rings at `queue` known to the device. The queue can be used afterwards.
    ///
    /// Gives the message by which completions can end the rest of `core`, which polls the queue;
    /// it is held back. None if there is none, or no core was named.
    pub async fn create_io_queue(
        &self,
        queue: QueueAddress,
        core: Option<CoreId>,
    ) -> Result<Option<WakeMessage<D::Registers>>, AdminError> {
        if queue.address != self.address || queue.epoch != self.epoch.get() {
            return Err(AdminError::Reset);
        }
        let QueueAddress { qid, entries, cq, .. } = queue;
        // Each queue has the message of its own number.
        let message = core.and_then(|core| self.device.borrow_mut().wake_message(qid, core));
        let mut create = Command::create_io_cq(qid, entries, cq);
        if message.is_some() {
            create = create.with_interrupt(qid);
        }
        self.command(create, None).await?;
        let submission = self.command(self.create_sq(&queue), None).await;
        if submission.is_err() {
            drop(self.command(Command::delete_io_cq(qid), None).await);
        }
        submission?;
        self.live.borrow_mut().push(queue);
        Ok(message)
    }

    /// Asks the controller to abort a command of I/O queue `qid`, which then ends with
    /// [`Status::ABORT_REQUESTED`](basalt_nvme_spec::Status::ABORT_REQUESTED). Whether it says that
    /// it has.
    pub async fn abort(&self, qid: QueueId, ticket: Ticket) -> Result<bool, AdminError> {
        // Bit 0 is set if it was not aborted (§5.1.1).
        Ok(self.command(Command::abort(qid, ticket.cid()), None).await?.dw0 & 1 == 0)
    }

    /// Takes the queue away from the device. The proof lets its owner take its payloads back.
    /// [`AdminError::NotAllowed`] if there is no such queue.
    pub async fn delete_io_queue(&self, qid: QueueId) -> Result<Quiesced, AdminError> {
        let find = |queue: &QueueAddress| queue.qid == qid;
        let live = self.live.borrow().iter().copied().find(find);
        let QueueAddress { epoch, serial, .. } = live.ok_or(AdminError::NotAllowed)?;
        self.command(Command::delete_io_sq(qid), None).await?;
        self.command(Command::delete_io_cq(qid), None).await?;
        self.live.borrow_mut().retain(|queue| queue.serial != serial);
        Ok(Quiesced { address: self.address, epoch, serial: Some(serial) })
    }

    /// Keeps one more Asynchronous Event Request with the controller.
    pub(crate) fn request_event(&self) -> Result<(), AdminError> {
        self.admin.borrow_mut().request_event()
    }

    /// An event that has arrived, if any; its request is used up, so ask again. Reading the log
    /// page it names lets the controller report the next of its kind.
    pub(crate) fn poll_event(&self) -> Option<AsyncEvent> {
        let mut admin = self.admin.borrow_mut();
        admin.poll();
        admin.take_event()
    }

    /// Stops the controller, whatever state it is in, within CAP.TO. Afterwards it reaches no
    /// memory: if it does not stop or is gone, its bus mastering is turned off.
    pub async fn stop(&self) -> Quiesced {
        if let Err(error) = self.disable().await {
            log::warn!("nvme {}: {error}; bus mastering turned off", self.address);
            self.device.borrow_mut().disable();
        }
        let epoch = self.epoch.get();
        self.epoch.set(epoch + 1);
        self.live.borrow_mut().clear();
        Quiesced { address: self.address, epoch, serial: None }
    }

    /// Tells the controller that power may go (§3.6.1), waits until it is done, and stops it.
    /// I/O queues should be idle and deleted before.
    pub async fn shutdown(&self) -> Quiesced {
        let cc = configuration(&self.registers);
        if cc.0 != u32::MAX && cc.enable() {
            configure(&self.registers, cc.with_shutdown(Shutdown::NORMAL));
            self.wait_shutdown().await;
        }
        self.stop().await
    }

    async fn wait_shutdown(&self) {
        let start = (self.clock)();
        let entry = Duration::from_micros(self.identify.borrow().rtd3e.get().into());
        let limit = entry.clamp(Duration::from_secs(1), Duration::from_secs(60));
        while (self.clock)().since(start) <= limit {
            let raw = self.registers.read32(basalt_nvme_spec::registers::CSTS);
            let status = basalt_nvme_spec::Csts::from_bits_retain(raw);
            if status.shutdown() == Shutdown::COMPLETE || raw == u32::MAX {
                return;
            }
            yield_now().await;
        }
        log::warn!("nvme {}: shutdown not complete after {limit:?}", self.address);
    }

    /// Where the controller sits.
    pub const fn address(&self) -> PciAddress {
        self.address
    }

    /// What the controller says of itself.
    pub fn identify(&self) -> IdentifyController {
        IdentifyController::clone(&self.identify.borrow())
    }

    /// Its usable namespaces, by ascending identifier.
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces.borrow().clone()
    }

    /// I/O queue pairs granted; their identifiers count from 1.
    pub fn queues(&self) -> u16 {
        self.queues.get()
    }

    /// Entries of each I/O queue.
    fn entries(&self) -> u16 {
        let entries = u32::from(self.options.queue_entries.clamp(2, 4096));
        entries.min(self.cap.queue_entries_max()) as u16
    }

    /// Optional commands that it does and that can be used.
    pub fn optional_commands(&self) -> Oncs {
        self.quirks.commands(&self.identify.borrow())
    }

    /// Whether and how it takes SGLs with I/O commands.
    pub fn sgls(&self) -> Option<Sgls> {
        Sgls::of(self.identify.borrow().sgls.get())
    }

    /// Most bytes one I/O command moves.
    pub fn transfer_max(&self) -> u64 {
        let limit = self.identify.borrow().transfer_max(self.cap.page_size_min());
        limit.map_or(prp::TRANSFER_MAX, |limit| limit.min(prp::TRANSFER_MAX))
    }
}

impl<D: Device> Drop for Controller<D> {
    fn drop(&mut self) {
        // Whatever is still in flight must not reach memory that is about to be freed.
        let device = self.device.get_mut();
        device.disable();
        // A read comes back only after the write has arrived.
        device.config_read(4);
    }
}

fn capabilities(registers: &impl Registers) -> Result<Cap, InitError> {
    let cap = Cap(registers.read64(CAP));
    if cap.0 == u64::MAX {
        return Err(InitError::Removed);
    }
    if registers.len() < DOORBELLS + 2 * cap.doorbell_stride() {
        return Err(InitError::RegistersTooShort { len: registers.len() });
    }
    if !cap.nvm_command_set() && !cap.io_command_sets() {
        return Err(InitError::NoNvmCommandSet);
    }
    if cap.page_size_min() > basalt_nvme_spec::PAGE_SIZE as u64 {
        return Err(InitError::PageSize);
    }
    Ok(cap)
}
