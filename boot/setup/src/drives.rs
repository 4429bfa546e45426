//! The drives: NVMe controllers to bdevs, and the control plane's way to them.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_bare::{is_emulated, is_virtual};
use basalt_bdev::Registry;
use basalt_bdev_nvme::{
    AdminError, AttachError, ControlError, ControllerOrder, IoPath, ManageError, NvmeControllers,
    Options, PollGroupStats,
};
use basalt_env::Device;
use basalt_pci::{Claimed, Function, PciAddress};
use basalt_reactor::Local;
use basalt_rpc::methods::{
    NvmeControl, NvmeDone, NvmeOptions, NvmeQueueStats, NvmeRefusal, NvmeState, NvmeSwitch,
};
use basalt_rpc::{Rpc, RpcError, errno};

use crate::devices::{Firmware, Nodes, PciDevice};

type Registers = <PciDevice as Device>::Registers;
type Claim = Box<dyn Fn(Function) -> PciDevice>;

/// The NVMe controllers of the machine, attached or not: a service of the boot core.
pub struct Drives {
    claim: Claim,
    nodes: Rc<Nodes>,
    path: IoPath<Registers>,
    found: RefCell<Vec<Function>>,
}

impl Drives {
    /// Attaches those that were found as `Nvme0`, `Nvme1`, … in the order of their addresses. The
    /// control plane may have them under other names from now on.
    ///
    /// One that does not come up is reported and left out.
    pub async fn start(local: &Local, firmware: &Firmware, found: Vec<Function>) {
        if found.is_empty() {
            log::warn!(target: "nvme", "there is no NVMe controller");
        }
        let (config, map) = (firmware.config.clone(), firmware.map);
        let claim = move |function| Claimed::new(config.clone(), map, function);
        let (nodes, path) = (Rc::clone(&firmware.nodes), firmware.paths.nvme);
        let functions = found.clone();
        let drives =
            Rc::new(Self { claim: Box::new(claim), nodes, path, found: RefCell::new(found) });
        local.provide(Rc::clone(&drives));
        local.provide(Rc::new(drives.control(local)));
        drives.attach_all(local, functions).await;
    }

    /// Attaches all of them again under the same names, as what they are told at that has changed;
    /// to be called before anybody uses them.
    pub async fn attach_again(local: &Local) {
        let Some(drives) = local.service::<Self>() else { return };
        let controllers = NvmeControllers::of(local);
        for info in controllers.list() {
            // One that has gone meanwhile is left out below.
            let _ = controllers.detach(&info.name).await;
        }
        let functions = drives.found.borrow().clone();
        drives.attach_all(local, functions).await;
    }

    async fn attach_all(&self, local: &Local, functions: Vec<Function>) {
        for (index, function) in functions.into_iter().enumerate() {
            self.try_attach(local, function, format!("Nvme{index}")).await;
        }
    }

    /// Attaches a controller that came later, under the first name that is free.
    pub async fn add(local: &Local, function: Function) {
        let Some(drives) = local.service::<Self>() else { return };
        drives.found.borrow_mut().push(function);
        let controllers = NvmeControllers::of(local);
        let mut names = (0_u32..).map(|index| format!("Nvme{index}"));
        let name = names.find(|name| controllers.get(name).is_none()).unwrap_or_default();
        drives.try_attach(local, function, name).await;
    }

    /// Lets go of every controller that `gone` tells of; their addresses.
    pub async fn remove(local: &Local, gone: impl Fn(PciAddress) -> bool) -> Vec<PciAddress> {
        let Some(drives) = local.service::<Self>() else { return Vec::new() };
        let controllers = NvmeControllers::of(local);
        for info in controllers.list().into_iter().filter(|info| gone(info.address)) {
            // Whoever asked for the same meanwhile has done it.
            let _ = controllers.detach(&info.name).await;
            if let Some(rpc) = local.service::<Rpc>() {
                rpc.forget_nvme_controller(&info.name);
            }
        }
        let mut found = drives.found.borrow_mut();
        found.extract_if(.., |function| gone(function.address)).map(|f| f.address).collect()
    }

    async fn try_attach(&self, local: &Local, function: Function, name: String) {
        let address = function.address;
        if let Err(error) = self.attach(local, function, name.clone()).await {
            log::error!(target: "nvme", "{name} ({address}): {error}; it is left out");
        }
    }

    async fn attach(
        &self,
        local: &Local,
        function: Function,
        name: String,
    ) -> Result<Vec<String>, AttachError> {
        let device = (self.claim)(function);
        let address = device.address();
        let mut options = Options::named(name.clone());
        // An emulated processor leaves the guest for a word in memory less often, but then QEMU
        // wakes another thread for every register that is written after all, which costs more.
        options.shadow_doorbells = !is_emulated();
        // A drive spares the way to memory for a command that is brought to it. In a guest the
        // drive is a program as a rule, and each command would leave the guest eight times.
        options.controller_memory_buffer = !is_virtual();
        if let Some(set) = local.service::<NvmeOptions>() {
            options = options.with_arbitration(set.arbitration);
            options.priorities.clone_from(&set.priorities);
        }
        if let Some((node, cores)) = self.nodes.near(address) {
            log::info!(target: "nvme", "{name} ({address}) is on node {node}");
            options.cores = cores;
        }
        let bdevs = basalt_bdev_nvme::attach(local, device, self.path, options).await?;
        report(local, &name, &bdevs);
        Ok(bdevs)
    }

    /// Attaches the one at that address for the control plane.
    async fn attach_at(
        &self,
        local: &Local,
        name: String,
        address: PciAddress,
    ) -> Result<Vec<String>, RpcError> {
        let is_it = |function: &&Function| function.address == address;
        let function = self.found.borrow().iter().find(is_it).copied();
        let function = function.ok_or_else(|| {
            let message = format!("there is no NVMe controller at {address}");
            RpcError::errno(errno::ENODEV, message)
        })?;
        self.attach(local, function, name).await.map_err(|error| {
            let code = match error {
                AttachError::NameTaken => errno::EEXIST,
                AttachError::NoQueues => errno::ENOMEM,
                _ => errno::EIO,
            };
            RpcError::errno(code, error)
        })
    }

    fn control(self: &Rc<Self>, local: &Local) -> NvmeControl {
        let controllers = NvmeControllers::of(local);
        let [switch, detach, admin, manage] = [(); 4].map(|()| Rc::clone(&controllers));
        let (drives, local) = (Rc::clone(self), local.clone());
        NvmeControl::new(
            move || controllers.list().into_iter().map(state).collect(),
            move |name, address| {
                let (drives, local) = (Rc::clone(&drives), local.clone());
                Box::pin(async move { drives.attach_at(&local, name, address).await })
            },
            move |name, to| {
                let controllers = Rc::clone(&switch);
                let order = match to {
                    NvmeSwitch::Reset => ControllerOrder::Reset,
                    NvmeSwitch::Disable => ControllerOrder::Disable,
                    NvmeSwitch::Enable => ControllerOrder::Enable,
                    NvmeSwitch::Errors(queues, change) => ControllerOrder::Inject(queues, change),
                };
                order_done(controllers, name, order)
            },
            move |name| order_done(Rc::clone(&detach), name, ControllerOrder::Detach),
            move |name, passthru| {
                let controllers = Rc::clone(&admin);
                Box::pin(async move { controllers.admin_passthru(&name, passthru).await })
            },
            move |name, order| {
                let controllers = Rc::clone(&manage);
                Box::pin(async move { controllers.manage(&name, order).await.map_err(refusal) })
            },
        )
        .with_queue_stats(|local| PollGroupStats::of::<Registers>(local).map(queue_stats))
    }
}

fn queue_stats(stats: PollGroupStats) -> NvmeQueueStats {
    let PollGroupStats { queues, queued } = stats;
    NvmeQueueStats {
        polls: queues.polls,
        idle_polls: queues.polls - queues.busy_polls,
        completions: queues.completed,
        cq_mmio_doorbell_updates: queues.doorbells.cq_mmio,
        cq_shadow_doorbell_updates: queues.doorbells.cq_shadow,
        queued_requests: queued,
        submitted_requests: queues.submitted,
        sq_mmio_doorbell_updates: queues.doorbells.sq_mmio,
        sq_shadow_doorbell_updates: queues.doorbells.sq_shadow,
    }
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

fn state(info: basalt_bdev_nvme::ControllerInfo) -> NvmeState {
    let state = format!("{}", info.state);
    let basalt_bdev_nvme::ControllerInfo {
        name,
        address,
        serial,
        model,
        firmware,
        cntlid,
        bdevs,
        ..
    } = info;
    NvmeState { name, address, cntlid, state, bdevs, model, serial, firmware }
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

fn order_done(controllers: Rc<NvmeControllers>, name: String, order: ControllerOrder) -> NvmeDone {
    Box::pin(async move {
        controllers.order(&name, order).await.map_err(|error| {
            let code = match error {
                ControlError::NoSuchController => errno::ENODEV,
                ControlError::Disabled | ControlError::Enabled => errno::EALREADY,
                ControlError::ResetFailed | ControlError::Gone => errno::EIO,
            };
            RpcError::errno(code, error)
        })
    })
}
