//! Partitions of SPDK's type in a GUID partition table (SPDK's `gpt`).
//!
//! Every bdev that comes is examined: its table is read, and if it has such partitions, each
//! becomes a bdev, called `<base>p1`, `<base>p2`, … by its number. So does one that is meant for
//! the machine's configuration ([`CONFIG_KIND`]). Partitions of other types belong to somebody else
//! and are left alone.

mod table;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{borrow::ToOwned, vec};
use core::cell::RefCell;
use core::num::NonZeroU16;
use core::ops::Range;
use core::time::Duration;

use basalt_env::DmaPool;
use basalt_reactor::Local;

use self::table::{FIRST_HEADER, Header, Partition};
use super::base::Base;
use super::part::Part;
use super::{Recipe, Vbdevs};
use crate::json::json_string;
use crate::uuid::{self, Uuid};
use crate::{
    Access, AsyncChannel, Bdev, CreateError, Descriptor, Event, RegisterError, Registry, SgList,
};

/// The module's product name, as SPDK prints it.
pub const PRODUCT_NAME: &str = "GPT Disk";

/// The product name of a partition that the machine's configuration is kept in.
pub const CONFIG_PRODUCT_NAME: &str = "Basalt configuration";

/// The type of such a partition.
pub const CONFIG_KIND: Uuid = 0x775d_f5a4_d056_43fa_9356_561f_96ba_8dc9_u128.to_be_bytes();

/// The types of SPDK's partitions: today's, and the one before.
const KINDS: [Uuid; 2] = [
    0x6527_994e_2c5a_4eec_9613_8f59_4407_4e8b_u128.to_be_bytes(),
    0x7c52_22bd_8f5d_4087_9c00_bf98_43c7_b58c_u128.to_be_bytes(),
];

/// What a bdev is of a partition of that type, if it becomes one.
fn product(kind: Uuid) -> Option<&'static str> {
    match KINDS.contains(&kind) {
        true => Some(PRODUCT_NAME),
        false => (kind == CONFIG_KIND).then_some(CONFIG_PRODUCT_NAME),
    }
}

/// Whether a bdev is a partition, of either kind.
pub fn is_partition(bdev: &dyn Bdev) -> bool {
    [PRODUCT_NAME, CONFIG_PRODUCT_NAME].contains(&bdev.info().product_name)
}

/// How often is looked whether examinations are over.
const SETTLE_PERIOD: Duration = Duration::from_micros(100);
/// How long an examination may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Examines bdevs: a service of core 0, next to the [`Registry`].
pub struct Examiner {
    local: Local,
    /// Bdevs that are being examined.
    pending: RefCell<BTreeSet<String>>,
}

impl Examiner {
    /// Examines every bdev that comes from now on. To be called on core 0, once.
    pub fn start(local: &Local) {
        let Some(registry) = local.service::<Registry>() else { return };
        let examiner = Rc::new(Self { local: local.clone(), pending: RefCell::default() });
        local.provide(Rc::clone(&examiner));
        registry.subscribe(move |event| match event {
            Event::Registered(bdev) => examiner.examine(&**bdev),
            Event::Removed(bdev) => examiner.forget(&**bdev),
            Event::Resized(..) => {}
        });
    }

    /// Waits until all bdevs that have come to this core, which is core 0, are examined.
    pub async fn settled(local: &Local) {
        let Some(examiner) = local.service::<Self>() else { return };
        while !examiner.pending.borrow().is_empty() {
            local.sleep(SETTLE_PERIOD).await;
        }
    }

    fn examine(self: &Rc<Self>, bdev: &dyn Bdev) {
        let info = bdev.info();
        // There are no tables in partitions.
        if is_partition(bdev) {
            return;
        }
        let (local, name) = (self.local.clone(), info.name.clone());
        self.pending.borrow_mut().insert(name.clone());
        let examiner = Rc::clone(self);
        self.local.spawn("bdev_examine", async move {
            let found = local.timeout(PATIENCE, partitions(&local, &name)).await;
            if let Ok(Some(found)) = found {
                make(&local, &name, found);
            }
            examiner.pending.borrow_mut().remove(&name);
        });
    }

    /// The next bdev of that name has a table of its own.
    fn forget(&self, bdev: &dyn Bdev) {
        if let Some(vbdevs) = Vbdevs::of(&self.local) {
            // It may have had no partitions.
            let _ = vbdevs.delete(PRODUCT_NAME, &bdev.info().name);
        }
    }
}

/// SPDK's partitions of the bdev called `name`, if it can be read and has some.
async fn partitions(local: &Local, name: &str) -> Option<Vec<Partition>> {
    let disk = local.service::<Registry>()?.open(name, Access::ReadOnly).ok()?;
    let channel = disk.channel(local).ok()?;
    let channel = AsyncChannel::new(local, channel, NonZeroU16::MIN, "bdev_examine").ok()?;
    let last = disk.info().num_blocks.get().checked_sub(1)?;
    let mut all = read_table(local, &disk, &channel, FIRST_HEADER).await;
    if all.is_none() {
        all = read_table(local, &disk, &channel, last).await;
        if all.is_some() {
            log::warn!(target: "bdev", "{name}: its first partition table is damaged");
        }
    }
    let mut all = all?;
    let runs: Vec<_> = all.iter().map(|partition| (partition.number, partition.run())).collect();
    all.retain(|partition| match product(partition.kind) {
        Some(CONFIG_PRODUCT_NAME) => lies_apart(name, partition, &runs),
        product => product.is_some(),
    });
    (!all.is_empty()).then_some(all)
}

/// Whether a partition shares no block with another one: what is written there by the machine
/// itself must be nobody's data, whatever the table says.
fn lies_apart(base: &str, partition: &Partition, all: &[(u32, Range<u64>)]) -> bool {
    let (this, run) = (partition.number, partition.run());
    let overlapped = all
        .iter()
        .find(|(number, other)| *number != this && other.start < run.end && run.start < other.end);
    if let Some((other, _)) = overlapped {
        log::warn!(target: "bdev", "{base}: partition {this} is not used: it overlaps {other}");
    }
    overlapped.is_none()
}

/// The partitions of the table whose header is at `lba`, if there is one.
async fn read_table(
    local: &Local,
    disk: &Descriptor,
    channel: &AsyncChannel,
    lba: u64,
) -> Option<Vec<Partition>> {
    let num_blocks = disk.info().num_blocks.get();
    let block_size = u64::from(disk.info().block_size);
    let block = read(local, channel, lba, 1, block_size).await?;
    let header = Header::read(&block, lba)?;
    let blocks = header.entries_blocks;
    if header.entries.checked_add(blocks)? > num_blocks {
        return None;
    }
    let entries = read(local, channel, header.entries, blocks as u32, block_size).await?;
    header.partitions(&entries, num_blocks)
}

async fn read(
    local: &Local,
    channel: &AsyncChannel,
    lba: u64,
    blocks: u32,
    block_size: u64,
) -> Option<Vec<u8>> {
    let pool = local.service::<DmaPool>()?;
    let buf = pool.alloc(blocks as usize * block_size as usize).ok()?;
    let (data, status) = channel.read(lba, blocks, SgList::One(buf)).await;
    status.ok()?;
    Some(data.as_slice().first()?.as_slice().to_owned())
}

fn make(local: &Local, base: &str, partitions: Vec<Partition>) {
    let Some(vbdevs) = Vbdevs::of(local) else { return };
    let name = base.to_owned();
    let recipe = Recipe {
        name: name.clone(),
        product_name: PRODUCT_NAME,
        survives: None,
        handle: None,
        bases: vec![name.clone()],
        make: Box::new(move |registry| cut(registry, &name, &partitions)),
    };
    match vbdevs.create(recipe) {
        // It has gone meanwhile, and what comes in its place is examined again.
        Ok(_) | Err(CreateError::Register(RegisterError::NameTaken)) => {}
        Err(error) => log::warn!(target: "bdev", "{base}: its partitions are not used: {error}"),
    }
}

fn cut(
    registry: &Registry,
    base: &str,
    partitions: &[Partition],
) -> Result<Vec<Arc<dyn Bdev>>, CreateError> {
    let base = Arc::new(Base::claim(registry, base)?);
    let part = |partition: &Partition| -> Arc<dyn Bdev> {
        let Partition { number, first, blocks, unique, .. } = partition;
        let name = format!("{}p{number}", base.descriptor.info().name);
        let uuid = Some(*unique).filter(|unique| *unique != [0; 16]);
        let product = product(partition.kind).unwrap_or(PRODUCT_NAME);
        let mut info = base.same_shape(&name, product, uuid);
        info.num_blocks = (*blocks).into();
        let boundary = u64::from(info.optimal_io_boundary.max(1));
        if !first.is_multiple_of(boundary) {
            info.optimal_io_boundary = 0;
        }
        let json = describe(&base, partition);
        Arc::new(Part { info, base: Arc::clone(&base), offset: *first, json })
    };
    Ok(partitions.iter().map(part).collect())
}

fn describe(base: &Base, partition: &Partition) -> String {
    let Partition { first, kind, unique, name, .. } = partition;
    let (base, name) = (base.name_json(), json_string(name));
    let [kind, unique] = [kind, unique].map(|guid: &Uuid| uuid::format(guid));
    format!(
        "{{\"gpt\":{{\"base_bdev\":{base},\"offset_blocks\":{first},\
         \"partition_type_guid\":\"{kind}\",\"unique_partition_guid\":\"{unique}\",\
         \"partition_name\":{name}}}}}"
    )
}
