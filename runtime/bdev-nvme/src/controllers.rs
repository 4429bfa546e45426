use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use basalt_bdev::{Lenders, NvmeOrder, NvmeReport};
use basalt_env::{CoreId, DmaBuf, PciAddress};
use basalt_nvme::{AdminError, Outcome, QueueError, Ticket};
use basalt_nvme_spec::{Command, ErrorChange, QueueId, QueueKind};
use basalt_reactor::Local;
use basalt_reactor::sync::{Notify, oneshot};

use crate::ManageError;

/// Where a controller stands.
///
/// ```text
///            (1) attach             (2) fault, or asked to        (3) up again
///  (none) --------------> Enabled ------------------------> Resetting -----> Enabled
///                            | (5) detach                      | (4) gave up
///                            v                                 v
///                          (none)                            Failed: its bdevs are removed
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControllerState {
    /// In use.
    Enabled,
    /// Being disabled and brought up again; submissions find the queue full meanwhile.
    Resetting,
    /// Stopped, because somebody wanted it so; submissions find the queue full until it is enabled.
    Disabled,
    /// Gone, or not worth another try; its bdevs have been removed.
    Failed,
}

impl fmt::Display for ControllerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabled => "enabled",
            Self::Resetting => "resetting",
            Self::Disabled => "disabled",
            Self::Failed => "failed",
        })
    }
}

/// What is known about an attached controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerInfo {
    /// Its name, for example `Nvme0`; its bdevs are `Nvme0n1` and so on.
    pub name: String,
    /// Where it sits.
    pub address: PciAddress,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// The qualified name of its subsystem; empty if it tells of none.
    pub subnqn: String,
    /// Controller identifier (CNTLID).
    pub cntlid: u16,
    /// Where it stands.
    pub state: ControllerState,
    /// The cores that have an I/O queue pair.
    pub queues: Vec<CoreId>,
    /// Resets so far.
    pub resets: u32,
    /// Its bdevs, in order of namespace.
    pub bdevs: Vec<String>,
}

/// Why a controller does not do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// There is no controller of that name.
    NoSuchController,
    /// The reset did not bring it back.
    ResetFailed,
    /// It has failed, or was detached meanwhile.
    Gone,
    /// It is disabled, and has to be enabled first.
    Disabled,
    /// It is to be enabled, and is.
    Enabled,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchController => "there is no NVMe controller of that name",
            Self::ResetFailed => "the controller did not come back from its reset",
            Self::Gone => "the controller is gone",
            Self::Disabled => "the controller is disabled: enable it first",
            Self::Enabled => "the controller is not disabled",
        })
    }
}

/// What a controller is told to do with itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControllerOrder {
    /// To come up anew. What it has in flight comes back aborted.
    Reset,
    /// To stop until it is enabled. What it has in flight is sent again then, as far as it may be
    /// done twice, and comes back aborted otherwise; what is submitted meanwhile finds its queues
    /// full.
    Disable,
    /// To come up again, as it was disabled.
    Enable,
    /// To have other errors injected into its admin queue, or into the I/O queue that each core has
    /// now. Those of I/O queues go when it is reset or disabled, and what is held back by them ends
    /// then; a disabled controller has none.
    Inject(QueueKind, ErrorChange),
    /// To let go of its bdevs, to shut down, and to be forgotten.
    Detach,
}

/// Something a controller's task should see to.
pub(crate) enum Request {
    /// A core found that its queue does not work, in that run of the controller.
    Fault(Run, QueueError),
    /// A command of a core's queue is to be aborted, in that run.
    Abort(Run, QueueId, Ticket, Unwanted),
    /// Somebody tells it what to do with itself.
    Order(ControllerOrder, oneshot::Sender<Result<(), ControlError>>),
    /// Somebody has an admin command for it.
    Admin(Command, Option<DmaBuf>, oneshot::Sender<Result<Outcome, AdminError>>),
    /// Somebody has an order for it.
    Manage(NvmeOrder, oneshot::Sender<Result<NvmeReport, ManageError>>),
}

/// Why a command is to be aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unwanted {
    /// It is late.
    Late,
    /// Its submitter has no more use for it.
    NotNeeded,
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "late",
            Self::NotNeeded => "not needed any more",
        })
    }
}

/// Counts a controller's resets, so that news of an earlier run are known to be old.
pub(crate) type Run = u32;

/// What core 0 keeps of one controller, whatever its register type.
pub(crate) struct Handle {
    pub(crate) id: ControllerId,
    pub(crate) info: RefCell<ControllerInfo>,
    pub(crate) lenders: Arc<Lenders>,
    requests: RefCell<VecDeque<Request>>,
    asked: Notify,
}

/// Names a controller across cores; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ControllerId(u32);

impl ControllerId {
    /// What it is called in traces.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

impl Handle {
    pub(crate) fn ask(&self, request: Request) {
        self.requests.borrow_mut().push_back(request);
        self.asked.notify_one();
    }

    /// The next request, when there is one.
    pub(crate) async fn next(&self) -> Request {
        loop {
            if let Some(request) = self.try_next() {
                return request;
            }
            self.asked.notified().await;
        }
    }

    pub(crate) fn try_next(&self) -> Option<Request> {
        self.requests.borrow_mut().pop_front()
    }

    pub(crate) fn run(&self) -> Run {
        self.info.borrow().resets
    }

    pub(crate) fn set_state(&self, state: ControllerState) {
        self.info.borrow_mut().state = state;
    }
}

/// All attached controllers: a service of core 0, there once the first is attached.
#[derive(Default)]
pub struct NvmeControllers {
    handles: RefCell<Vec<Rc<Handle>>>,
    ids: Cell<u32>,
}

impl NvmeControllers {
    /// This core's instance; it means something on core 0 only.
    pub fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let controllers = Rc::new(Self::default());
            local.provide(Rc::clone(&controllers));
            controllers
        })
    }

    /// All controllers in order of attachment.
    pub fn list(&self) -> Vec<ControllerInfo> {
        self.handles.borrow().iter().map(|handle| handle.info.borrow().clone()).collect()
    }

    /// The controller of that name.
    pub fn get(&self, name: &str) -> Option<ControllerInfo> {
        self.find(name).map(|handle| handle.info.borrow().clone())
    }

    /// Tells the controller of that name what to do with itself, and waits until it is done.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn order(&self, name: &str, order: ControllerOrder) -> Result<(), ControlError> {
        let id = self.id_of(name).ok_or(ControlError::NoSuchController)?;
        self.order_by_id(id, order).await
    }

    /// Resets a controller: [`ControllerOrder::Reset`].
    pub fn reset(&self, name: &str) -> impl Future<Output = Result<(), ControlError>> {
        self.order(name, ControllerOrder::Reset)
    }

    /// Detaches a controller: [`ControllerOrder::Detach`].
    pub fn detach(&self, name: &str) -> impl Future<Output = Result<(), ControlError>> {
        self.order(name, ControllerOrder::Detach)
    }

    /// The same as [`Self::order`], by what it is called among cores.
    pub(crate) async fn order_by_id(
        &self,
        id: ControllerId,
        order: ControllerOrder,
    ) -> Result<(), ControlError> {
        let (answer, result) = oneshot::channel();
        self.by_id(id).ok_or(ControlError::NoSuchController)?.ask(Request::Order(order, answer));
        result.await.unwrap_or(Err(ControlError::Gone))
    }

    /// What the controller of that name is called among cores.
    pub(crate) fn id_of(&self, name: &str) -> Option<ControllerId> {
        self.find(name).map(|handle| handle.id)
    }

    pub(crate) async fn admin_by_id(
        &self,
        id: ControllerId,
        command: Command,
        data: Option<DmaBuf>,
    ) -> Result<Outcome, AdminError> {
        let (answer, result) = oneshot::channel();
        self.by_id(id).ok_or(AdminError::Removed)?.ask(Request::Admin(command, data, answer));
        result.await.unwrap_or(Err(AdminError::Removed))
    }

    pub(crate) fn next_id(&self) -> ControllerId {
        self.ids.set(self.ids.get() + 1);
        ControllerId(self.ids.get())
    }

    /// Enters a controller, unless another has got the name meanwhile.
    pub(crate) fn add(
        &self,
        id: ControllerId,
        info: ControllerInfo,
        cores: usize,
    ) -> Option<Rc<Handle>> {
        if self.find(&info.name).is_some() {
            return None;
        }
        let handle = Rc::new(Handle {
            id,
            info: RefCell::new(info),
            lenders: Arc::new(Lenders::new(cores)),
            requests: RefCell::default(),
            asked: Notify::new(),
        });
        self.handles.borrow_mut().push(Rc::clone(&handle));
        Some(handle)
    }

    pub(crate) fn remove(&self, id: ControllerId) {
        self.handles.borrow_mut().retain(|handle| handle.id != id);
    }

    /// Takes note of a fault that some core has found.
    pub(crate) fn report(&self, id: ControllerId, run: Run, fault: QueueError) {
        self.by_id(id).inspect(|handle| handle.ask(Request::Fault(run, fault)));
    }

    /// Takes note of a command that is to be aborted.
    pub(crate) fn abort(
        &self,
        id: ControllerId,
        run: Run,
        (qid, ticket): (QueueId, Ticket),
        why: Unwanted,
    ) {
        self.by_id(id).inspect(|handle| handle.ask(Request::Abort(run, qid, ticket, why)));
    }

    fn by_id(&self, id: ControllerId) -> Option<Rc<Handle>> {
        self.handles.borrow().iter().find(|handle| handle.id == id).map(Rc::clone)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Rc<Handle>> {
        let handles = self.handles.borrow();
        handles.iter().find(|handle| handle.info.borrow().name == name).map(Rc::clone)
    }
}
