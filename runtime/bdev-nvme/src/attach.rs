use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use basalt_bdev::Registry;
use basalt_env::{CoreId, Device, DmaPool, Registers};
use basalt_nvme::{ArbitrationOptions, Controller, InitError, LongLimits};
use basalt_nvme_spec::{Arbitration, QueuePriority};
use basalt_reactor::Local;

use crate::bdev::text;
use crate::controllers::{ControllerInfo, ControllerState, NvmeControllers};
use crate::manager::Manager;
use crate::path::IoPath;

/// How a controller is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, from which its bdevs get theirs: `Nvme0` gives `Nvme0n1`.
    pub name: String,
    /// Entries of each core's queues; one less can be in flight. The controller may do with fewer.
    pub queue_entries: u16,
    /// The cores that get queues first if there are not enough for all, such as those near the
    /// device; those not named follow in order.
    pub cores: Vec<CoreId>,
    /// How long the device may take over an I/O before it is reset.
    pub io_timeout: Duration,
    /// How long an admin command may take.
    pub admin_timeout: Duration,
    /// How long those may take that take longer than others.
    pub long: LongLimits,
    /// How long a reset may take before the controller is given up.
    pub reset_timeout: Duration,
    /// Whether its doorbells may be in memory where it offers that.
    pub shadow_doorbells: bool,
    /// Whether its submission queues may lie in its own memory where it offers that.
    pub controller_memory_buffer: bool,
    /// How it is to choose among the cores' queues; `None` leaves that to it, unless some have a
    /// priority.
    pub arbitration: Option<ArbitrationOptions>,
    /// The cores whose queues have another priority than medium, where it knows priorities.
    pub priorities: Vec<(CoreId, QueuePriority)>,
}

impl Options {
    /// The defaults under that name: 256 entries, 30 s per I/O, 10 s per admin command, 60 s per
    /// reset, doorbells in memory, submission queues too.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            queue_entries: 256,
            cores: Vec::new(),
            io_timeout: Duration::from_secs(30),
            admin_timeout: Duration::from_secs(10),
            long: LongLimits::default(),
            reset_timeout: Duration::from_secs(60),
            shadow_doorbells: true,
            controller_memory_buffer: false,
            arbitration: None,
            priorities: Vec::new(),
        }
    }

    /// Takes burst and weights as SPDK has them: a burst of 0 is the controller's own, and if all
    /// are 0, all is left to it.
    #[must_use]
    pub fn with_arbitration(self, value: Arbitration) -> Self {
        let Arbitration { burst, low, medium, high } = value;
        let arbitration = (value != Arbitration::default()).then_some(ArbitrationOptions {
            burst: (burst != 0).then_some(burst),
            low_weight: low,
            medium_weight: medium,
            high_weight: high,
        });
        Self { arbitration, ..self }
    }

    /// The priority of a core's queue.
    pub(crate) fn priority_of(&self, core: CoreId) -> QueuePriority {
        let named = self.priorities.iter().find(|(named, _)| *named == core);
        named.map_or_else(QueuePriority::default, |(_, priority)| *priority)
    }
}

/// Why a controller could not be attached. It has been left turned off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// This core has no registry of bdevs: it is not the boot core.
    NoRegistry,
    /// This core has no pool of DMA memory.
    NoPool,
    /// A controller of that name is attached.
    NameTaken,
    /// It could not be brought up.
    Init(InitError),
    /// No core could get a queue pair.
    NoQueues,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRegistry => "controllers are attached on the boot core only",
            Self::NoPool => "the core has no DMA memory",
            Self::NameTaken => "a controller of that name is attached already",
            Self::Init(error) => return error.fmt(f),
            Self::NoQueues => "no core could get a queue pair",
        })
    }
}

/// Brings up the controller behind `device`, gives each core a queue pair for as many as it grants,
/// and registers its namespaces. Gives the names of the bdevs.
///
/// To be called on core 0, where [`Registry`] is a service; every core must have its
/// [`DmaPool`] as one. A task sees to the controller from then on; [`NvmeControllers`] is the way
/// to it. Cores beyond the granted queues use those of the others.
pub async fn attach<D>(
    local: &Local,
    device: D,
    path: IoPath<D::Registers>,
    options: Options,
) -> Result<Vec<String>, AttachError>
where
    D: Device + 'static,
    D::Registers: Send,
{
    let registry: Rc<Registry> = local.service().ok_or(AttachError::NoRegistry)?;
    let pool: Rc<DmaPool> = local.service().ok_or(AttachError::NoPool)?;
    let controllers = NvmeControllers::of(local);
    if controllers.get(&options.name).is_some() {
        return Err(AttachError::NameTaken);
    }
    let clock = local.clone();
    let controller = Controller::bring_up(
        device,
        &pool,
        Rc::new(move || clock.now()),
        driver_options(local, &options),
    )
    .await
    .map_err(AttachError::Init)?;
    if !options.priorities.is_empty() && !controller.has_priorities() {
        log::warn!(target: "bdev_nvme", "{}: its queues have no priorities", options.name);
    }
    let info = describe(&controller, options.name.clone());
    let handle = controllers.add(controllers.next_id(), info, local.cores());
    let handle = handle.ok_or(AttachError::NameTaken)?;
    let manager = Manager::new(local.clone(), registry, handle, controller, path, options);
    if !manager.make_queues().await {
        manager.abandon().await;
        return Err(AttachError::NoQueues);
    }
    manager.find_sanitizing().await;
    manager.sync_bdevs().await;
    let names = manager.bdevs();
    local.spawn("bdev_nvme", manager.run());
    Ok(names)
}

fn driver_options(local: &Local, options: &Options) -> basalt_nvme::Options {
    let by_priority = (!options.priorities.is_empty()).then(ArbitrationOptions::default);
    basalt_nvme::Options {
        queues: u16::try_from(local.cores()).unwrap_or(u16::MAX),
        queue_entries: options.queue_entries,
        admin_timeout: options.admin_timeout,
        long: options.long,
        io_timeout: options.io_timeout,
        shadow_doorbells: options.shadow_doorbells,
        controller_memory_buffer: options.controller_memory_buffer,
        arbitration: options.arbitration.or(by_priority),
    }
}

fn describe<D: Device>(controller: &Controller<D>, name: String) -> ControllerInfo
where
    D::Registers: Registers,
{
    let identify = controller.identify();
    ControllerInfo {
        name,
        address: controller.address(),
        serial: text(&identify.sn).into(),
        model: text(&identify.mn).into(),
        firmware: text(&identify.fr).into(),
        subnqn: text(&identify.subnqn).into(),
        cntlid: identify.cntlid.get(),
        state: ControllerState::Enabled,
        queues: Vec::new(),
        resets: 0,
        bdevs: Vec::new(),
    }
}
