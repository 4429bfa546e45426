//! The drives: NVMe controllers to bdevs, and the control plane's way to them.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_bare::{is_emulated, is_virtual};
use basalt_bdev::Registry;
use basalt_bdev_nvme::{AdminError, ControlError, ManageError, NvmeControllers, Options};
use basalt_env::{Device, PciAddress};
use basalt_reactor::Local;
use basalt_rpc::methods::{NvmeControl, NvmeDone, NvmeOptions, NvmeRefusal, NvmeState};
use basalt_rpc::{RpcError, errno};

use crate::devices::{Firmware, PciDevice};

/// Attaches every controller as `Nvme0`, `Nvme1`, … in the order of their addresses.
///
/// One that does not come up is reported and left out.
pub async fn attach_all(local: &Local, controllers: Vec<PciDevice>, firmware: &Firmware) {
    provide_control(local);
    if controllers.is_empty() {
        log::warn!(target: "nvme", "there is no NVMe controller");
    }
    for (index, device) in controllers.into_iter().enumerate() {
        attach(local, device, format!("Nvme{index}"), firmware).await;
    }
}

/// Attaches a controller that came later, under the first name that is free.
pub async fn attach_late(local: &Local, device: PciDevice, firmware: &Firmware) {
    let controllers = NvmeControllers::of(local);
    let mut names = (0_u32..).map(|index| format!("Nvme{index}"));
    let name = names.find(|name| controllers.get(name).is_none()).unwrap_or_default();
    attach(local, device, name, firmware).await;
}

async fn attach(local: &Local, device: PciDevice, name: String, firmware: &Firmware) {
    let address = device.address();
    let mut options = Options::named(name.clone());
    // An emulated processor leaves the guest for a word in memory less often, but then QEMU wakes
    // another thread for every register that is written after all, which costs more.
    options.shadow_doorbells = !is_emulated();
    // A drive spares the way to memory for a command that is brought to it. In a guest the drive is
    // a program as a rule, and each command would leave the guest eight times.
    options.controller_memory_buffer = !is_virtual();
    if let Some(set) = local.service::<NvmeOptions>() {
        options = options.with_arbitration(set.arbitration);
        options.priorities.clone_from(&set.priorities);
    }
    if let Some((node, cores)) = firmware.nodes.near(address) {
        log::info!(target: "nvme", "{name} ({address}) is on node {node}");
        options.cores = cores;
    }
    match basalt_bdev_nvme::attach(local, device, firmware.paths.nvme, options).await {
        Ok(bdevs) => report(local, &name, &bdevs),
        Err(error) => log::error!(target: "nvme", "{name} ({address}): {error}; it is left out"),
    }
}

/// Lets go of every controller that `gone` tells of; their addresses.
pub async fn detach(local: &Local, gone: impl Fn(PciAddress) -> bool) -> Vec<PciAddress> {
    let controllers = NvmeControllers::of(local);
    let mut detached = Vec::new();
    for info in controllers.list().into_iter().filter(|info| gone(info.address)) {
        // Whoever asked for the same meanwhile has done it.
        let _ = controllers.detach(&info.name).await;
        detached.push(info.address);
    }
    detached
}

fn report(local: &Local, name: &str, bdevs: &[String]) {
    if let Some(info) = NvmeControllers::of(local).get(name) {
        log::info!(
            target: "nvme",
            "{name} ({}): {} serial {}, one queue pair on each of {} cores",
            info.address,
            info.model,
            info.serial,
            info.queues.len()
        );
    }
    let Some(registry) = local.service::<Registry>() else { return };
    for bdev in bdevs.iter().filter_map(|bdev| registry.get(bdev)) {
        let info = bdev.info();
        let mib = info.size_bytes() >> 20;
        log::info!(target: "nvme", "{}: {mib} MiB in blocks of {}", info.name, info.block_size);
    }
}

fn provide_control(local: &Local) {
    let controllers = NvmeControllers::of(local);
    let [reset, detach, admin, manage] = [(); 4].map(|()| Rc::clone(&controllers));
    let list = move || controllers.list().into_iter().map(state).collect();
    let control = NvmeControl::new(
        list,
        move |name| {
            let controllers = Rc::clone(&reset);
            done(async move { controllers.reset(&name).await })
        },
        move |name| {
            let controllers = Rc::clone(&detach);
            done(async move { controllers.detach(&name).await })
        },
        move |name, passthru| {
            let controllers = Rc::clone(&admin);
            Box::pin(async move { controllers.admin_passthru(&name, passthru).await })
        },
        move |name, order| {
            let controllers = Rc::clone(&manage);
            Box::pin(async move { controllers.manage(&name, order).await.map_err(refusal) })
        },
    );
    local.provide(Rc::new(control));
}

fn state(info: basalt_bdev_nvme::ControllerInfo) -> NvmeState {
    let state = format!("{}", info.state);
    NvmeState { name: info.name, address: info.address, cntlid: info.cntlid, state }
}

fn refusal(error: ManageError) -> NvmeRefusal {
    let code = match &error {
        ManageError::InUse(bdev) => return NvmeRefusal::InUse(bdev.clone()),
        ManageError::Control(ControlError::NoSuchController) => errno::ENODEV,
        ManageError::Control(_) => errno::EIO,
        ManageError::Busy => errno::EBUSY,
        ManageError::Admin(AdminError::Unsupported) => errno::EOPNOTSUPP,
        ManageError::Admin(AdminError::BadArgument | AdminError::ReachesAll) => errno::EINVAL,
        ManageError::Admin(AdminError::NoMemory) => errno::ENOMEM,
        ManageError::Admin(AdminError::Timeout) => errno::ETIMEDOUT,
        ManageError::Admin(_) => errno::EIO,
    };
    NvmeRefusal::Failed(RpcError::errno(code, error))
}

fn done(order: impl Future<Output = Result<(), ControlError>> + 'static) -> NvmeDone {
    Box::pin(async move {
        order.await.map_err(|error| match error {
            ControlError::NoSuchController => RpcError::errno(errno::ENODEV, error),
            ControlError::ResetFailed | ControlError::Gone => RpcError::errno(errno::EIO, error),
        })
    })
}
