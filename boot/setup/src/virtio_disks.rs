//! Virtio disks: used when the control plane asks for them, and its way to them.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use basalt_bdev_virtio::{AttachError, Kind, VirtioControllers};
use basalt_pci::{Claimed, Function, PciAddress};
use basalt_reactor::Local;
use basalt_rpc::methods::{VirtioControl, VirtioKind, VirtioState};
use basalt_rpc::{RpcError, errno};

use crate::devices::{Firmware, PciDevice, virtio_disk_kind};
use crate::paths::DataPaths;

type Claim = Box<dyn Fn(Function) -> PciDevice>;

/// The virtio disks and hosts of the machine, attached or not: a service of the boot core.
pub struct VirtioDisks {
    claim: Claim,
    paths: DataPaths,
    found: RefCell<Vec<Function>>,
}

impl VirtioDisks {
    /// Those that were found. The control plane may attach them from now on.
    pub fn start(local: &Local, firmware: &Firmware, found: Vec<Function>) {
        let (config, map) = (firmware.config.clone(), firmware.map);
        let claim = move |function| Claimed::new(config.clone(), map, function);
        let disks = Rc::new(Self {
            claim: Box::new(claim),
            paths: firmware.paths,
            found: RefCell::new(found),
        });
        local.provide(Rc::clone(&disks));
        local.provide(Rc::new(disks.control(local)));
    }

    /// One has come.
    pub fn add(local: &Local, function: Function) {
        let Some(disks) = local.service::<Self>() else { return };
        disks.found.borrow_mut().push(function);
    }

    /// Lets go of every device that `gone` tells of; their addresses.
    pub async fn remove(local: &Local, gone: impl Fn(PciAddress) -> bool) -> Vec<PciAddress> {
        let Some(disks) = local.service::<Self>() else { return Vec::new() };
        let controllers = VirtioControllers::of(local);
        for info in controllers.list().into_iter().filter(|info| gone(info.address)) {
            // Whoever asked for the same meanwhile has done it.
            let _ = controllers.detach(&info.name).await;
        }
        let mut found = disks.found.borrow_mut();
        found.extract_if(.., |function| gone(function.address)).map(|f| f.address).collect()
    }

    fn control(self: &Rc<Self>, local: &Local) -> VirtioControl {
        let controllers = VirtioControllers::of(local);
        let (disks, local, detached) = (Rc::clone(self), local.clone(), Rc::clone(&controllers));
        VirtioControl::new(
            move || controllers.list().into_iter().map(state).collect(),
            move |name, kind, address| {
                let (disks, local) = (Rc::clone(&disks), local.clone());
                Box::pin(async move { disks.attach(&local, name, kind, address).await })
            },
            move |name| {
                let controllers = Rc::clone(&detached);
                Box::pin(async move {
                    let done = controllers.detach(&name).await;
                    done.map_err(|error| RpcError::errno(errno::ENODEV, error))
                })
            },
        )
    }

    async fn attach(
        &self,
        local: &Local,
        name: String,
        kind: VirtioKind,
        address: PciAddress,
    ) -> Result<Vec<String>, RpcError> {
        let is_it = |function: &&Function| {
            function.address == address && virtio_disk_kind(function) == Some(kind)
        };
        let function = self.found.borrow().iter().find(is_it).copied();
        let function = function.ok_or_else(|| {
            let what = match kind {
                VirtioKind::Blk => "block device",
                VirtioKind::Scsi => "SCSI host",
            };
            RpcError::errno(errno::ENODEV, format!("there is no virtio {what} at {address}"))
        })?;
        let attached = VirtioControllers::of(local).list();
        if let Some(other) = attached.iter().find(|info| info.address == address) {
            let message = format!("{address} is attached already, as {}", other.name);
            return Err(RpcError::errno(errno::EBUSY, message));
        }
        let kind = match kind {
            VirtioKind::Blk => Kind::Blk,
            VirtioKind::Scsi => Kind::Scsi,
        };
        let device = (self.claim)(function);
        basalt_bdev_virtio::attach(local, device, self.paths.virtio, kind, name).await.map_err(
            |error| {
                let code = match error {
                    AttachError::NameTaken => errno::EEXIST,
                    AttachError::NoQueues => errno::ENOMEM,
                    _ => errno::EIO,
                };
                RpcError::errno(code, error)
            },
        )
    }
}

fn state(info: basalt_bdev_virtio::ControllerInfo) -> VirtioState {
    let kind = match info.kind {
        Kind::Blk => VirtioKind::Blk,
        Kind::Scsi => VirtioKind::Scsi,
    };
    let (name, address, queue_size) = (info.name, info.address, info.queue_size);
    VirtioState { name, kind, address, queues: info.queues.len(), queue_size }
}
