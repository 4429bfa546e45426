//! Partitions of SPDK's type in a GUID partition table (SPDK's `gpt`).
//!
//! Every bdev that comes is examined: its table is read, and if it has such partitions, each
//! becomes a bdev, called `<base>p1`, `<base>p2`, … by its number. Partitions of other types belong
//! to somebody else and are left alone.

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
use core::time::Duration;

use basalt_env::DmaPool;
use basalt_reactor::Local;

use self::table::{Header, Partition};
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

/// The types of SPDK's partitions: today's, and the one before.
const KINDS: [&str; 2] =
    ["6527994e-2c5a-4eec-9613-8f5944074e8b", "7c5222bd-8f5d-4087-9c00-bf9843c7b58c"];

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
        if info.product_name == PRODUCT_NAME {
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
    let mut all = read_table(local, &disk, &channel, 1).await;
    if all.is_none() {
        all = read_table(local, &disk, &channel, last).await;
        if all.is_some() {
            log::warn!(target: "bdev", "{name}: its first partition table is damaged");
        }
    }
    let is_ours =
        |partition: &Partition| KINDS.iter().any(|kind| uuid::parse(kind) == Some(partition.kind));
    all.map(|all| all.into_iter().filter(is_ours).collect())
        .filter(|ours: &Vec<_>| !ours.is_empty())
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
    let blocks = header.entries_len().div_ceil(block_size);
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
        let mut info = base.same_shape(&name, PRODUCT_NAME, uuid);
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
