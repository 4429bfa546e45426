//! How a base that was added to a mirror gets the blocks.
//!
//! ```text
//!   for each window of blocks, from the first to the last:
//!     (1) writes to it have to wait, on any core, from when that core has been told
//!     (2) writes from before that end, on all cores
//!     (3) it is read from a base that has it, and written to the new one
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

use super::{CoreWrites, Mirror, Serial};
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
    /// No base that has a block can read it.
    Read(IoError),
    Write(IoError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it is no longer a base"),
            Self::NoMemory => f.write_str("there is no memory to copy blocks"),
            Self::Open(error) => error.fmt(f),
            Self::Read(error) => write!(f, "no other base can read a block: {error}"),
            Self::Write(error) => write!(f, "it cannot be written: {error}"),
        }
    }
}

/// Copies all blocks to the member of that serial number, which then has them, or is left out.
pub(in super::super) async fn rebuild(local: Local, mirror: Arc<Mirror>, serial: Serial) {
    let name = &mirror.info.name;
    log::info!(target: "bdev", "{name}: a base gets all blocks");
    let outcome = copy_all(&local, &mirror, serial).await;
    // Writes go on, whatever came of it.
    mirror.set_window(0..0);
    match outcome {
        Ok(()) => {
            mirror.set_in_sync(serial);
            log::info!(target: "bdev", "{name}: the new base has all blocks");
        }
        Err(failure) => {
            mirror.drop_member(serial, &failure);
        }
    }
}

async fn copy_all(local: &Local, mirror: &Arc<Mirror>, serial: Serial) -> Result<(), Failure> {
    let pool: Rc<DmaPool> = local.service().ok_or(Failure::NoMemory)?;
    let options = ProcessOptions::of(local);
    let target = mirror.descriptor_of(serial).ok_or(Failure::Left)?;
    let target = open(local, &target)?;
    let block_size = mirror.info.block_size as usize;
    let mut from = 0;
    while from < mirror.info.num_blocks.get() {
        let bytes = (options.window_size_kib.get() as usize * 1024).max(block_size);
        let buf = room(&pool, bytes, block_size).ok_or(Failure::NoMemory)?;
        let blocks = (buf.len() / block_size) as u64;
        let window = from..(from + blocks).min(mirror.info.num_blocks.get());
        let began = local.now();
        mirror.set_window(window.clone());
        drain(local, mirror, serial).await?;
        copy(local, mirror, &target, window.clone(), buf).await?;
        let bytes = (window.end - window.start) * block_size as u64;
        from = window.end;
        mirror.copied.store(from, Ordering::Relaxed);
        if let Some(limit) = u64::from(options.max_bandwidth_mib.get()).checked_mul(1 << 20)
            && limit > 0
        {
            mirror.set_window(0..0);
            let due = began + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / limit);
            local.sleep(due.since(local.now())).await;
        }
    }
    Ok(())
}

/// A buffer of so many bytes, or of as many as there are.
fn room(pool: &DmaPool, bytes: usize, block_size: usize) -> Option<DmaBuf> {
    let mut bytes = bytes;
    loop {
        match pool.alloc(bytes) {
            Ok(buf) => return Some(buf),
            Err(_) if bytes > block_size => bytes = (bytes / 2).max(block_size),
            Err(_) => return None,
        }
    }
}

/// Waits until every write has ended that may have begun before its core knew of the window.
async fn drain(local: &Local, mirror: &Arc<Mirror>, serial: Serial) -> Result<(), Failure> {
    for core in (0..local.cores()).map(|core| CoreId(core as u16)) {
        let told = Arc::clone(mirror);
        let turn = move |local: &Local| told.writes(local.core()).map(CoreWrites::turn);
        let Ok(Some(lot)) = local.call(core, turn).await else { return Err(Failure::Left) };
        let left = || mirror.writes(core).map_or(0, |w| w.counts[lot].load(Ordering::Acquire));
        while left() > 0 {
            if mirror.descriptor_of(serial).is_none() {
                return Err(Failure::Left);
            }
            local.sleep(DRAIN_PERIOD).await;
        }
    }
    Ok(())
}

async fn copy(
    local: &Local,
    mirror: &Mirror,
    target: &AsyncChannel,
    window: Range<u64>,
    mut buf: DmaBuf,
) -> Result<(), Failure> {
    let blocks = (window.end - window.start) as u32;
    buf.set_len(blocks as usize * mirror.info.block_size as usize);
    let mut data = SgList::One(buf);
    let mut failure = Failure::Left;
    for source in mirror.sources() {
        let source = match open(local, &source) {
            Ok(source) => source,
            Err(error) => {
                failure = error;
                continue;
            }
        };
        let (read, status) = source.read(window.start, blocks, data).await;
        data = read;
        match status {
            Ok(()) => {
                let (_, status) = target.write(window.start, blocks, data).await;
                return status.map_err(Failure::Write);
            }
            Err(error) => failure = Failure::Read(error),
        }
    }
    Err(failure)
}

fn open(local: &Local, base: &Descriptor) -> Result<AsyncChannel, Failure> {
    let channel = base.channel(local).map_err(Failure::Open)?;
    AsyncChannel::new(local, channel, NonZeroU16::MIN, "raid_rebuild").map_err(Failure::Open)
}

impl Mirror {
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
