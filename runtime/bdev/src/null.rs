//! A bdev without a medium (SPDK's `bdev_null`): reads leave the buffer as it is, writes vanish,
//! and everything completes on the next poll. It measures the layers above.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use basalt_env::Work;
use basalt_reactor::Local;

use crate::create::check_geometry;
use crate::done::DoneQueue;
use crate::uuid::Uuid;
use crate::{Bdev, BdevInfo, CreateError, Io, IoChannel, Op, OpenError, Registry, RejectReason};

/// What a null bdev is to be like.
#[derive(Clone, Debug, Default)]
pub struct NullOptions {
    /// Its name; the first free one of `Null0`, `Null1`, … if not given.
    pub name: Option<String>,
    /// Number of blocks, at least 1.
    pub num_blocks: u64,
    /// Bytes per block: 512, 1024, 2048 or 4096.
    pub block_size: u32,
    /// Its UUID; made up by [`Registry::make_uuid`] if not given.
    pub uuid: Option<Uuid>,
}

/// Makes a null bdev and registers it.
pub fn create(registry: &Registry, options: NullOptions) -> Result<Arc<dyn Bdev>, CreateError> {
    check_geometry(options.block_size, options.num_blocks)?;
    let name = options.name.unwrap_or_else(|| registry.free_name("Null"));
    let info = BdevInfo {
        product_name: "Null disk",
        block_size: options.block_size,
        num_blocks: options.num_blocks.into(),
        uuid: options.uuid.unwrap_or_else(|| registry.make_uuid(&name)),
        optimal_io_boundary: 0,
        name,
    };
    let disk: Arc<dyn Bdev> = Arc::new(Null { info });
    registry.register(Arc::clone(&disk))?;
    Ok(disk)
}

struct Null {
    info: BdevInfo,
}

impl Bdev for Null {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        matches!(op, Op::Read | Op::Write | Op::WriteZeroes | Op::Flush)
    }

    fn can_abort(&self) -> bool {
        true
    }

    fn channel(&self, _: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(NullChannel { done: DoneQueue::new() }))
    }
}

struct NullChannel {
    done: DoneQueue,
}

impl IoChannel for NullChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.done.push(io, |_| {})
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.done.drain(done)
    }
}
