//! Bdevs that are written in whole units only.

use alloc::vec::Vec;

use super::Bench;
use crate::{Channel, Io, IoError, Op, RejectReason, SgList};

impl Bench<'_> {
    /// Blocks that a write has to be of.
    pub(super) fn unit(&self) -> u32 {
        self.descriptor.bdev().write_unit()
    }

    /// Has `io` change blocks. One that is not of whole units has to be refused and to leave all
    /// as it was; then they are changed by way of the units they are in.
    pub(super) fn change(&mut self, channel: &mut Channel, io: Io) -> Io {
        if !io.op.changes_blocks() || io.is_of_units(self.unit()) {
            return self.succeed(channel, io);
        }
        let unit = u64::from(self.unit());
        let (first, end) = (io.lba / unit * unit, io.lba + u64::from(io.blocks));
        let count = (end.next_multiple_of(unit) - first) as u32;
        let before = self.read(channel, first, count);
        let io = self.try_in_vain(channel, io);
        assert!(self.read(channel, first, count) == before, "{:?} was refused half way", io.op);
        let (mut bytes, block) = (before, self.block_size());
        let at = (io.lba - first) as usize * block;
        let changed = self.outcome(channel, &io);
        bytes[at..at + changed.len()].copy_from_slice(&changed);
        let data = SgList::One(self.filled(&bytes));
        self.succeed(channel, Io::with_data(Op::Write, first, count, data, 0));
        io
    }

    /// The bdev may say so at once, or a base of it later.
    fn try_in_vain(&mut self, channel: &mut Channel, io: Io) -> Io {
        let refused = match channel.submit(io) {
            Err(refused) => refused,
            Ok(()) => {
                let Some(io) = self.drain(channel, 1).pop() else { panic!("it did not come back") };
                let is_refusal = matches!(io.status, Err(IoError::Nvme { sct: 0, sc: 0x02, .. }));
                assert!(is_refusal, "{:?} of half a unit ended with {:?}", io.op, io.status);
                return io;
            }
        };
        assert_eq!(refused.reason, RejectReason::Unaligned, "{:?}", refused.io.op);
        refused.io
    }

    /// What the blocks are to be after `io`.
    fn outcome(&mut self, channel: &mut Channel, io: &Io) -> Vec<u8> {
        match io.data {
            SgList::Blocks(from) => self.read(channel, from, io.blocks),
            _ if io.op == Op::Write => {
                io.data.as_slice().iter().flat_map(|buf| buf.as_slice()).copied().collect()
            }
            _ => alloc::vec![0; io.blocks as usize * self.block_size()],
        }
    }
}
