//! How a base that was added gets the blocks.
//!
//! ```text
//!   for each window of blocks, from the first to the last:
//!     (1) writes to it have to wait, on any core, from when that core has been told
//!     (2) writes from before that end, on all cores
//!     (3) it is read from a base that has it, or made of what all others have, and written to the
//!         new one
//!     (4) the next window
//! ```
//!
//! Writes outside of the window go to the new base as to all others, so what has been copied stays
//! as it should be.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::Cell;
use core::fmt;
use core::num::NonZeroU16;
use core::ops::Range;
use core::sync::atomic::Ordering;
use core::time::Duration;

use basalt_env::{CoreId, DmaBuf, DmaPool};
use basalt_reactor::Local;

use super::parity::xor;
use super::{CoreWrites, Redundant, Serial};
use crate::{AsyncChannel, Descriptor, IoError, OpenError, SgList};

/// How often is looked whether writes have ended.
const DRAIN_PERIOD: Duration = Duration::from_micros(100);

/// How blocks are copied: a service of core 0, if somebody has changed it.
#[derive(Debug)]
pub struct ProcessOptions {
    /// KiB that are copied at a time; a power of two.
    pub window_size_kib: Cell<u32>,
    /// MiB that are copied in a second at most; 0 for no limit.
    pub max_bandwidth_mib: Cell<u32>,
}

impl Default for ProcessOptions {
    /// 1 MiB at a time, without limit, as SPDK has it.
    fn default() -> Self {
        Self { window_size_kib: Cell::new(1024), max_bandwidth_mib: Cell::new(0) }
    }
}

impl ProcessOptions {
    /// Most KiB of a window: the largest DMA buffer.
    pub const WINDOW_MAX_KIB: u32 = 4096;

    /// This core's, which is core 0.
    pub fn of(local: &Local) -> Rc<Self> {
        local.service().unwrap_or_else(|| {
            let options = Rc::new(Self::default());
            local.provide(Rc::clone(&options));
            options
        })
    }
}

/// Why a base did not get all blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    /// It was left out, or the bdev is gone.
    Left,
    /// There is no memory for a single block.
    NoMemory,
    Open(OpenError),
    /// The bases that have a block, or what it is made of, cannot read it.
    Read(IoError),
    Write(IoError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it is no longer a base"),
            Self::NoMemory => f.write_str("there is no memory to copy blocks"),
            Self::Open(error) => error.fmt(f),
            Self::Read(error) => write!(f, "the other bases cannot read a block: {error}"),
            Self::Write(error) => write!(f, "it cannot be written: {error}"),
        }
    }
}

/// Copies all blocks to the member of that serial number, which then has them, or is left out.
pub(in super::super) async fn rebuild(local: Local, group: Arc<Redundant>, serial: Serial) {
    let name = &group.info.name;
    log::info!(target: "bdev", "{name}: a base gets all blocks");
    let outcome = copy_all(&local, &group, serial).await;
    // Writes go on, whatever came of it.
    group.set_window(0..0);
    match outcome {
        Ok(()) => {
            group.set_in_sync(serial);
            log::info!(target: "bdev", "{name}: the new base has all blocks");
        }
        Err(failure) => {
            group.drop_member(serial, &failure);
        }
    }
}

async fn copy_all(local: &Local, group: &Arc<Redundant>, serial: Serial) -> Result<(), Failure> {
    let pool: Rc<DmaPool> = local.service().ok_or(Failure::NoMemory)?;
    let options = ProcessOptions::of(local);
    let target = group.descriptor_of(serial).ok_or(Failure::Left)?;
    let target = open(local, &target)?;
    let block_size = group.info.block_size as usize;
    // Blocks of the bdev for each of a base, and those of a base that go together.
    let factor = group.stripes.map_or(1, |on| on.data_places());
    let strip = group.stripes.map_or(1, |on| on.strip());
    let mut from = 0;
    while from < group.base_blocks() {
        let least = strip as usize * block_size;
        let bytes = (options.window_size_kib.get() as usize * 1024).max(least);
        let buf = room(&pool, bytes, least).ok_or(Failure::NoMemory)?;
        let blocks = (buf.len() / block_size) as u64;
        let there = from..(from + blocks).min(group.base_blocks());
        let began = local.now();
        group.set_window(there.start * factor..there.end * factor);
        drain(local, group, serial).await?;
        restore(local, group, &target, there.clone(), buf).await?;
        let bytes = (there.end - there.start) * block_size as u64;
        from = there.end;
        group.copied.store(from * factor, Ordering::Relaxed);
        if let Some(limit) = u64::from(options.max_bandwidth_mib.get()).checked_mul(1 << 20)
            && limit > 0
        {
            group.set_window(0..0);
            let due = began + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / limit);
            local.sleep(due.since(local.now())).await;
        }
    }
    Ok(())
}

/// A buffer of so many bytes, or of as many as there are.
fn room(pool: &DmaPool, bytes: usize, least: usize) -> Option<DmaBuf> {
    let mut bytes = bytes;
    loop {
        match pool.alloc(bytes) {
            Ok(buf) => return Some(buf),
            Err(_) if bytes > least => bytes = (bytes / 2).max(least),
            Err(_) => return None,
        }
    }
}

/// Waits until every write has ended that may have begun before its core knew of the window.
async fn drain(local: &Local, group: &Arc<Redundant>, serial: Serial) -> Result<(), Failure> {
    for core in (0..local.cores()).map(|core| CoreId(core as u16)) {
        let told = Arc::clone(group);
        let turn = move |local: &Local| told.writes(local.core()).map(CoreWrites::turn);
        let Ok(Some(lot)) = local.call(core, turn).await else { return Err(Failure::Left) };
        let left = || group.writes(core).map_or(0, |w| w.counts[lot].load(Ordering::Acquire));
        while left() > 0 {
            if group.descriptor_of(serial).is_none() {
                return Err(Failure::Left);
            }
            local.sleep(DRAIN_PERIOD).await;
        }
    }
    Ok(())
}

/// Writes to `target` what is to be in these blocks of it.
async fn restore(
    local: &Local,
    group: &Redundant,
    target: &AsyncChannel,
    there: Range<u64>,
    mut buf: DmaBuf,
) -> Result<(), Failure> {
    let blocks = (there.end - there.start) as u32;
    buf.set_len(blocks as usize * group.info.block_size as usize);
    let data = SgList::One(buf);
    let data = match group.stripes {
        None => read_any(local, group, there.start, blocks, data).await?,
        Some(_) => read_parity(local, group, there.start, blocks, data).await?,
    };
    let (_, status) = target.write(there.start, blocks, data).await;
    status.map_err(Failure::Write)
}

/// What a base has.
async fn read_any(
    local: &Local,
    group: &Redundant,
    lba: u64,
    blocks: u32,
    mut data: SgList,
) -> Result<SgList, Failure> {
    let mut failure = Failure::Left;
    for source in group.sources() {
        let source = match open(local, &source) {
            Ok(source) => source,
            Err(error) => {
                failure = error;
                continue;
            }
        };
        let (read, status) = source.read(lba, blocks, data).await;
        data = read;
        match status {
            Ok(()) => return Ok(data),
            Err(error) => failure = Failure::Read(error),
        }
    }
    Err(failure)
}

/// The parity of what the bases have.
async fn read_parity(
    local: &Local,
    group: &Redundant,
    lba: u64,
    blocks: u32,
    mut data: SgList,
) -> Result<SgList, Failure> {
    let pool: Rc<DmaPool> = local.service().ok_or(Failure::NoMemory)?;
    let mut part = SgList::One(pool.alloc(data.len()).map_err(|_| Failure::NoMemory)?);
    let sources = group.sources();
    if sources.len() < group.needed {
        return Err(Failure::Left);
    }
    data.as_mut_slice().iter_mut().for_each(|buf| buf.as_mut_slice().fill(0));
    for source in sources {
        let (read, status) = open(local, &source)?.read(lba, blocks, part).await;
        part = read;
        status.map_err(Failure::Read)?;
        for (all, one) in data.as_mut_slice().iter_mut().zip(part.as_slice()) {
            xor(all.as_mut_slice(), one.as_slice());
        }
    }
    Ok(data)
}

fn open(local: &Local, base: &Descriptor) -> Result<AsyncChannel, Failure> {
    let channel = base.channel(local).map_err(Failure::Open)?;
    AsyncChannel::new(local, channel, NonZeroU16::MIN, "raid_rebuild").map_err(Failure::Open)
}

impl Redundant {
    fn set_window(&self, window: Range<u64>) {
        // Whoever sees half of it began its write before it was told of it.
        self.window[0].store(window.start, Ordering::Release);
        self.window[1].store(window.end, Ordering::Release);
    }

    fn descriptor_of(&self, serial: Serial) -> Option<Descriptor> {
        let members = self.members.lock();
        members.iter().find(|member| member.is(serial))?.descriptor.clone()
    }

    /// The bases that have all blocks.
    fn sources(&self) -> alloc::vec::Vec<Descriptor> {
        let members = self.members.lock();
        let synced = members.iter().filter(|member| member.in_sync);
        synced.filter_map(|member| member.descriptor.clone()).collect()
    }
}
