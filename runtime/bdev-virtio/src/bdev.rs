use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use basalt_bdev::{
    Bdev, BdevInfo, IoChannel, Lenders, Op, OpenError, json_string, remote_channel, uuid,
};
use basalt_env::{PciAddress, Registers};
use basalt_reactor::Local;

use crate::controllers::ControllerId;
use crate::path::IoPath;
use crate::queue::CoreQueues;
use crate::unit::Unit;

/// What the bdevs are, as SPDK prints it.
pub const BLK_PRODUCT_NAME: &str = "VirtioBlk Disk";
/// The same of disks of a SCSI host.
pub const SCSI_PRODUCT_NAME: &str = "Virtio SCSI Disk";

/// A disk as a bdev.
pub(crate) struct VirtioBdev<R: Registers> {
    info: BdevInfo,
    controller: ControllerId,
    unit: Unit,
    lenders: Arc<Lenders>,
    json: String,
    path: IoPath<R>,
}

/// What is known of a disk besides what it can do.
pub(crate) struct Label<'a> {
    pub(crate) name: String,
    pub(crate) address: PciAddress,
    /// Its serial number, if it has one.
    pub(crate) serial: &'a str,
    pub(crate) target: Option<u8>,
}

impl<R: Registers> VirtioBdev<R> {
    pub(crate) fn new(
        label: &Label<'_>,
        controller: ControllerId,
        unit: Unit,
        lenders: &Arc<Lenders>,
        path: IoPath<R>,
    ) -> Self {
        let product_name = match unit {
            Unit::Blk(_) => BLK_PRODUCT_NAME,
            Unit::Scsi(_) => SCSI_PRODUCT_NAME,
        };
        let info = BdevInfo {
            name: label.name.clone(),
            product_name,
            block_size: unit.limits().block_size,
            num_blocks: unit.blocks().into(),
            uuid: unique_id(label, product_name),
            optimal_io_boundary: 0,
        };
        let Label { address, serial, target, .. } = label;
        let serial = json_string(serial);
        let target = target.map_or_else(String::new, |target| format!(",\"target\":{target}"));
        let json = format!(
            "{{\"virtio\":{{\"type\":\"pci-modern\",\"pci_address\":\"{address}\",\
             \"serial_number\":{serial}{target}}}}}"
        );
        let lenders = Arc::clone(lenders);
        Self { info, controller, unit, lenders, json, path }
    }

    /// Gives it another UUID, for disks whose serial numbers are not unique.
    #[must_use]
    pub(crate) fn with_uuid(mut self, uuid: uuid::Uuid) -> Self {
        self.info.uuid = uuid;
        self
    }
}

/// The same after every boot: of the serial number, or else of the place.
fn unique_id(label: &Label<'_>, product_name: &str) -> uuid::Uuid {
    let target = [label.target.unwrap_or(0)];
    if !label.serial.is_empty() {
        return uuid::derive(&[product_name.as_bytes(), label.serial.as_bytes()]);
    }
    let address = format!("{}", label.address);
    uuid::derive(&[product_name.as_bytes(), address.as_bytes(), &target])
}

impl<R: Registers> Bdev for VirtioBdev<R> {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        self.unit.supports(op)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let (controller, unit, path) = (self.controller, self.unit, self.path);
        let own = own_channel(local, controller, unit, path);
        if own.as_ref().err() != Some(&OpenError::NoQueueOnCore) {
            return own;
        }
        let lender = self.lenders.lender_of(local.core()).ok_or(OpenError::NoQueueOnCore)?;
        remote_channel(local, lender, move |local| own_channel(local, controller, unit, path))
    }

    fn driver_specific(&self) -> String {
        self.json.clone()
    }
}

/// A channel in front of this core's own queue.
fn own_channel<R: Registers>(
    local: &Local,
    controller: ControllerId,
    unit: Unit,
    path: IoPath<R>,
) -> Result<Box<dyn IoChannel>, OpenError> {
    let queue = CoreQueues::<R>::of(local).find(controller).ok_or(OpenError::NoQueueOnCore)?;
    if queue.is_closed() {
        return Err(OpenError::Removed);
    }
    Ok(path.channel(queue, unit))
}
