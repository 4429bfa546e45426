use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use basalt_bdev::{Bdev, BdevInfo, IoChannel, Lenders, Op, OpenError, remote_channel, uuid};
use basalt_env::{PciAddress, Registers};
use basalt_nvme::{CommandLimits, Namespace, ReadsCross, Sgls, Zones};
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{IdentifyController, ascii_field};
use basalt_reactor::Local;

use crate::controllers::ControllerId;
use crate::json::Text;
use crate::path::IoPath;
use crate::poll_group::CoreQueues;
use crate::split::{Dataless, Limits};

/// What the bdevs are, as SPDK prints it.
pub const PRODUCT_NAME: &str = "NVMe disk";

/// A namespace as a bdev.
pub(crate) struct NvmeBdev<R: Registers> {
    info: BdevInfo,
    controller: ControllerId,
    namespace: Namespace,
    limits: Limits,
    optional: Oncs,
    driver_specific: String,
    lenders: Arc<Lenders>,
    path: IoPath<R>,
}

/// What a controller's bdevs have in common.
pub(crate) struct Family<'a> {
    pub(crate) id: ControllerId,
    pub(crate) name: &'a str,
    pub(crate) address: PciAddress,
    pub(crate) identify: &'a IdentifyController,
    /// Optional commands.
    pub(crate) optional: Oncs,
    /// Most bytes of one command.
    pub(crate) transfer_max: u64,
    pub(crate) command_limits: CommandLimits,
    pub(crate) sgls: Option<Sgls>,
    pub(crate) lenders: &'a Arc<Lenders>,
}

impl<R: Registers> NvmeBdev<R> {
    /// The bdev of `namespace`, or `None` if not even one block fits a command.
    pub(crate) fn new(family: &Family<'_>, namespace: Namespace, path: IoPath<R>) -> Option<Self> {
        let block = namespace.block_size() as usize;
        let transfer_max = namespace.transfer_max(family.transfer_max);
        let transfer_max = usize::try_from(transfer_max).unwrap_or(usize::MAX) / block * block;
        if transfer_max == 0 {
            return None;
        }
        // What the controller is to protect takes another way, as does what might cross a boundary.
        let boundary = boundary(&namespace);
        let is_plain = !namespace.has_metadata() && boundary == 0;
        let plain_max = if is_plain { transfer_max } else { 0 };
        let info = BdevInfo {
            name: format!("{}n{}", family.name, namespace.nsid()),
            product_name: PRODUCT_NAME,
            block_size: namespace.block_size(),
            num_blocks: namespace.blocks().into(),
            uuid: unique_id(family, &namespace),
            optimal_io_boundary: namespace.optimal_boundary(),
        };
        Some(Self {
            info,
            controller: family.id,
            namespace,
            limits: Limits {
                transfer_max,
                plain_max,
                block,
                boundary,
                sgls: namespace.sgls(family.sgls),
                dataless: dataless(family, &namespace),
            },
            optional: family.optional,
            driver_specific: describe(family, &namespace),
            lenders: Arc::clone(family.lenders),
            path,
        })
    }

    /// Gives it another UUID, for controllers whose identifiers are not unique.
    #[must_use]
    pub(crate) fn with_uuid(mut self, uuid: uuid::Uuid) -> Self {
        self.info.uuid = uuid;
        self
    }
}

impl<R: Registers> Bdev for NvmeBdev<R> {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        match op {
            Op::Read | Op::Write | Op::Flush => true,
            Op::Reset | Op::NvmeAdmin => true,
            // A command might move metadata, for which there is no place.
            Op::NvmeIo => !self.namespace.has_metadata(),
            op if op.is_zoned() => self.namespace.zones().is_some(),
            Op::Unmap | Op::WriteUncorrectable if self.namespace.zones().is_some() => false,
            Op::Unmap => self.optional.contains(Oncs::DATASET_MANAGEMENT),
            Op::WriteZeroes => self.optional.contains(Oncs::WRITE_ZEROES),
            Op::Compare => self.optional.contains(Oncs::COMPARE) && self.namespace.can_compare(),
            Op::WriteUncorrectable => self.optional.contains(Oncs::WRITE_UNCORRECTABLE),
            Op::Verify => self.optional.contains(Oncs::VERIFY),
            Op::Copy => self.limits.dataless.copy > 0,
            _ => false,
        }
    }

    fn compare_and_write_max(&self) -> u32 {
        let fits = self.limits.transfer_max / self.limits.block;
        self.namespace.compare_and_write_max().min(u32::try_from(fits).unwrap_or(u32::MAX))
    }

    fn zones(&self) -> Option<basalt_bdev::Zones> {
        let Zones { blocks, append_max, open_max, active_max, .. } = self.namespace.zones()?;
        Some(basalt_bdev::Zones { blocks, append_max, open_max, active_max })
    }

    fn can_abort(&self) -> bool {
        true
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let (controller, limits, path) = (self.controller, self.limits, self.path);
        // Of the size it has now.
        let namespace = self.namespace.with_blocks(self.info.num_blocks.get());
        let own = own_channel(local, controller, namespace, limits, path);
        if own.as_ref().err() != Some(&OpenError::NoQueueOnCore) {
            return own;
        }
        let lender = self.lenders.lender_of(local.core()).ok_or(OpenError::NoQueueOnCore)?;
        let open = move |local: &Local| own_channel(local, controller, namespace, limits, path);
        remote_channel(local, lender, open)
    }

    fn nvme_nsid(&self) -> Option<u32> {
        Some(self.namespace.nsid())
    }

    fn driver_specific(&self) -> String {
        self.driver_specific.clone()
    }
}

/// Most blocks one command can name (NVM §3.2.8: NLB has 16 bits).
const BLOCKS_MAX: u32 = 1 << 16;

/// What commands are kept within multiples of, in blocks; 0 for nothing.
fn boundary(namespace: &Namespace) -> u64 {
    let optimal = u64::from(namespace.optimal_boundary());
    match namespace.zones() {
        Some(Zones { blocks, reads_cross: ReadsCross::No, .. }) => {
            // Where a zone ends a command must end.
            if optimal != 0 && blocks.is_multiple_of(optimal) { optimal } else { blocks }
        }
        _ => optimal,
    }
}

fn dataless(family: &Family<'_>, namespace: &Namespace) -> Dataless {
    let limits = family.command_limits;
    let blocks = |bytes: u64| {
        let blocks = bytes / u64::from(namespace.block_size());
        u32::try_from(blocks).unwrap_or(u32::MAX).clamp(1, BLOCKS_MAX)
    };
    Dataless {
        write_zeroes: blocks(limits.write_zeroes_bytes),
        unmap: limits.deallocate_blocks,
        verify: blocks(limits.verify_bytes),
        write_uncorrectable: blocks(limits.write_uncorrectable_bytes),
        copy: match namespace.zones() {
            // It would have to be to where each zone has got.
            Some(_) => 0,
            None => namespace.copy_max().min(BLOCKS_MAX),
        },
    }
}

/// A channel in front of this core's own queue.
fn own_channel<R: Registers>(
    local: &Local,
    controller: ControllerId,
    namespace: Namespace,
    limits: Limits,
    path: IoPath<R>,
) -> Result<Box<dyn IoChannel>, OpenError> {
    let queues = CoreQueues::<R>::of(local);
    let queue = queues.find(controller).ok_or(OpenError::NoQueueOnCore)?;
    if queue.is_closed() {
        return Err(OpenError::Removed);
    }
    path.channel(local, queue, namespace, limits).ok_or(OpenError::NoMemory)
}

/// The namespace's own UUID or NGUID; else one derived from its EUI64, or at last from the serial
/// number and the namespace identifier. All of them are the same after every boot.
fn unique_id(family: &Family<'_>, namespace: &Namespace) -> uuid::Uuid {
    let real = |id: &[u8; 16]| *id != [0; 16] && *id != [0xff; 16];
    if let Some(id) = namespace.uuid().filter(real).or(namespace.nguid().filter(real)) {
        return id;
    }
    if let Some(eui64) = namespace.eui64() {
        return uuid::derive(&[b"eui64", &eui64]);
    }
    let IdentifyController { sn, mn, .. } = family.identify;
    uuid::derive(&[b"serial", sn, mn, &namespace.nsid().to_le_bytes()])
}

/// The module's part of `bdev_get_bdevs`, with SPDK's names.
fn describe(family: &Family<'_>, namespace: &Namespace) -> String {
    let IdentifyController { vid, cntlid, sn, mn, fr, .. } = family.identify;
    let [serial, model, firmware] = [&sn[..], mn, fr].map(text);
    let address = family.address;
    format!(
        concat!(
            r#"{{"nvme":[{{"pci_address":"{address}","#,
            r#""trid":{{"trtype":"PCIe","traddr":"{address}"}},"#,
            r#""ctrlr_data":{{"cntlid":{cntlid},"vendor_id":"{vid:#06x}","model_number":{model},"#,
            r#""serial_number":{serial},"firmware_revision":{firmware}}},"#,
            r#""ns_data":{{"id":{nsid}}}}}]}}"#,
        ),
        address = address,
        cntlid = cntlid.get(),
        vid = vid.get(),
        model = Text(model),
        serial = Text(serial),
        firmware = Text(firmware),
        nsid = namespace.nsid(),
    )
}

/// A text field of the identify structure, or nothing if it is not ASCII.
pub(crate) fn text(field: &[u8]) -> &str {
    ascii_field(field).unwrap_or("")
}
