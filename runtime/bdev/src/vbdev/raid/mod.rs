//! Bdevs over several others (SPDK's `bdev_raid`).
//!
//! - `raid1` has each block on all of its bases, and goes on as long as there is one of them.
//! - `raid5f` has each block on one of them and stripes with parity, and goes on without one of
//!   them. It is written in full stripes only.
//! - `raid0` deals strips of blocks out to its bases in turn; `concat` has one base after the
//!   other. Without one of them there is no such bdev.

mod describe;
mod layout;
mod redundant;
mod striped;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use basalt_reactor::Local;
use spin::Mutex;

use self::describe::{Slot, describe};
use self::layout::Layout;
pub use self::redundant::ProcessOptions;
use self::redundant::{Loss, Names, Redundant, RedundantBdev};
use self::striped::Striped;
use super::base::Base;
use super::{Recipe, Survives};
use crate::uuid::{self, Uuid};
use crate::{Bdev, BdevInfo, BlockCount, CreateError, Registry};

/// The module's product name, as SPDK prints it.
pub const PRODUCT_NAME: &str = "Raid Volume";

/// Most bases of one, as SPDK has it.
const BASES_MAX: usize = 255;
/// As SPDK has it.
const RAID5F_BASES_MIN: usize = 3;
/// Parity of a strip is in one DMA buffer.
const RAID5F_STRIP_MAX_KIB: u32 = 4096;

/// How blocks are kept on the bases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Each on all of them.
    Raid1,
    /// Each on one of them, in strips.
    Raid0,
    /// Each on one of them, one base after the other.
    Concat,
    /// Each on one of them, in strips, and for each stripe its parity on another one.
    Raid5f,
}

impl Level {
    /// All of them, with SPDK's names.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Raid0, "raid0"),
        (Self::Raid1, "raid1"),
        (Self::Raid5f, "raid5f"),
        (Self::Concat, "concat"),
    ];

    /// SPDK's name for it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(level, _)| *level == self).map_or("", |(_, name)| name)
    }
}

/// What a raid bdev is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaidOptions {
    /// Its name.
    pub name: String,
    /// How blocks are kept.
    pub level: Level,
    /// KiB of a strip, a power of two; 0 for [`Level::Raid1`], which has none.
    pub strip_size_kib: u32,
    /// Names or UUIDs of the bases, in order; at least one, or three for [`Level::Raid5f`].
    pub bases: Vec<String>,
    /// Its UUID; derived from its name and its bases if not given.
    pub uuid: Option<Uuid>,
}

impl RaidOptions {
    fn strip_blocks(&self, block_size: u32) -> Result<u64, CreateError> {
        let strip = u64::from(self.strip_size_kib) * 1024 / u64::from(block_size);
        let small = CreateError::Unsuitable("a strip is smaller than a block of its bases");
        if strip == 0 { Err(small) } else { Ok(strip) }
    }
}

/// What is to be known of a raid bdev, there or not: the handle of its recipe.
#[derive(Clone, Debug)]
pub struct Raid {
    options: Rc<RaidOptions>,
    /// The bases by place; where bases can be changed, those that have all blocks.
    names: Names,
    /// While it is there, and its bases can be changed.
    redundant: Rc<RefCell<Weak<Redundant>>>,
}

/// Why the bases of a raid bdev cannot be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// The bdev is not there, or its level allows no changes.
    NotRedundant,
    /// It has no base of that name.
    NoSuchBase,
    /// The others do not have all blocks without it.
    LastBase,
    /// The new one does not suit it.
    Create(CreateError),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRedundant => {
                "only the bases of a raid1 or raid5f that is online can be changed"
            }
            Self::NoSuchBase => "it has no such base bdev",
            Self::LastBase => {
                "the other base bdevs do not have all blocks: delete the raid bdev instead"
            }
            Self::Create(error) => return error.fmt(f),
        })
    }
}

impl Raid {
    /// What was asked for.
    pub fn options(&self) -> &RaidOptions {
        &self.options
    }

    /// The names of its bases now: those it was made of, but where they can be changed only those
    /// that have all blocks.
    pub fn bases(&self) -> Vec<String> {
        self.names.lock().iter().flatten().cloned().collect()
    }

    /// Whether that bdev is or was to be one of its bases.
    pub fn has_base(&self, name: &str) -> bool {
        self.redundant().is_some_and(|group| group.has(name))
            || self.names.lock().iter().flatten().any(|base| base == name)
    }

    /// Gives it a base, which gets all blocks. To be called on core 0.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn add_base(
        &self,
        local: &Local,
        registry: &Registry,
        name: &str,
    ) -> Result<(), ChangeError> {
        let group = self.redundant().ok_or(ChangeError::NotRedundant)?;
        let serial = group.add(registry, name).map_err(ChangeError::Create)?;
        local.spawn("raid_rebuild", redundant::rebuild(local.clone(), group, serial));
        Ok(())
    }

    /// Takes a base from it.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn remove_base(&self, name: &str) -> Result<(), ChangeError> {
        let group = self.redundant().ok_or(ChangeError::NotRedundant)?;
        match group.give_up(name) {
            Loss::Survived => Ok(()),
            Loss::NotMember => Err(ChangeError::NoSuchBase),
            Loss::Last => Err(ChangeError::LastBase),
        }
    }

    fn redundant(&self) -> Option<Arc<Redundant>> {
        self.redundant.borrow().upgrade()
    }

    /// As the bdev's own [`Bdev::driver_specific`], but also while it is not there.
    pub fn describe(&self, registry: &Registry) -> String {
        let RaidOptions { name, bases, .. } = &*self.options;
        let raid = registry.get(name).filter(|bdev| bdev.info().product_name == PRODUCT_NAME);
        raid.map_or_else(
            || {
                let slots = bases.iter().map(|base| Slot::found(base, registry.get(base)));
                describe(&self.options, None, slots.collect(), None)
            },
            |raid| raid.driver_specific(),
        )
    }
}

/// Whether `options` can be carried out, whatever the bases are.
///
/// # Errors
/// What is wrong with them.
pub fn check(options: &RaidOptions) -> Result<(), &'static str> {
    let RaidOptions { bases, strip_size_kib, level, .. } = options;
    if bases.is_empty() {
        return Err("it needs at least one base bdev");
    }
    if bases.len() > BASES_MAX {
        return Err("it can have 255 base bdevs at most");
    }
    if bases.iter().enumerate().any(|(at, base)| bases[..at].contains(base)) {
        return Err("a base bdev is named twice");
    }
    match level {
        Level::Raid1 if *strip_size_kib != 0 => Err("a raid1 has no strips, so no strip size"),
        Level::Raid0 | Level::Concat | Level::Raid5f if !strip_size_kib.is_power_of_two() => {
            Err("its strip size must be a power of two of KiB")
        }
        Level::Raid5f if bases.len() < RAID5F_BASES_MIN => {
            Err("a raid5f needs at least three base bdevs")
        }
        Level::Raid5f if *strip_size_kib > RAID5F_STRIP_MAX_KIB => {
            Err("a raid5f has strips of 4096 KiB at most")
        }
        _ => Ok(()),
    }
}

/// A raid bdev, made once all of its bases are there.
pub fn recipe(options: RaidOptions) -> Recipe {
    let names = options.bases.iter().cloned().map(Some).collect();
    let names: Names = Arc::new(Mutex::new(names));
    let raid = Raid {
        options: Rc::new(options.clone()),
        names: Arc::clone(&names),
        redundant: Rc::default(),
    };
    let redundant = Rc::clone(&raid.redundant);
    let survivor = raid.clone();
    let survives = move |gone: &dyn Bdev| {
        let lost = |group: Arc<Redundant>| group.lose(&gone.info().name);
        survivor.redundant().map(lost) != Some(Loss::Last)
    };
    let may_survive = matches!(options.level, Level::Raid1 | Level::Raid5f);
    let (name, bases) = (options.name.clone(), options.bases.clone());
    Recipe {
        name,
        product_name: PRODUCT_NAME,
        bases,
        handle: Some(Box::new(raid)),
        survives: may_survive.then(|| Box::new(survives) as Survives),
        make: Box::new(move |registry| {
            check(&options).map_err(CreateError::Unsuitable)?;
            let bdev: Arc<dyn Bdev> = match options.level {
                Level::Raid0 | Level::Concat => assemble(registry, &options)?,
                Level::Raid1 | Level::Raid5f => {
                    let made = redundant::assemble(registry, &options, &names)?;
                    *redundant.borrow_mut() = Arc::downgrade(&made);
                    Arc::new(RedundantBdev(made))
                }
            };
            Ok(vec![bdev])
        }),
    }
}

fn assemble(registry: &Registry, options: &RaidOptions) -> Result<Arc<dyn Bdev>, CreateError> {
    let bases = options.bases.iter().map(|base| Base::claim(registry, base));
    let bases: Vec<_> = bases.collect::<Result<_, _>>()?;
    let infos: Vec<_> = bases.iter().map(|base| base.descriptor.info()).collect();
    let block_size = infos.first().ok_or(CreateError::Unsuitable("it has no bases"))?.block_size;
    if infos.iter().any(|info| info.block_size != block_size) {
        return Err(CreateError::Unsuitable("its bases have blocks of different sizes"));
    }
    let strip = options.strip_blocks(block_size)?;
    // Whole strips only, as SPDK has it.
    let sizes = infos.iter().map(|info| info.num_blocks.get() / strip * strip);
    let sizes: Vec<u64> = sizes.collect();
    let layout = layout(options.level, strip, &sizes);
    let num_blocks = match &layout {
        Layout::Striped { bases, .. } => sizes.iter().min().map_or(0, |least| least * bases),
        Layout::Concat(ends) => ends.last().copied().unwrap_or(0),
    };
    if sizes.contains(&0) {
        return Err(CreateError::Unsuitable("a base is smaller than a strip"));
    }
    let info = BdevInfo {
        name: options.name.clone(),
        product_name: PRODUCT_NAME,
        block_size,
        num_blocks: BlockCount::from(num_blocks),
        uuid: options.uuid.unwrap_or_else(|| derive_uuid(&options.name, &infos)),
        optimal_io_boundary: u32::try_from(strip).unwrap_or(0),
    };
    let slots = infos.iter().map(|info| Slot::of(info)).collect();
    let json = describe(options, Some(info.uuid), slots, None);
    Ok(Arc::new(Striped { info, bases, layout: Arc::new(layout), json }))
}

fn layout(level: Level, strip: u64, sizes: &[u64]) -> Layout {
    match level {
        Level::Raid0 => {
            Layout::Striped { strip_shift: strip.trailing_zeros(), bases: sizes.len() as u64 }
        }
        _ => {
            let ends = sizes.iter().scan(0, |end, size| {
                *end += size;
                Some(*end)
            });
            Layout::Concat(ends.collect())
        }
    }
}

/// The same whenever it is made of the same bases.
fn derive_uuid(name: &str, infos: &[&BdevInfo]) -> Uuid {
    let mut parts = vec![PRODUCT_NAME.as_bytes(), name.as_bytes()];
    parts.extend(infos.iter().map(|info| &info.uuid[..]));
    uuid::derive(&parts)
}
