//! The machine's NVMe controllers. The block layer knows only their bdevs, so whoever attached
//! them says how to reach them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;

use basalt_bdev::{NvmeOrder, NvmePassthru, NvmeReport};
use basalt_env::PciAddress;
use serde_json::{Value, json};

use super::bdev::no_such_device;
use super::nvme_command::{self, NvmeAnswer};
use super::virtio::read_address;
use super::{nvme_health, nvme_local, nvme_remote};
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
    /// `enabled`, `resetting` or `failed`.
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

type List = Box<dyn Fn() -> Vec<NvmeState>>;
type Attach = Box<dyn Fn(String, PciAddress) -> NvmeAttached>;
type Order = Box<dyn Fn(String) -> NvmeDone>;

/// How the methods reach the controllers: a service of the boot core.
pub struct NvmeControl {
    list: List,
    attach: Attach,
    reset: Order,
    detach: Order,
    admin: Box<dyn Fn(String, NvmePassthru) -> NvmeAdmin>,
    manage: Box<dyn Fn(String, NvmeOrder) -> NvmeManaged>,
}

impl NvmeControl {
    /// A control of six parts: one lists the controllers; one attaches the one at an address, that
    /// was not listed, under a name; the others reset and detach the one of a name that was just
    /// listed, and have it carry out an admin command, and an order.
    pub fn new(
        list: impl Fn() -> Vec<NvmeState> + 'static,
        attach: impl Fn(String, PciAddress) -> NvmeAttached + 'static,
        reset: impl Fn(String) -> NvmeDone + 'static,
        detach: impl Fn(String) -> NvmeDone + 'static,
        admin: impl Fn(String, NvmePassthru) -> NvmeAdmin + 'static,
        manage: impl Fn(String, NvmeOrder) -> NvmeManaged + 'static,
    ) -> Self {
        let (reset, detach) = (Box::new(reset), Box::new(detach));
        let (admin, manage) = (Box::new(admin), Box::new(manage));
        let (list, attach) = (Box::new(list), Box::new(attach));
        Self { list, attach, reset, detach, admin, manage }
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
    router.register_async("bdev_nvme_reset_controller", When::Runtime, reset_controller);
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

async fn reset_controller(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    if nvme_remote::has(&cx, &name) {
        return nvme_remote::reset(&cx, &name, params).await;
    }
    // There is one.
    let _cntlid: Option<u16> = params.optional("cntlid")?;
    order(&cx, name, None, params, |control| &control.reset).await
}

async fn detach_controller(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    if nvme_remote::has(&cx, &name) {
        return nvme_remote::detach(&cx, &name, params).await;
    }
    let traddr: Option<String> = params.optional("traddr")?;
    params.ignore(&nvme_remote::PATH);
    let done = order(&cx, name.clone(), traddr, params, |control| &control.detach).await?;
    cx.forget("bdev", &nvme_local::key(&name));
    Ok(done)
}

/// Gives an order to the controller of that name, which has to be at `traddr` if that is said.
async fn order(
    cx: &Context,
    name: String,
    traddr: Option<String>,
    params: Params,
    which: fn(&NvmeControl) -> &Order,
) -> Outcome {
    params.finish()?;
    let control = cx.service::<NvmeControl>().map_err(|_| no_such_device(&name))?;
    let is_there = |state: &NvmeState| {
        let is_at = |traddr: &String| read_address(traddr) == Some(state.address);
        state.name == name && traddr.as_ref().is_none_or(is_at)
    };
    if !control.list().iter().any(is_there) {
        return Err(no_such_device(&name));
    }
    which(&control)(name).await?;
    Ok(Value::Bool(true))
}

fn controller_to_json(controller: &NvmeState) -> Value {
    let path = json!({
        "state": controller.state,
        "trid": {"trtype": "PCIe", "traddr": format!("{}", controller.address)},
        "cntlid": controller.cntlid,
        "host": {"nqn": "", "addr": "", "svcid": ""},
        "numa_id": -1,
    });
    json!({"name": controller.name, "ctrlrs": [path]})
}
