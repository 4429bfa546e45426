use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use basalt_bdev::Registry;
use basalt_env::{Device, DmaPool, OutOfDmaMemory};
use basalt_reactor::Local;
use basalt_virtio::{Transport, TransportError};
use basalt_virtio_blk::BlkError;

use crate::controllers::{ControllerInfo, Kind, VirtioControllers};
use crate::manager::{Manager, Shape};
use crate::path::IoPath;

/// Why a device could not be attached. It has been left turned off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// This core has no registry of bdevs: it is not the boot core.
    NoRegistry,
    /// A device of that name is attached.
    NameTaken,
    /// It could not be brought up.
    Transport(TransportError),
    /// It is of no use.
    Blk(BlkError),
    /// Its queues have so few entries that no request fits.
    QueueTooSmall(u16),
    /// It takes segments that are smaller than a block.
    SegmentsTooSmall(u32),
    /// No core could get a queue.
    NoQueues,
}

impl From<TransportError> for AttachError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<BlkError> for AttachError {
    fn from(error: BlkError) -> Self {
        match error {
            BlkError::Transport(error) => Self::Transport(error),
            error => Self::Blk(error),
        }
    }
}

impl From<OutOfDmaMemory> for AttachError {
    fn from(error: OutOfDmaMemory) -> Self {
        Self::Transport(error.into())
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRegistry => f.write_str("virtio disks are attached on the boot core only"),
            Self::NameTaken => f.write_str("a virtio device of that name is attached already"),
            Self::Transport(error) => error.fmt(f),
            Self::Blk(error) => error.fmt(f),
            Self::QueueTooSmall(size) => write!(f, "the device's queues have {size} entries only"),
            Self::SegmentsTooSmall(len) => {
                write!(f, "the device takes {len} bytes at a time, less than a block")
            }
            Self::NoQueues => f.write_str("no core could get a queue: out of DMA memory"),
        }
    }
}

/// Brings up the disk or host behind `device`, gives each core a queue as far as there are some,
/// and registers its disks. Gives the names of the bdevs: `name` for a block device,
/// `<name>t<target>` for the disks of a SCSI host.
///
/// To be called on core 0, where [`Registry`] is a service; every core must have its [`DmaPool`] as
/// one. A task sees to the device from then on; [`VirtioControllers`] is the way to it.
///
/// # Errors
/// See [`AttachError`].
pub async fn attach<D>(
    local: &Local,
    device: D,
    path: IoPath<D::Registers>,
    kind: Kind,
    name: String,
) -> Result<Vec<String>, AttachError>
where
    D: Device + 'static,
    D::Registers: Send,
{
    let registry: Rc<Registry> = local.service().ok_or(AttachError::NoRegistry)?;
    let pool: Rc<DmaPool> = local.service().ok_or(AttachError::NoQueues)?;
    let controllers = VirtioControllers::of(local);
    if controllers.get(&name).is_some() {
        return Err(AttachError::NameTaken);
    }
    let address = device.address();
    let mut transport = Transport::open(device)?;
    transport.reset(&|| local.now())?;
    let shape = match kind {
        Kind::Blk => Shape::Blk(basalt_virtio_blk::negotiate(&mut transport)?),
        Kind::Scsi => Shape::Scsi(basalt_virtio_scsi::negotiate(&mut transport)?),
    };
    let info = ControllerInfo {
        name,
        kind,
        address,
        queues: Vec::new(),
        queue_size: 0,
        bdevs: Vec::new(),
    };
    let handle = controllers.add(info).ok_or(AttachError::NameTaken)?;
    let manager = Manager::new(local.clone(), registry, handle, transport, (shape, path));
    if let Err(error) = manager.start(&pool).await {
        manager.stop().await;
        return Err(error);
    }
    manager.look_for_disks().await;
    let names = manager.bdevs();
    local.spawn("bdev_virtio", manager.run());
    Ok(names)
}
