use alloc::vec;

use super::{Bench, pattern};
use crate::{Io, Op, SgList};

impl Bench<'_> {
    pub(super) fn what_is_written_is_read_back(&mut self) {
        let mut channel = self.channel();
        for blocks in [1, 2, 7, 32] {
            let bytes = pattern(blocks * self.block_size(), blocks as u64);
            self.write(&mut channel, 3, &bytes);
            self.expect(&mut channel, 3, &bytes);
        }
    }

    pub(super) fn several_buffers_make_one_transfer(&mut self) {
        let mut channel = self.channel();
        let block = self.block_size();
        let bytes = pattern(6 * block, 77);
        for cuts in
            [vec![block, 5 * block], vec![3 * block, block, 2 * block], vec![100, 6 * block - 100]]
        {
            let mut rest = &bytes[..];
            let mut bufs = vec![];
            for cut in &cuts {
                let (head, tail) = rest.split_at(*cut);
                bufs.push(self.filled(head));
                rest = tail;
            }
            let write = Io::with_data(Op::Write, 9, 6, SgList::Many(bufs), 1);
            self.change(&mut channel, write);
            self.expect(&mut channel, 9, &bytes);
            let bufs = cuts.iter().map(|cut| self.buf(*cut)).collect();
            let read = Io::with_data(Op::Read, 9, 6, SgList::Many(bufs), 2);
            let read = self.succeed(&mut channel, read);
            let lens: vec::Vec<_> = read.data.as_slice().iter().map(|buf| buf.len()).collect();
            assert_eq!(lens, cuts, "the buffers come back as they were");
            self.expect_data(&read, &bytes);
        }
    }

    pub(super) fn the_last_block_can_be_used(&mut self) {
        let mut channel = self.channel();
        let last = self.num_blocks() - 1;
        let bytes = pattern(self.block_size(), last);
        self.write(&mut channel, last, &bytes);
        self.expect(&mut channel, last, &bytes);
        let bytes = pattern(4 * self.block_size(), last + 1);
        self.write(&mut channel, last - 3, &bytes);
        self.expect(&mut channel, last - 3, &bytes);
    }

    pub(super) fn zeroes_and_unmapped_blocks_read_as_zeroes(&mut self) {
        let mut channel = self.channel();
        for op in [Op::WriteZeroes, Op::Unmap] {
            if !self.descriptor.allows(op) {
                let reason = crate::RejectReason::Unsupported;
                self.refused(&mut channel, Io::new(op, 0, 1, 0), reason);
                continue;
            }
            let mut bytes = pattern(8 * self.block_size(), op.index() as u64 + 5);
            self.write(&mut channel, 20, &bytes);
            self.change(&mut channel, Io::new(op, 22, 3, 0));
            bytes[2 * self.block_size()..5 * self.block_size()].fill(0);
            self.expect(&mut channel, 20, &bytes);
        }
    }

    pub(super) fn a_flush_ends_well(&mut self) {
        let mut channel = self.channel();
        if self.descriptor.allows(Op::Flush) {
            self.succeed(&mut channel, Io::new(Op::Flush, 0, 0, 9));
            self.succeed(&mut channel, Io::new(Op::Flush, u64::MAX, u32::MAX, 10));
        }
    }

    fn expect_data(&self, io: &Io, bytes: &[u8]) {
        if self.medium == super::Medium::Forgets {
            return;
        }
        let found = io.data.as_slice().iter().flat_map(|buf| buf.as_slice());
        assert!(found.eq(bytes), "scattered data differs");
    }
}
