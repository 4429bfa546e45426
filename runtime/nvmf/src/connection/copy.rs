//! Copy (NVM command set 1.0 §3.2.2): range after range, to where the one before ended.

use basalt_bdev::{Io, Op, SgList};
use basalt_nvme_spec::{Command, CopyRange, Status};
use zerocopy::FromBytes;

use super::queue::Queue;
use crate::command::Outcome;
use crate::group::{Core, Namespace};

/// Most logical blocks of one range, of all of them, and most ranges.
pub(crate) const RANGE_MAX: u16 = u16::MAX;
pub(crate) const BLOCKS_MAX: u32 = 1 << 20;
pub(crate) const RANGES_MAX: u32 = 128;

impl Queue {
    /// Copies the next range of a Copy command.
    pub(super) fn next_copy(&mut self, index: u16, namespace: Namespace, core: &mut Core) {
        let tag = self.tag(index).to_u64();
        let Some(slot) = self.slots.get_mut(index) else { return };
        // Nothing is copied unless everything can be.
        if slot.progress == 0
            && let Err(status) = check(&slot.command, &slot.data, &namespace)
        {
            return self.finish(index, status.into());
        }
        let done = ranges(&slot.data).take(slot.progress as usize);
        let lba = slot.command.lba() + done.map(|range| u64::from(range.count())).sum::<u64>();
        let next = ranges(&slot.data).nth(slot.progress as usize);
        match next {
            Some(range) => {
                let io = Io::copy(range.lba.get(), lba, range.count(), tag);
                self.submit(index, io, core);
            }
            None => self.finish_copy(index, namespace, core),
        }
    }

    fn finish_copy(&mut self, index: u16, namespace: Namespace, core: &mut Core) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.command.io_flags().contains(basalt_nvme_spec::IoFlags::FUA) {
            return self.flush_bdev(index, namespace, core);
        }
        self.finish(index, Outcome::OK);
    }
}

fn check(command: &Command, data: &SgList, namespace: &Namespace) -> Result<(), Status> {
    if !namespace.supports(Op::Copy) {
        return Err(Status::INVALID_OPCODE.with_dnr());
    }
    let mut blocks = 0;
    for range in ranges(data) {
        if range.count() > RANGE_MAX.into() {
            return Err(Status::COMMAND_SIZE_LIMIT.with_dnr());
        }
        namespace.check_range(range.lba.get(), range.count())?;
        blocks += range.count();
    }
    if blocks > BLOCKS_MAX {
        return Err(Status::COMMAND_SIZE_LIMIT.with_dnr());
    }
    namespace.check_range(command.lba(), blocks)
}

/// The ranges that a Copy command came with.
fn ranges(data: &SgList) -> impl Iterator<Item = CopyRange> + '_ {
    let bytes = data.as_slice().first().map_or(&[][..], |buf| buf.as_slice());
    let all = bytes.chunks_exact(size_of::<CopyRange>());
    all.filter_map(|bytes| CopyRange::read_from_bytes(bytes).ok())
}
