//! A RAM disk (SPDK's `bdev_malloc`): memory that all cores share, lost at power-off.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use basalt_env::{SharedRegion, Work};
use basalt_metrics::Operation;
use basalt_reactor::Local;

use crate::create::check_geometry;
use crate::done::DoneQueue;
use crate::uuid::Uuid;
use crate::{Bdev, BdevInfo, CreateError, Io, IoChannel, Op, OpenError, Registry, RejectReason};

/// What a RAM disk is to be like.
#[derive(Clone, Debug, Default)]
pub struct MallocOptions {
    /// Its name; the first free one of `Malloc0`, `Malloc1`, … if not given.
    pub name: Option<String>,
    /// Number of blocks, at least 1.
    pub num_blocks: u64,
    /// Bytes per block: 512, 1024, 2048 or 4096.
    pub block_size: u32,
    /// Its UUID; made up by [`Registry::make_uuid`] if not given.
    pub uuid: Option<Uuid>,
    /// See [`BdevInfo::optimal_io_boundary`].
    pub optimal_io_boundary: u32,
}

/// Makes a RAM disk, zeroed, and registers it.
pub fn create(registry: &Registry, options: MallocOptions) -> Result<Arc<dyn Bdev>, CreateError> {
    let bytes = check_geometry(options.block_size, options.num_blocks)?;
    let no_memory = CreateError::NoMemory { bytes };
    let len = usize::try_from(bytes).map_err(|_| no_memory)?;
    let name = options.name.unwrap_or_else(|| registry.free_name("Malloc"));
    let info = BdevInfo {
        product_name: "Malloc disk",
        block_size: options.block_size,
        num_blocks: options.num_blocks.into(),
        uuid: options.uuid.unwrap_or_else(|| registry.make_uuid(&name)),
        optimal_io_boundary: options.optimal_io_boundary,
        name,
    };
    let memory = SharedRegion::zeroed(len).map_err(|_| no_memory)?;
    let disk: Arc<dyn Bdev> = Arc::new(Malloc { info, memory: Arc::new(memory) });
    registry.register(Arc::clone(&disk))?;
    Ok(disk)
}

/// A RAM disk with these bytes, in blocks of 512, not registered yet.
#[cfg(test)]
pub(crate) fn filled(
    registry: &Registry,
    name: &str,
    bytes: &[u8],
) -> Result<Arc<dyn Bdev>, CreateError> {
    let no_memory = CreateError::NoMemory { bytes: bytes.len() as u64 };
    let memory = SharedRegion::zeroed(bytes.len()).map_err(|_| no_memory)?;
    memory.copy_in(0, bytes);
    let info = BdevInfo {
        name: String::from(name),
        product_name: "Malloc disk",
        block_size: 512,
        num_blocks: (bytes.len() as u64 / 512).into(),
        uuid: registry.make_uuid(name),
        optimal_io_boundary: 0,
    };
    Ok(Arc::new(Malloc { info, memory: Arc::new(memory) }))
}

struct Malloc {
    info: BdevInfo,
    memory: Arc<SharedRegion>,
}

impl Bdev for Malloc {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        matches!(op, Op::Read | Op::Write | Op::Flush | Op::Unmap | Op::WriteZeroes)
    }

    fn can_abort(&self) -> bool {
        true
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(MallocChannel {
            memory: Arc::clone(&self.memory),
            block_shift: self.info.block_size.trailing_zeros(),
            done: DoneQueue::new(),
            local: local.clone(),
        }))
    }
}

struct MallocChannel {
    memory: Arc<SharedRegion>,
    block_shift: u32,
    done: DoneQueue,
    local: Local,
}

impl IoChannel for MallocChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let Self { memory, block_shift, done, local } = self;
        done.push(io, |io| carry_out(memory, *block_shift, io, local))
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.done.drain(done)
    }
}

/// The channel above checked the range and the data's length.
#[inline]
fn carry_out(memory: &SharedRegion, shift: u32, io: &mut Io, local: &Local) {
    let mut at = (io.lba as usize) << shift;
    match io.op {
        Op::Read => io.data.as_mut_slice().iter_mut().for_each(|buf| {
            memory.copy_out(at, buf.as_mut_slice());
            at += buf.len();
        }),
        Op::Write => io.data.as_slice().iter().for_each(|buf| {
            memory.copy_in(at, buf.as_slice());
            at += buf.len();
        }),
        Op::Unmap | Op::WriteZeroes => zero(memory, at, (io.blocks as usize) << shift, local),
        // The others are made of these, or not done.
        _ => {}
    }
}

#[cold]
#[inline(never)]
fn zero(memory: &SharedRegion, at: usize, len: usize, local: &Local) {
    memory.zero(at, len);
    local.operations().add(Operation::Fill, 1, len);
}
