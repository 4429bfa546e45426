//! Reads the first block of each drive once it is attached: one that cannot be read is told of
//! before a host finds out, and the first of all reads shows how long the machine took to it.

use core::fmt;
use core::num::NonZeroU16;
use core::time::Duration;

use basalt_bdev::{Access, AsyncChannel, IoError, OpenError, Registry, SgList};
use basalt_env::{DmaPool, Instant};
use basalt_reactor::Local;

/// A drive that has not answered by then is left to its own time limits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a block was not read.
enum Failure {
    NotOpen(OpenError),
    NoMemory,
    Status(IoError),
    TooLate,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen(error) => write!(f, "{error}"),
            Self::NoMemory => f.write_str("there is no DMA memory left"),
            Self::Status(status) => write!(f, "{status}"),
            Self::TooLate => write!(f, "no answer within {} s", PATIENCE.as_secs()),
        }
    }
}

/// Reads from every bdev there is; `now` reads the environment's clock.
pub async fn run(local: &Local, now: impl Fn() -> Instant) {
    let Some(registry) = local.service::<Registry>() else { return };
    let mut told = false;
    for bdev in registry.list() {
        let name = &bdev.info().name;
        match read(local, &registry, name, bdev.info().block_size).await {
            Ok(()) if told => {}
            Ok(()) => {
                told = true;
                let us = now().as_us();
                log::info!(target: "bdev", "{name}: first block read {us} us after the start");
            }
            Err(failure) => {
                log::warn!(target: "bdev", "{name}: its first block cannot be read: {failure}");
            }
        }
    }
}

async fn read(
    local: &Local,
    registry: &Registry,
    name: &str,
    block_size: u32,
) -> Result<(), Failure> {
    let pool = local.service::<DmaPool>().ok_or(Failure::NoMemory)?;
    let buffer = pool.alloc(block_size as usize).map_err(|_| Failure::NoMemory)?;
    let disk = registry.open(name, Access::ReadOnly).map_err(Failure::NotOpen)?;
    let channel = disk.channel(local).map_err(Failure::NotOpen)?;
    let channel = AsyncChannel::new(local, channel, NonZeroU16::MIN, "first_read")
        .map_err(Failure::NotOpen)?;
    let read = local.timeout(PATIENCE, channel.read(0, 1, SgList::One(buffer))).await;
    let (_, status) = read.map_err(|_| Failure::TooLate)?;
    status.map_err(Failure::Status)
}
