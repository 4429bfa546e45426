//! raid1, every block on each of several bases ([`mirror`]), and raid5f, every block on one of them
//! and stripes with parity ([`parity`]).
//!
//! A base that fails a write which others took is left out from then on, for its blocks are no
//! longer what they should be; so is one that goes away. One that is added gets all blocks
//! ([`rebuild`]) while it takes part in writes, and is read from once it has them.

mod legs;
mod mirror;
mod parity;
mod rebuild;
mod stripes;
#[cfg(test)]
mod tests;
mod votes;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use basalt_env::CoreId;
use basalt_reactor::Local;
use spin::Mutex;

use self::mirror::MirrorChannel;
use self::parity::ParityChannel;
pub use self::rebuild::ProcessOptions;
pub(super) use self::rebuild::rebuild;
use self::stripes::Stripes;
use super::describe::{Process, Slot, describe};
use super::{Level, PRODUCT_NAME, RaidOptions, derive_uuid};
use crate::vbdev::base::Base;
use crate::{Bdev, BdevInfo, CreateError, Descriptor, IoChannel, Op, OpSet, OpenError, Registry};

/// Names of the bases that have all blocks, by place; it outlives the bdev.
pub(super) type Names = Arc<Mutex<Vec<Option<String>>>>;

/// What channels on all cores share.
pub(super) struct Redundant {
    info: BdevInfo,
    options: RaidOptions,
    /// Without parity, each base has every block.
    stripes: Option<Stripes>,
    /// How many bases have all blocks together.
    needed: usize,
    /// Operations that all bases do.
    ops: OpSet,
    names: Names,
    members: Mutex<Vec<Member>>,
    /// Counts changes of the members.
    generation: AtomicU32,
    /// The blocks that are being copied to a new base: from, to before.
    window: [AtomicU64; 2],
    /// Blocks copied so far.
    copied: AtomicU64,
    writes: Box<[CoreWrites]>,
}

/// The place of a base.
#[derive(Default)]
struct Member {
    /// None if there is no base, or no longer.
    descriptor: Option<Descriptor>,
    /// Whether it has all blocks.
    in_sync: bool,
    /// Another one for each base that was ever there.
    serial: Serial,
}

type Serial = u32;

/// Writes under way on one core, which alone counts them, in two lots: those from before a certain
/// moment, and those after it.
#[derive(Default)]
#[repr(align(64))]
struct CoreWrites {
    lot: AtomicU32,
    counts: [AtomicU32; 2],
}

impl CoreWrites {
    /// Counts one more; its lot.
    fn begin(&self) -> usize {
        let lot = self.lot.load(Ordering::Relaxed) as usize & 1;
        let count = &self.counts[lot];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        lot
    }

    fn end(&self, lot: usize) {
        let count = &self.counts[lot];
        // Release: who sees none left sees what they have done.
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Release);
    }

    /// Later ones are of the other lot; the one that ended.
    fn turn(&self) -> usize {
        self.lot.fetch_xor(1, Ordering::Relaxed) as usize & 1
    }
}

/// Makes the bdev of the bases in `names`; a place without a name stays empty.
pub(super) fn assemble(
    registry: &Registry,
    options: &RaidOptions,
    names: &Names,
) -> Result<Arc<Redundant>, CreateError> {
    let mut members = Vec::new();
    for (serial, name) in (1..).zip(names.lock().iter()) {
        members.push(match name {
            Some(name) => {
                let descriptor = Some(Base::claim(registry, name)?.descriptor);
                Member { descriptor, in_sync: true, serial }
            }
            None => Member::default(),
        });
    }
    let infos: Vec<_> = members.iter().filter_map(Member::info).collect();
    let block_size = infos.first().ok_or(CreateError::Unsuitable("it has no bases"))?.block_size;
    if infos.iter().any(|info| info.block_size != block_size) {
        return Err(CreateError::Unsuitable("its bases have blocks of different sizes"));
    }
    let stripes = match options.level {
        Level::Raid5f => Some(Stripes::new(options.strip_blocks(block_size)?, members.len())),
        _ => None,
    };
    let least = infos.iter().map(|info| info.num_blocks.get()).min().unwrap_or(0);
    let num_blocks = stripes.map_or(least, |on| least / on.strip() * on.stripe());
    if num_blocks == 0 {
        return Err(CreateError::Unsuitable("a base is smaller than a strip"));
    }
    let info = BdevInfo {
        name: options.name.clone(),
        product_name: PRODUCT_NAME,
        block_size,
        num_blocks: num_blocks.into(),
        uuid: options.uuid.unwrap_or_else(|| derive_uuid(&options.name, &infos)),
        optimal_io_boundary: stripes.map_or(0, |on| on.strip() as u32),
    };
    let ops =
        members.iter().filter_map(Member::ops).fold(OpSet::of(|_| true), |all, ops| all & ops);
    Ok(Arc::new(Redundant {
        info,
        options: options.clone(),
        stripes,
        needed: stripes.map_or(1, |on| on.data_places() as usize),
        ops,
        names: Arc::clone(names),
        members: Mutex::new(members),
        generation: AtomicU32::new(0),
        window: [0, 0].map(AtomicU64::new),
        copied: AtomicU64::new(0),
        writes: (0..registry.cores()).map(|_| CoreWrites::default()).collect(),
    }))
}

impl Member {
    fn info(&self) -> Option<&BdevInfo> {
        self.descriptor.as_ref().map(Descriptor::info)
    }

    fn ops(&self) -> Option<OpSet> {
        let bdev = self.descriptor.as_ref()?.bdev();
        Some(OpSet::of(|op| bdev.supports(op)))
    }
}

/// What became of a member that is to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// It is none.
    NotMember,
    /// The others go on without it.
    Survived,
    /// Without it the others do not have all blocks: it stays.
    Last,
}

impl Redundant {
    /// Leaves out the member of that serial number, for something that has gone wrong.
    fn drop_member(&self, serial: Serial, why: &dyn core::fmt::Display) -> Loss {
        self.leave_out(serial, log::Level::Error, why)
    }

    fn leave_out(&self, serial: Serial, level: log::Level, why: &dyn core::fmt::Display) -> Loss {
        let mut members = self.members.lock();
        let Some(at) = members.iter().position(|member| member.is(serial)) else {
            return Loss::NotMember;
        };
        let synced = members.iter().filter(|member| member.in_sync).count();
        if members[at].in_sync && synced == self.needed {
            return Loss::Last;
        }
        let gone = core::mem::take(&mut members[at]);
        self.names.lock()[at] = None;
        self.generation.fetch_add(1, Ordering::Release);
        drop(members);
        let name = gone.info().map_or("", |info| info.name.as_str());
        log::log!(target: "bdev", level, "{}: goes on without {name}: {why}", self.info.name);
        Loss::Survived
    }

    /// Leaves out the member that is called so, because its bdev is gone.
    pub(super) fn lose(&self, name: &str) -> Loss {
        let serial = self.serial_of(name);
        serial.map_or(Loss::NotMember, |serial| self.drop_member(serial, &"it is gone"))
    }

    /// The same, because somebody wants that.
    pub(super) fn give_up(&self, name: &str) -> Loss {
        let serial = self.serial_of(name);
        let leave_out = |serial| self.leave_out(serial, log::Level::Info, &"it was taken away");
        serial.map_or(Loss::NotMember, leave_out)
    }

    /// Whether a member is called so.
    pub(super) fn has(&self, name: &str) -> bool {
        self.serial_of(name).is_some()
    }

    fn serial_of(&self, name: &str) -> Option<Serial> {
        let members = self.members.lock();
        let named = |member: &&Member| member.info().is_some_and(|info| info.name == name);
        members.iter().find(named).map(|member| member.serial)
    }

    /// Puts a base into a free place. It has none of the blocks yet; its serial number.
    ///
    /// # Errors
    /// There is no free place, or the base does not suit the others.
    pub(super) fn add(&self, registry: &Registry, name: &str) -> Result<Serial, CreateError> {
        let full = CreateError::Unsuitable("it has all its base bdevs: remove one of them first");
        let place = |members: &[Member]| members.iter().position(|m| m.descriptor.is_none());
        place(&self.members.lock()).ok_or(full)?;
        let descriptor = Base::claim(registry, name)?.descriptor;
        let member = Member { descriptor: Some(descriptor), in_sync: false, serial: 0 };
        let info = member.info().ok_or(full)?;
        if info.block_size != self.info.block_size {
            return Err(CreateError::Unsuitable("it has blocks of another size"));
        }
        if info.num_blocks.get() < self.base_blocks() {
            return Err(CreateError::Unsuitable("it is smaller than the raid bdev"));
        }
        if !member.ops().is_some_and(|ops| ops.has_all(self.ops)) {
            return Err(CreateError::Unsuitable("it lacks operations that the others have"));
        }
        let mut members = self.members.lock();
        let at = place(&members).ok_or(full)?;
        // Counted up with each, so that no two have the same.
        let serial = self.generation.fetch_add(1, Ordering::Release) + 1 + members.len() as u32;
        members[at] = Member { serial, ..member };
        self.copied.store(0, Ordering::Relaxed);
        Ok(serial)
    }

    /// A member that was added has all blocks now.
    fn set_in_sync(&self, serial: Serial) {
        let mut members = self.members.lock();
        let Some(at) = members.iter().position(|member| member.is(serial)) else { return };
        members[at].in_sync = true;
        self.names.lock()[at] = members[at].info().map(|info| info.name.clone());
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Blocks of each base that are used.
    fn base_blocks(&self) -> u64 {
        let all = self.info.num_blocks.get();
        self.stripes.map_or(all, |on| all / on.data_places())
    }

    /// Whether a write to these blocks has to wait.
    fn is_in_window(&self, lba: u64, blocks: u64) -> bool {
        let [from, end] = self.window.each_ref().map(|end| end.load(Ordering::Acquire));
        lba < end && lba.saturating_add(blocks) > from
    }

    /// The counts of a core.
    fn writes(&self, core: CoreId) -> Option<&CoreWrites> {
        self.writes.get(core.index())
    }

    /// A write of that lot has ended on a core, or never will.
    fn end_write(&self, core: CoreId, lot: usize) {
        if let Some(counts) = self.writes(core) {
            counts.end(lot);
        }
    }

    fn process(&self) -> Option<Process> {
        let members = self.members.lock();
        let target = members.iter().find(|member| member.descriptor.is_some() && !member.in_sync);
        let target = target?.info()?.name.clone();
        let (done, all) = (self.copied.load(Ordering::Relaxed), self.info.num_blocks.get());
        Some(Process { target, done, percent: done.saturating_mul(100) / all.max(1) })
    }

    /// As it is shown.
    fn json(&self) -> String {
        let slot = |member: &Member| member.info().map_or_else(Slot::empty, Slot::of);
        let slots = self.members.lock().iter().map(slot).collect();
        describe(&self.options, Some(self.info.uuid), slots, self.process())
    }
}

impl Member {
    fn is(&self, serial: Serial) -> bool {
        self.descriptor.is_some() && self.serial == serial
    }
}

/// The bdev.
pub(super) struct RedundantBdev(pub(super) Arc<Redundant>);

impl Drop for RedundantBdev {
    /// Its channels are gone. Whoever copies blocks has nothing to copy to any more, and the bases
    /// are free.
    fn drop(&mut self) {
        self.0.members.lock().clear();
    }
}

impl Bdev for RedundantBdev {
    fn info(&self) -> &BdevInfo {
        &self.0.info
    }

    fn supports(&self, op: Op) -> bool {
        match op {
            Op::Read | Op::Write => true,
            Op::Flush | Op::WriteZeroes => self.0.ops.has(op),
            // What unmapped blocks read as need not go with the parity of the others.
            Op::Unmap => self.0.stripes.is_none() && self.0.ops.has(op),
            // These are made of reads and writes, or of the end of all that is under way.
            Op::Compare | Op::Verify | Op::Copy => false,
            Op::CompareAndWrite | Op::Reset => false,
            // There is no single device that they could be for.
            Op::NvmeIo | Op::NvmeAdmin => false,
            _ => false,
        }
    }

    fn write_unit(&self) -> u32 {
        self.0.stripes.map_or(1, |on| on.stripe() as u32)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let group = Arc::clone(&self.0);
        Ok(match self.0.stripes {
            None => Box::new(MirrorChannel::new(group, local)?),
            Some(stripes) => Box::new(ParityChannel::new(group, stripes, local)?),
        })
    }

    fn driver_specific(&self) -> String {
        self.0.json()
    }
}
