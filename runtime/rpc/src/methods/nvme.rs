//! The machine's NVMe controllers. The block layer knows only their bdevs, so whoever attached
//! them says how to reach them.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;

use basalt_bdev::{NvmeOrder, NvmePassthru, NvmeReport};
use basalt_env::PciAddress;
use basalt_nvme_spec::{ErrorChange, QueueKind};
use basalt_reactor::Local;
use serde_json::{Value, json};

use super::bdev::no_such_device;
use super::nvme_command::{self, NvmeAnswer};
use super::virtio::read_address;
use super::{nvme_errors, nvme_health, nvme_local, nvme_remote};
use crate::{Context, Outcome, Params, Router, RpcError, When};

/// An attached NVMe controller as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NvmeState {
    /// Its name, for example `Nvme0`.
    pub name: String,
    /// Where it sits.
    pub address: PciAddress,
    /// Controller identifier (CNTLID).
    pub cntlid: u16,
    /// `enabled`, `resetting`, `disabled` or `failed`.
    pub state: String,
    /// Its bdevs, in order of namespace.
    pub bdevs: Vec<String>,
    /// Model number.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
}

impl NvmeState {
    /// Where it sits, as SPDK's transport identifier.
    pub(super) fn trid(&self) -> Value {
        json!({"trtype": "PCIe", "traddr": format!("{}", self.address)})
    }
}

/// How an attachment ends: the names of the bdevs.
pub type NvmeAttached = Pin<Box<dyn Future<Output = Result<Vec<String>, RpcError>>>>;

/// How an order to a controller ends.
pub type NvmeDone = Pin<Box<dyn Future<Output = Result<(), RpcError>>>>;

/// How an admin command ends.
pub type NvmeAdmin = Pin<Box<dyn Future<Output = NvmeAnswer>>>;

/// How an order to administer something ends.
pub type NvmeManaged = Pin<Box<dyn Future<Output = Result<NvmeReport, NvmeRefusal>>>>;

/// Why such an order was not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NvmeRefusal {
    /// It would lose what is on that bdev, which somebody has open.
    InUse(String),
    /// Whatever else there is.
    Failed(RpcError),
}

/// What a core's queues of the machine's own controllers have done, by the names of SPDK's
/// `bdev_nvme_get_transport_statistics`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NvmeQueueStats {
    /// Looks for completions.
    pub polls: u64,
    /// Those of them that found none.
    pub idle_polls: u64,
    /// Commands completed.
    pub completions: u64,
    /// Writes to the registers of completion queues.
    pub cq_mmio_doorbell_updates: u64,
    /// Writes to their places in memory.
    pub cq_shadow_doorbell_updates: u64,
    /// Commands that did not go out when their Io came.
    pub queued_requests: u64,
    /// Commands submitted.
    pub submitted_requests: u64,
    /// Writes to the registers of submission queues.
    pub sq_mmio_doorbell_updates: u64,
    /// Writes to their places in memory.
    pub sq_shadow_doorbell_updates: u64,
}

/// Finds them on the core that it is called on; `None` if that has never had such a queue.
pub type QueueStatsOf = fn(&Local) -> Option<NvmeQueueStats>;

type List = Box<dyn Fn() -> Vec<NvmeState>>;
type Attach = Box<dyn Fn(String, PciAddress) -> NvmeAttached>;
type Order = Box<dyn Fn(String) -> NvmeDone>;
type Switch = Box<dyn Fn(String, NvmeSwitch) -> NvmeDone>;
/// Reads what a controller is to be told to do with itself.
type Read = fn(&mut Params) -> Result<NvmeSwitch, RpcError>;

/// What a controller is told to do with itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NvmeSwitch {
    /// To come up anew.
    Reset,
    /// To do nothing until it is enabled.
    Disable,
    /// To work again.
    Enable,
    /// To have other errors injected into the commands of some of its queues.
    Errors(QueueKind, ErrorChange),
}

/// How the methods reach the controllers: a service of the boot core.
pub struct NvmeControl {
    list: List,
    attach: Attach,
    switch: Switch,
    detach: Order,
    admin: Box<dyn Fn(String, NvmePassthru) -> NvmeAdmin>,
    manage: Box<dyn Fn(String, NvmeOrder) -> NvmeManaged>,
    queue_stats: Option<QueueStatsOf>,
}

impl NvmeControl {
    /// A control of six parts: one lists the controllers; one attaches the one at an address, that
    /// was not listed, under a name; the others switch and detach the one of a name that was just
    /// listed, and have it carry out an admin command, and an order.
    pub fn new(
        list: impl Fn() -> Vec<NvmeState> + 'static,
        attach: impl Fn(String, PciAddress) -> NvmeAttached + 'static,
        switch: impl Fn(String, NvmeSwitch) -> NvmeDone + 'static,
        detach: impl Fn(String) -> NvmeDone + 'static,
        admin: impl Fn(String, NvmePassthru) -> NvmeAdmin + 'static,
        manage: impl Fn(String, NvmeOrder) -> NvmeManaged + 'static,
    ) -> Self {
        let (switch, detach) = (Box::new(switch), Box::new(detach));
        let (admin, manage) = (Box::new(admin), Box::new(manage));
        let (list, attach) = (Box::new(list), Box::new(attach));
        Self { list, attach, switch, detach, admin, manage, queue_stats: None }
    }

    /// The same, which knows what each core's queues have done.
    #[must_use]
    pub fn with_queue_stats(self, of: QueueStatsOf) -> Self {
        Self { queue_stats: Some(of), ..self }
    }

    pub(super) const fn queue_stats(&self) -> Option<QueueStatsOf> {
        self.queue_stats
    }

    /// The controllers that are attached.
    pub fn list(&self) -> Vec<NvmeState> {
        (self.list)()
    }

    /// Attaches the one at that address.
    pub(super) fn attach(&self, name: String, address: PciAddress) -> NvmeAttached {
        (self.attach)(name, address)
    }

    /// Lets go of the one of that name.
    pub(super) fn detach(&self, name: String) -> NvmeDone {
        (self.detach)(name)
    }

    /// Whether there is a controller of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        (self.list)().iter().any(|state| state.name == name)
    }

    /// Has the one of that name carry out an admin command.
    pub(super) fn admin(&self, name: String, passthru: NvmePassthru) -> NvmeAdmin {
        (self.admin)(name, passthru)
    }

    /// Has the one of that name carry out an order.
    pub(super) fn manage(&self, name: String, order: NvmeOrder) -> NvmeManaged {
        (self.manage)(name, order)
    }
}

impl fmt::Debug for NvmeControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.list)()).finish()
    }
}

pub(super) fn register(router: &mut Router) {
    router.register("bdev_nvme_get_controllers", When::Runtime, get_controllers);
    let switches: [(_, Read); 5] = [
        ("bdev_nvme_reset_controller", |_| Ok(NvmeSwitch::Reset)),
        ("bdev_nvme_disable_controller", |_| Ok(NvmeSwitch::Disable)),
        ("bdev_nvme_enable_controller", |_| Ok(NvmeSwitch::Enable)),
        ("bdev_nvme_add_error_injection", nvme_errors::read_add),
        ("bdev_nvme_remove_error_injection", nvme_errors::read_remove),
    ];
    for (method, read) in switches {
        router.register_async(method, When::Runtime, move |cx, params| switch(cx, params, read));
    }
    router.register_async("bdev_nvme_send_cmd", When::Runtime, nvme_command::send_cmd);
    router.register_async("bdev_nvme_detach_controller", When::Runtime, detach_controller);
    let health = nvme_health::get_controller_health_info;
    router.register_async("bdev_nvme_get_controller_health_info", When::Runtime, health);
}

fn get_controllers(cx: Context, mut params: Params) -> Outcome {
    let name: Option<String> = params.optional("name")?;
    params.finish()?;
    // A machine on which nothing was attached has no such service, and no controllers.
    let all = cx.service::<NvmeControl>().map_or_else(|_| Vec::new(), |control| (control.list)());
    let is_named = |other: &str| name.as_ref().is_none_or(|name| name == other);
    let own = all.iter().filter(|state| is_named(&state.name)).map(controller_to_json);
    let remotes = nvme_remote::list(&cx);
    let remotes = remotes.iter().filter(|remote| is_named(&remote.name));
    let found: Vec<Value> = own.chain(remotes.map(nvme_remote::to_json)).collect();
    match name {
        Some(name) if found.is_empty() => Err(no_such_device(&name)),
        _ => Ok(Value::Array(found)),
    }
}

async fn switch(cx: Context, mut params: Params, read: Read) -> Outcome {
    let name: String = params.required("name")?;
    let to = read(&mut params)?;
    // Errors are injected into all paths.
    let of_one = !matches!(to, NvmeSwitch::Errors(..));
    let cntlid: Option<u16> = if of_one { params.optional("cntlid")? } else { None };
    params.finish()?;
    if nvme_remote::has(&cx, &name) {
        return nvme_remote::switch(&cx, &name, cntlid, to).await;
    }
    let is_meant = |state: &NvmeState| cntlid.is_none_or(|cntlid| state.cntlid == cntlid);
    let control = find(&cx, &name, is_meant)?;
    (control.switch)(name, to).await?;
    Ok(Value::Bool(true))
}

async fn detach_controller(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    if nvme_remote::has(&cx, &name) {
        return nvme_remote::detach(&cx, &name, params).await;
    }
    let traddr: Option<String> = params.optional("traddr")?;
    params.ignore(&nvme_remote::PATH);
    params.finish()?;
    let is_at = |state: &NvmeState| {
        traddr.as_ref().is_none_or(|traddr| read_address(traddr) == Some(state.address))
    };
    let control = find(&cx, &name, is_at)?;
    control.detach(name.clone()).await?;
    cx.forget("bdev", &nvme_local::key(&name));
    Ok(Value::Bool(true))
}

/// The control, if it has a controller of that name of which `is_it` is true.
fn find(
    cx: &Context,
    name: &str,
    is_it: impl Fn(&NvmeState) -> bool,
) -> Result<Rc<NvmeControl>, RpcError> {
    let control = cx.service::<NvmeControl>().map_err(|_| no_such_device(name))?;
    let is_there = control.list().iter().any(|state| state.name == name && is_it(state));
    if is_there { Ok(control) } else { Err(no_such_device(name)) }
}

fn controller_to_json(controller: &NvmeState) -> Value {
    let path = json!({
        "state": controller.state,
        "trid": controller.trid(),
        "cntlid": controller.cntlid,
        "host": {"nqn": "", "addr": "", "svcid": ""},
        "numa_id": -1,
    });
    json!({"name": controller.name, "ctrlrs": [path]})
}
