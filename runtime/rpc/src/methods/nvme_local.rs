//! NVMe controllers of this machine (`trtype` PCIe). All are attached at the start, as `Nvme0` and
//! so on: attaching one gives it the name that it is to have.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_bdev::Registry;
use basalt_bdev::vbdev::gpt::{self, Examiner};
use basalt_env::PciAddress;
use serde_json::json;

use super::nvme::{NvmeControl, NvmeState};
use super::nvme_manage::used_by;
use super::nvme_remote;
use super::nvme_report::users;
use super::virtio::read_address;
use crate::{Context, Outcome, Params, RpcError, errno};

/// Parameters of other transports, or of what is done here in one way; SPDK saves some of them
/// with any controller.
const FOREIGN: [&str; 18] = [
    "adrfam",
    "trsvcid",
    "subnqn",
    "hostnqn",
    "hostaddr",
    "hostsvcid",
    "priority",
    "hdgst",
    "ddgst",
    "multipath",
    "multipath_opts",
    "num_io_queues",
    "ctrlr_loss_timeout_sec",
    "reconnect_delay_sec",
    "fast_io_fail_timeout_sec",
    "fabrics_connect_timeout_us",
    "allow_unrecognized_csi",
    "disable_sq_flow_control",
];

/// What the call is saved as that gave a controller its name.
pub(crate) fn key(name: &str) -> String {
    format!("nvme {name}")
}

/// Whether a controller of this machine is to be attached: takes `trtype` if so.
pub(super) fn is_meant(params: &mut Params) -> Result<bool, RpcError> {
    let trtype: Option<String> = params.peek("trtype")?;
    let is_meant = trtype.is_some_and(|trtype| trtype.eq_ignore_ascii_case("pcie"));
    if is_meant {
        params.ignore(&["trtype"]);
    }
    Ok(is_meant)
}

pub(super) async fn attach_controller(cx: Context, name: String, mut params: Params) -> Outcome {
    let traddr: String = params.required("traddr")?;
    for name in ["prchk_reftag", "prchk_guard"] {
        // Protection is checked wherever a drive has it.
        params.optional::<bool>(name)?;
    }
    let bdevs_max: Option<u32> = params.optional("max_bdevs")?;
    params.ignore(&FOREIGN);
    params.finish()?;
    if name.is_empty() {
        return Err(RpcError::params("'name' is empty"));
    }
    let address = read_address(&traddr).ok_or_else(|| {
        let form = "is not a PCI address like 0000:00:04.0";
        RpcError::params(format_args!("'traddr': '{traddr}' {form}"))
    })?;
    let bdevs = attach(&cx, &name, address).await?;
    Examiner::settled(cx.local()).await;
    if bdevs_max.is_some_and(|most| bdevs.len() > most as usize) {
        let message = format_args!("there are {} bdevs, more than 'max_bdevs'", bdevs.len());
        return Err(RpcError::errno(errno::ERANGE, message));
    }
    cx.remember("bdev", key(&name));
    Ok(json!(bdevs))
}

async fn attach(cx: &Context, name: &str, address: PciAddress) -> Result<Vec<String>, RpcError> {
    let control = cx.service::<NvmeControl>().map_err(|_| {
        let message = format_args!("there is no NVMe controller at {address}");
        RpcError::errno(errno::ENODEV, message)
    })?;
    if nvme_remote::has(cx, name) {
        let message = format_args!("{name} is a controller of another machine");
        return Err(RpcError::errno(errno::EEXIST, message));
    }
    let all = control.list();
    let there = all.iter().find(|state| state.address == address);
    if let Some(there) = there.filter(|there| there.name == name && !is_named(cx, name)) {
        return Ok(there.bdevs.clone());
    }
    let holder = all.iter().find(|state| state.name == name && state.address != address);
    let in_the_way: Vec<&NvmeState> = there.into_iter().chain(holder).collect();
    for state in &in_the_way {
        check_unnamed(cx, state)?;
        check_unused(cx, state)?;
    }
    for state in in_the_way {
        control.detach(state.name.clone()).await?;
    }
    let attached = control.attach(name.into(), address).await;
    if let Some(holder) = holder {
        give_way(&control, holder).await;
    }
    attached
}

/// Attaches a controller again whose name another has got, under the first that is free.
async fn give_way(control: &Rc<NvmeControl>, state: &NvmeState) {
    let mut names = (0_u32..).map(|index| format!("Nvme{index}"));
    let name = names.find(|name| !control.has(name)).unwrap_or_default();
    log::info!(target: "nvme", "{} at {} is {name} now", state.name, state.address);
    if let Err(error) = control.attach(name, state.address).await {
        log::error!(target: "nvme", "{}: {error}; it is left out", state.address);
    }
}

/// Whether somebody gave it its name.
fn is_named(cx: &Context, name: &str) -> bool {
    cx.has_kept("bdev", &key(name))
}

fn check_unnamed(cx: &Context, state: &NvmeState) -> Result<(), RpcError> {
    if !is_named(cx, &state.name) {
        return Ok(());
    }
    let message = format!("{} is attached already, as {}", state.address, state.name);
    Err(RpcError::errno(errno::EEXIST, message))
}

/// Partitions go and come back with their drive, and are no users of it unless they have some.
fn check_unused(cx: &Context, state: &NvmeState) -> Result<(), RpcError> {
    let registry = cx.service::<Registry>()?;
    let is_partition =
        |name: &str| registry.get(name).is_some_and(|bdev| gpt::is_partition(&*bdev));
    for bdev in &state.bdevs {
        let users: Vec<String> = users(cx, bdev)
            .into_iter()
            .flat_map(|user| if is_partition(&user) { users(cx, &user) } else { [user].into() })
            .collect();
        if !users.is_empty() {
            return Err(used_by(bdev, &users));
        }
    }
    Ok(())
}
