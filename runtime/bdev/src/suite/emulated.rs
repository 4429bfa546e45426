use super::{Bench, Medium, pattern};
use crate::{Channel, Io, IoError, IoStatus, Op, SgList};

/// NVM command set 1.0, figure 9.
pub(super) const COMPARE_FAILURE: (u8, u8) = (2, 0x85);

impl Bench<'_> {
    /// Lengths below, at and beyond what one command or one chunk carries, as far as there is room.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + use<> {
        let (block, room) = (self.block_size(), self.num_blocks() as usize * self.block_size());
        [block, 8 * block, 128 << 10, (128 << 10) + block, 1 << 20, (5 << 18) + block]
            .into_iter()
            .filter(move |len| len.is_multiple_of(block) && *len + 4 * block <= room)
    }

    pub(super) fn transfers_of_any_length_keep_their_data(&mut self) {
        let mut channel = self.channel();
        for len in self.lengths() {
            let bytes = pattern(len, len as u64);
            self.write(&mut channel, 2, &bytes);
            self.expect(&mut channel, 2, &bytes);
            let (head, tail) = bytes.split_at(len / 2);
            for (op, tag) in [(Op::Write, 1), (Op::Read, 2)] {
                let halves = [self.filled(head), self.filled(tail)];
                let blocks = (len / self.block_size()) as u32;
                let io = Io::with_data(op, 3, blocks, SgList::Many(halves.into()), tag);
                self.change(&mut channel, io);
            }
            self.expect(&mut channel, 3, &bytes);
        }
    }

    pub(super) fn zeroes_of_any_length_leave_their_neighbours_alone(&mut self) {
        let mut channel = self.channel();
        let block = self.block_size();
        for len in self.lengths().filter(|len| *len > block) {
            let mut bytes = pattern(len, 3);
            self.write(&mut channel, 1, &bytes);
            let blocks = (len / block) as u32;
            self.change(&mut channel, Io::new(Op::WriteZeroes, 2, blocks - 1, 0));
            bytes[block..].fill(0);
            self.expect(&mut channel, 1, &bytes);
        }
    }

    pub(super) fn overlapping_writes_leave_the_later_data(&mut self) {
        let mut channel = self.channel();
        let block = self.block_size();
        let (first, second) = (pattern(2 * block, 1), pattern(2 * block, 2));
        self.write(&mut channel, 10, &first);
        self.write(&mut channel, 11, &second);
        let mut both = first[..block].to_vec();
        both.extend(second);
        self.expect(&mut channel, 10, &both);
    }

    pub(super) fn a_transfer_may_have_a_buffer_for_each_block(&mut self) {
        let mut channel = self.channel();
        let block = self.block_size();
        let bytes = pattern(30 * block, 30);
        let bufs = bytes.chunks(block).map(|bytes| self.filled(bytes)).collect();
        self.change(&mut channel, Io::with_data(Op::Write, 5, 30, SgList::Many(bufs), 0));
        self.expect(&mut channel, 5, &bytes);
    }

    pub(super) fn a_compare_tells_equal_blocks_from_others(&mut self) {
        if !self.descriptor.allows(Op::Compare) {
            return;
        }
        let mut channel = self.channel();
        for len in self.lengths() {
            let bytes = pattern(len, 9);
            self.write(&mut channel, 1, &bytes);
            let same = self.compare(&mut channel, &bytes);
            let mut other = bytes.clone();
            if let Some(last) = other.last_mut() {
                *last ^= 1;
            }
            let differs = self.compare(&mut channel, &other);
            if self.medium == Medium::Keeps {
                assert_eq!(same, Ok(()), "{len} bytes");
                let Err(IoError::Nvme { sct, sc, .. }) = differs else {
                    panic!("{len} bytes differ, and the compare says {differs:?}");
                };
                assert_eq!((sct, sc), COMPARE_FAILURE, "{len} bytes");
            }
            self.expect(&mut channel, 1, &bytes);
        }
    }

    fn compare(&mut self, channel: &mut Channel, bytes: &[u8]) -> IoStatus {
        let blocks = (bytes.len() / self.block_size()) as u32;
        let cut = (bytes.len() / 2) & !3;
        let bufs = [self.filled(&bytes[..cut]), self.filled(&bytes[cut..])];
        let io = Io::with_data(Op::Compare, 1, blocks, SgList::Many(bufs.into()), 7);
        self.finish(channel, io).status
    }

    pub(super) fn what_can_be_read_is_verified(&mut self) {
        if !self.descriptor.allows(Op::Verify) {
            return;
        }
        let mut channel = self.channel();
        for len in self.lengths() {
            let blocks = (len / self.block_size()) as u32;
            self.succeed(&mut channel, Io::new(Op::Verify, 1, blocks, 4));
        }
        let beyond = Io::new(Op::Verify, self.num_blocks(), 1, 0);
        self.refused(&mut channel, beyond, crate::RejectReason::OutOfRange);
    }

    pub(super) fn a_copy_copies_also_where_both_ends_overlap(&mut self) {
        if !self.descriptor.allows(Op::Copy) {
            return;
        }
        let mut channel = self.channel();
        let (block, room) = (self.block_size(), self.num_blocks());
        for len in self.lengths().filter(|len| 2 * len / block + 8 < room as usize) {
            let blocks = (len / block) as u32;
            let apart = u64::from(blocks) + 3;
            for (from, to) in [(1, 1 + apart), (1 + apart, 1), (3, 4), (4, 3), (2, 2)] {
                let bytes = pattern(len, from * 5 + to);
                self.write(&mut channel, from, &bytes);
                self.change(&mut channel, Io::copy(from, to, blocks, 3));
                self.expect(&mut channel, to, &bytes);
            }
        }
        let beyond = Io::copy(room - 1, 0, 2, 0);
        self.refused(&mut channel, beyond, crate::RejectReason::OutOfRange);
        let nothing = Io::new(Op::Copy, 0, 1, 0);
        self.refused(&mut channel, nothing, crate::RejectReason::BadBuffer);
    }
}
