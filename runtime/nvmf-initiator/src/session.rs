//! An association with a remote controller, from Connect to the last command (base specification
//! 2.0 §3.5, fabrics).

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use basalt_env::{CoreId, DmaBuf, DmaPool};
use basalt_net::{ConnectError, Endpoint};
use basalt_nvme_spec::fabrics::{CNTLID_DYNAMIC, Connect, ConnectData, InvalidParameter, Property};
use basalt_nvme_spec::identify::{IDENTIFY_LEN, size_limit};
use basalt_nvme_spec::registers::{self, Cap, Cc, Csts, Shutdown};
use basalt_nvme_spec::{
    AsyncEvent, Cns, Command, Completion, Csi, FeatureId, IdentifyController,
    IdentifyNvmController, QueueCounts, SglDescriptor, Status,
};
use basalt_reactor::Local;
use zerocopy::{FromBytes, IntoBytes};

use super::error::PathError;
use super::options::Host;
use super::remotes::ControllerData;
use basalt_nvmf_host::CoreHost;
use basalt_nvmf_host::{Answer, Data, QueueOptions};
use basalt_nvmf_host::{CallError, Link};
use basalt_nvmf_host::{PathId, Run};
use basalt_nvmf_pdu::Digests;

/// Entries of the admin queue: what every controller has at least (§5.16.1.23, ASQSZ).
const ADMIN_ENTRIES: u16 = 32;
/// Largest transfer of one command, bytes, whatever the controller allows.
const TRANSFER_MAX: u64 = 1 << 20;
/// How often it is looked whether a controller is ready.
const READY_PERIOD: Duration = Duration::from_millis(5);
/// How often it is looked whether there is an address of our own.
const ADDRESS_PERIOD: Duration = Duration::from_millis(20);
/// How long an admin command may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What it takes to reach a controller.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) path: PathId,
    pub(super) run: Run,
    pub(super) peer: Endpoint,
    pub(super) subnqn: String,
    pub(super) host: Host,
    pub(super) digests: Digests,
    /// Entries of each I/O queue, as far as the controller has as many.
    pub(super) entries: u16,
    /// I/O queues at most; none for a discovery controller.
    pub(super) io_queues: u16,
    pub(super) keep_alive: Duration,
    /// How long all of it may take.
    pub(super) connect_timeout: Duration,
    pub(super) io_timeout: Option<Duration>,
}

/// A connected, enabled controller. Its admin queue is on this core.
pub(super) struct Session {
    local: Local,
    pool: Rc<DmaPool>,
    pub(super) admin: Rc<Link>,
    pub(super) cap: Cap,
    pub(super) identify: Box<IdentifyController>,
    pub(super) nvm: NvmLimits,
    /// The cores that have an I/O queue.
    pub(super) cores: Vec<CoreId>,
    pub(super) cntlid: u16,
    pub(super) keep_alive: Duration,
    cc: Cell<Cc>,
}

/// Bytes and blocks that commands without data may name (NVM command set 1.0 §4.1.5.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct NvmLimits {
    pub(super) verify_bytes: u64,
    pub(super) write_zeroes_bytes: u64,
    pub(super) write_uncorrectable_bytes: u64,
    pub(super) deallocate_blocks: u32,
}

impl Session {
    /// Connects to the controller, enables it, and gives each core an I/O queue for as many as it
    /// grants. What was made is undone if that fails.
    pub(super) async fn open(local: &Local, plan: &Plan) -> Result<Self, PathError> {
        // Boxed, as there are several who wait for it.
        let open = Box::pin(Self::open_in_time(local, plan));
        let opened = local.timeout(plan.connect_timeout, open).await;
        opened.unwrap_or(Err(PathError::Timeout))
    }

    async fn open_in_time(local: &Local, plan: &Plan) -> Result<Self, PathError> {
        let (admin, cntlid) = connect_queue(local, plan, Queue::ADMIN).await?;
        let pool: Rc<DmaPool> = local.service().ok_or(PathError::NoMemory)?;
        let identify = Box::default();
        let mut session = Self {
            local: local.clone(),
            pool,
            admin,
            cap: Cap(0),
            identify,
            nvm: NvmLimits::NONE,
            cores: Vec::new(),
            cntlid,
            keep_alive: plan.keep_alive,
            cc: Cell::new(Cc::DISABLED),
        };
        session.enable().await?;
        session.identify().await?;
        if plan.io_queues > 0 {
            session.connect_io(plan).await?;
        }
        session.ask_for_events().await?;
        Ok(session)
    }

    async fn enable(&mut self) -> Result<(), PathError> {
        self.cap = Cap(self.property(registers::CAP, 8).await?);
        if self.csts().await?.contains(Csts::READY) {
            // Left over from another host's use of a static controller.
            self.set_cc(Cc::DISABLED).await?;
            self.wait_for(Csts::empty()).await?;
        }
        let css = if self.cap.io_command_sets() { Cc::CSS_ALL } else { Cc::CSS_NVM };
        self.set_cc(Cc::enabled(css)).await?;
        self.wait_for(Csts::READY).await
    }

    /// Waits until the controller is ready, or is not, as `wanted` says.
    async fn wait_for(&self, wanted: Csts) -> Result<(), PathError> {
        let give_up = self.local.now() + self.cap.timeout().max(Duration::from_millis(500));
        loop {
            let csts = self.csts().await?;
            if csts.contains(Csts::FATAL) || self.local.now() > give_up {
                return Err(PathError::NotReady);
            }
            if csts & Csts::READY == wanted {
                return Ok(());
            }
            self.local.sleep(READY_PERIOD).await;
        }
    }

    async fn csts(&self) -> Result<Csts, PathError> {
        Ok(Csts::from_bits_retain(self.property(registers::CSTS, 4).await? as u32))
    }

    async fn set_cc(&self, cc: Cc) -> Result<(), PathError> {
        let set = Property::set(registers::CC as u32, 4, cc.0.into());
        self.command(set.into(), Data::None, None).await?;
        self.cc.set(cc);
        Ok(())
    }

    async fn property(&self, offset: usize, len: usize) -> Result<u64, PathError> {
        let get = Property::get(offset as u32, len);
        Ok(self.command(get.into(), Data::None, None).await?.completion.result64())
    }

    async fn identify(&mut self) -> Result<(), PathError> {
        let page = self.page(Command::identify(Cns::CONTROLLER, 0)).await?;
        *self.identify =
            IdentifyController::read_from_bytes(page.as_slice()).map_err(|_| PathError::BadData)?;
        let command = Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::NVM);
        self.nvm = match self.page(command).await {
            Ok(page) => NvmLimits::read(page.as_slice(), self.cap.page_size_min())?,
            Err(PathError::Command(_)) => NvmLimits::NONE,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// What the controller says of itself.
    pub(super) fn controller_data(&self) -> ControllerData {
        let identify = &self.identify;
        ControllerData {
            vid: identify.vid.get(),
            model: identify.mn,
            serial: identify.sn,
            firmware: identify.fr,
            cmic: identify.cmic,
        }
    }

    /// Most bytes of one command.
    pub(super) fn transfer_max(&self) -> u64 {
        let own = self.identify.transfer_max(self.cap.page_size_min());
        own.unwrap_or(TRANSFER_MAX).min(TRANSFER_MAX)
    }

    async fn connect_io(&mut self, plan: &Plan) -> Result<(), PathError> {
        let wanted = plan.io_queues.clamp(1, self.local.cores() as u16);
        let counts = QueueCounts::pairs(wanted).to_dword();
        let command = Command::set_features(FeatureId::NUMBER_OF_QUEUES, counts);
        let answer = self.command(command, Data::None, None).await?;
        let granted = QueueCounts::from_dword(answer.completion.dw0.get()).min().min(wanted);
        let queue = self.io_queue(plan);
        for core in 0..granted {
            let (plan, cntlid) = (plan.clone(), self.cntlid);
            let queue = Queue { qid: core + 1, cntlid, ..queue };
            let connect = move |local: Local| async move {
                connect_queue(&local, &plan, queue).await.map(drop)
            };
            let connected = self.local.run_on(CoreId(core), connect).await;
            connected.unwrap_or(Err(PathError::NoNetwork))?;
            self.cores.push(CoreId(core));
        }
        if self.cores.is_empty() { Err(PathError::NoQueues) } else { Ok(()) }
    }

    /// What each I/O queue is like.
    fn io_queue(&self, plan: &Plan) -> Queue {
        let identify = &self.identify;
        let mut entries = u32::from(plan.entries).min(self.cap.queue_entries_max());
        if identify.maxcmd.get() != 0 {
            entries = entries.min(u32::from(identify.maxcmd.get()) + 1);
        }
        // An entry of 64 bytes comes first, and data right behind it or not at all.
        let in_capsule = match identify.icdoff.get() {
            0 => identify.ioccsz.get().saturating_mul(16).saturating_sub(64),
            _ => 0,
        };
        Queue {
            qid: 1,
            entries: entries.clamp(2, 1024) as u16,
            transfer_max: self.transfer_max() as u32,
            in_capsule,
            cntlid: self.cntlid,
        }
    }

    async fn ask_for_events(&self) -> Result<(), PathError> {
        let wanted =
            AsyncEvent::CONFIG_NAMESPACE | AsyncEvent::CONFIG_ANA | AsyncEvent::CONFIG_DISCOVERY;
        let config = wanted & self.identify.oaes.get();
        let command = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, config);
        match self.command(command, Data::None, None).await {
            // A controller without such events still serves its namespaces.
            Ok(_) | Err(PathError::Command(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An admin command from start to end.
    pub(super) async fn command(
        &self,
        command: Command,
        data: Data,
        buffer: Option<DmaBuf>,
    ) -> Result<Answer, PathError> {
        let call = self.admin.call(command, data, buffer);
        let answer = self.local.timeout(ADMIN_TIMEOUT, call).await;
        let answer = answer.map_err(|_| PathError::Timeout)?.map_err(|e| self.failure(e))?;
        check(&answer.completion)?;
        Ok(answer)
    }

    /// Lets the controller hear from us; it has as long to answer as it would wait for us.
    pub(super) async fn keep_alive(&self) -> Result<(), PathError> {
        let command = self.command(Command::keep_alive(), Data::None, None);
        let answer = self.local.timeout(self.keep_alive, command).await;
        answer.unwrap_or(Err(PathError::Timeout)).map(drop)
    }

    fn failure(&self, error: CallError) -> PathError {
        lost(&self.admin, error)
    }

    /// A command that reads one page, which it gives.
    pub(super) async fn page(&self, command: Command) -> Result<DmaBuf, PathError> {
        self.read(command, IDENTIFY_LEN).await
    }

    /// A command that reads so many bytes, which it gives.
    pub(super) async fn read(&self, command: Command, len: usize) -> Result<DmaBuf, PathError> {
        let mut buffer = self.pool.alloc(len).map_err(|_| PathError::NoMemory)?;
        buffer.as_mut_slice().fill(0);
        let data = Data::In { skip: 0, len: len as u32 };
        self.command(command, data, Some(buffer)).await?.data.ok_or(PathError::BadData)
    }

    /// Tells the controller that there will be no more commands (§3.6.1), then lets go of it.
    pub(super) async fn shut_down(&self) {
        let cc = self.cc.get().with_shutdown(Shutdown::NORMAL);
        let set = self.local.timeout(Duration::from_secs(1), self.set_cc(cc)).await;
        if !matches!(set, Ok(Ok(()))) {
            log::debug!(target: "bdev_nvme", "a controller was not told of its end");
        }
    }
}

impl NvmLimits {
    const NONE: Self = Self {
        verify_bytes: u64::MAX,
        write_zeroes_bytes: u64::MAX,
        write_uncorrectable_bytes: u64::MAX,
        deallocate_blocks: u32::MAX,
    };

    fn read(page: &[u8], page_size_min: u64) -> Result<Self, PathError> {
        let identify =
            IdentifyNvmController::read_from_bytes(page).map_err(|_| PathError::BadData)?;
        let bytes = |field| size_limit(field, page_size_min).unwrap_or(u64::MAX);
        let blocks = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let unmap = blocks(identify.dmrsl.get().into()).min(blocks(identify.dmsl.get()));
        Ok(Self {
            verify_bytes: bytes(identify.vsl),
            write_zeroes_bytes: bytes(identify.wzsl),
            write_uncorrectable_bytes: bytes(identify.wusl),
            deallocate_blocks: u32::try_from(unmap).unwrap_or(u32::MAX),
        })
    }
}

/// A queue to be made.
#[derive(Clone, Copy, Debug)]
struct Queue {
    qid: u16,
    entries: u16,
    transfer_max: u32,
    in_capsule: u32,
    cntlid: u16,
}

impl Queue {
    /// The first one, by which a controller is found. Its commands read no more than log pages.
    const ADMIN: Self = Self {
        qid: 0,
        entries: ADMIN_ENTRIES,
        transfer_max: TRANSFER_MAX as u32,
        in_capsule: basalt_nvmf_host::ADMIN_IN_CAPSULE,
        cntlid: CNTLID_DYNAMIC,
    };
}

/// Connects a queue on this core; gives it, and the identifier of its controller.
async fn connect_queue(
    local: &Local,
    plan: &Plan,
    queue: Queue,
) -> Result<(Rc<Link>, u16), PathError> {
    let host = CoreHost::of(local).ok_or(PathError::NoNetwork)?;
    let options = QueueOptions {
        digests: plan.digests,
        // One entry of a queue is never used.
        commands: queue.entries - 1,
        transfer_max: queue.transfer_max,
        in_capsule: queue.in_capsule,
    };
    let at = (plan.path, plan.run, queue.qid);
    let link = loop {
        match host.connect(local, at, plan.peer, options, plan.io_timeout) {
            // The machine has just started, and asks for one.
            Err(ConnectError::NoAddress) => local.sleep(ADDRESS_PERIOD).await,
            made => break made.map_err(PathError::Connect)?,
        }
    };
    match local.timeout(plan.connect_timeout, introduce(local, &link, plan, queue)).await {
        Ok(Ok(cntlid)) => {
            link.go_live();
            Ok((link, cntlid))
        }
        Ok(Err(error)) => {
            host.disconnect(&link);
            Err(error)
        }
        Err(_) => {
            host.disconnect(&link);
            Err(PathError::Timeout)
        }
    }
}

/// Connect (fabrics, base specification 2.0 §6.3).
async fn introduce(
    local: &Local,
    link: &Link,
    plan: &Plan,
    queue: Queue,
) -> Result<u16, PathError> {
    let pool: Rc<DmaPool> = local.service().ok_or(PathError::NoMemory)?;
    let len = size_of::<ConnectData>();
    let mut buffer = pool.alloc(len).map_err(|_| PathError::NoMemory)?;
    buffer.as_mut_slice().copy_from_slice(connect_data(plan, queue.cntlid).as_bytes());
    // The timer is the controller's, which the admin queue makes.
    let kato = if queue.qid == 0 { plan.keep_alive } else { Duration::ZERO };
    let kato_ms = u32::try_from(kato.as_millis()).unwrap_or(u32::MAX);
    let sgl = SglDescriptor::in_capsule(0, len as u32);
    let mut connect = Connect::new(queue.qid, queue.entries, kato_ms, sgl);
    // We never have more commands than the queue has entries: nobody need tell us of its head.
    connect.cattr |= Connect::CATTR_NO_FLOW_CONTROL;
    let data = Data::Out { skip: 0, len: len as u32 };
    let answer = link.call(connect.into(), data, Some(buffer)).await;
    let answer = answer.map_err(|error| lost(link, error))?;
    let Completion { dw0, .. } = answer.completion;
    let status = answer.completion.status();
    if status.is(Status::CONNECT_INVALID_PARAMETERS) {
        return Err(PathError::Invalid(InvalidParameter::from_dword(dw0.get())));
    }
    if !status.is_success() {
        return Err(PathError::Refused(status));
    }
    const AUTHENTICATION: u32 = 0b11 << 17;
    if dw0.get() & AUTHENTICATION != 0 {
        return Err(PathError::Authentication);
    }
    Ok(dw0.get() as u16)
}

fn connect_data(plan: &Plan, cntlid: u16) -> ConnectData {
    let mut data =
        ConnectData { hostid: plan.host.id, cntlid: cntlid.into(), ..ConnectData::default() };
    let (subnqn, hostnqn) = (plan.subnqn.as_bytes(), plan.host.nqn.as_bytes());
    data.subnqn[..subnqn.len()].copy_from_slice(subnqn);
    data.hostnqn[..hostnqn.len()].copy_from_slice(hostnqn);
    data
}

fn check(completion: &Completion) -> Result<(), PathError> {
    let status = completion.status();
    if status.is_success() { Ok(()) } else { Err(PathError::Command(status)) }
}

fn lost(link: &Link, error: CallError) -> PathError {
    match (error, link.error()) {
        (CallError::Full, _) => PathError::NoMemory,
        (CallError::Lost, Some(error)) => PathError::Lost(error),
        (CallError::Lost, None) => PathError::Dropped,
    }
}
