use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use basalt_env::{CoreId, PciAddress};
use basalt_reactor::Local;
use basalt_reactor::sync::{Notify, oneshot};
use basalt_virtio::QueueError;

/// What kind of device it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A block device.
    Blk,
    /// A SCSI host.
    Scsi,
}

/// What is known about an attached device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it sits.
    pub address: PciAddress,
    /// The cores that have a queue.
    pub queues: Vec<CoreId>,
    /// Descriptors of each queue.
    pub queue_size: u16,
    /// Its bdevs.
    pub bdevs: Vec<String>,
}

/// Why a device does not do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// There is none of that name.
    NoSuchController,
    /// It was detached or has failed meanwhile.
    Gone,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchController => "there is no virtio device of that name",
            Self::Gone => "the virtio device is gone",
        })
    }
}

/// Something a device's task should see to.
pub(crate) enum Request {
    /// A core found that its queue is broken.
    Fault(QueueError),
    /// Somebody wants it gone.
    Detach(oneshot::Sender<()>),
}

/// Names a device across cores; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ControllerId(u32);

/// What core 0 keeps of one device.
pub(crate) struct Handle {
    pub(crate) id: ControllerId,
    pub(crate) info: RefCell<ControllerInfo>,
    requests: RefCell<VecDeque<Request>>,
    asked: Notify,
}

impl Handle {
    fn ask(&self, request: Request) {
        self.requests.borrow_mut().push_back(request);
        self.asked.notify_one();
    }

    /// The next request, when there is one.
    pub(crate) async fn next(&self) -> Request {
        loop {
            if let Some(request) = self.requests.borrow_mut().pop_front() {
                return request;
            }
            self.asked.notified().await;
        }
    }
}

/// All attached virtio disks: a service of core 0, there once the first is attached.
#[derive(Default)]
pub struct VirtioControllers {
    handles: RefCell<Vec<Rc<Handle>>>,
    ids: Cell<u32>,
}

impl VirtioControllers {
    /// This core's instance; it means something on core 0 only.
    pub fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let controllers = Rc::new(Self::default());
            local.provide(Rc::clone(&controllers));
            controllers
        })
    }

    /// All of them in order of attachment.
    pub fn list(&self) -> Vec<ControllerInfo> {
        self.handles.borrow().iter().map(|handle| handle.info.borrow().clone()).collect()
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<ControllerInfo> {
        self.find(name).map(|handle| handle.info.borrow().clone())
    }

    /// Removes a device's bdevs, stops it, and forgets it.
    ///
    /// # Errors
    /// There is none of that name, or it has gone meanwhile.
    pub async fn detach(&self, name: &str) -> Result<(), ControlError> {
        let (answer, result) = oneshot::channel();
        self.find(name).ok_or(ControlError::NoSuchController)?.ask(Request::Detach(answer));
        result.await.map_err(|_| ControlError::Gone)
    }

    /// Enters a device, unless another has the name.
    pub(crate) fn add(&self, info: ControllerInfo) -> Option<Rc<Handle>> {
        if self.find(&info.name).is_some() {
            return None;
        }
        self.ids.set(self.ids.get() + 1);
        let handle = Rc::new(Handle {
            id: ControllerId(self.ids.get()),
            info: RefCell::new(info),
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
    pub(crate) fn report(&self, id: ControllerId, fault: QueueError) {
        let handles = self.handles.borrow();
        if let Some(handle) = handles.iter().find(|handle| handle.id == id) {
            handle.ask(Request::Fault(fault));
        }
    }

    fn find(&self, name: &str) -> Option<Rc<Handle>> {
        let handles = self.handles.borrow();
        handles.iter().find(|handle| handle.info.borrow().name == name).map(Rc::clone)
    }
}
