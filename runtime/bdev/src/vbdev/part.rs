use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use basalt_env::Work;
use basalt_reactor::Local;

use super::base::Base;
use crate::{BaseChannel, Bdev, BdevInfo, Io, IoChannel, Op, OpenError, RejectReason};

/// A run of a bdev's blocks as a bdev of its own.
pub(super) struct Part {
    pub(super) info: BdevInfo,
    pub(super) base: Arc<Base>,
    /// The first block of the part.
    pub(super) offset: u64,
    /// As it is shown.
    pub(super) json: String,
}

impl Bdev for Part {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        // A command that is passed on as it is reaches beyond the part; so do blocks to be copied
        // from, which are not counted from its start then.
        !matches!(op, Op::NvmeIo | Op::NvmeAdmin | Op::Copy)
            && self.base.descriptor.bdev().supports(op)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let base = self.base.descriptor.base_channel(local)?;
        Ok(Box::new(PartChannel { base, offset: self.offset }))
    }

    fn write_unit(&self) -> u32 {
        self.base.descriptor.bdev().write_unit()
    }

    fn compare_and_write_max(&self) -> u32 {
        self.base.descriptor.bdev().compare_and_write_max()
    }

    fn can_abort(&self) -> bool {
        self.base.descriptor.bdev().can_abort()
    }

    fn driver_specific(&self) -> String {
        self.json.clone()
    }
}

struct PartChannel {
    base: BaseChannel,
    offset: u64,
}

impl IoChannel for PartChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        // A flush names no blocks, so that its first one may be any number.
        io.lba = io.lba.wrapping_add(self.offset);
        self.base.submit(io).inspect_err(|_| io.lba = io.lba.wrapping_sub(self.offset))
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let offset = self.offset;
        self.base.poll(|io| {
            io.lba = io.lba.wrapping_sub(offset);
            done(io);
        })
    }

    fn abort(&mut self, tag: u64) -> bool {
        self.base.abort(tag)
    }
}
