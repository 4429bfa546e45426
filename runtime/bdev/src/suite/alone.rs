//! What must be alone on its blocks or on the bdev.

use alloc::vec::Vec;

use super::emulated::COMPARE_FAILURE;
use super::{Bench, Medium, pattern};
use crate::{Channel, Io, IoError, IoStatus, Op, RejectReason, SgList};

impl Bench<'_> {
    /// Where compare and write is tried.
    fn place(&self) -> u64 {
        3 * u64::from(self.unit())
    }

    /// A compare of `old` and write of `new` there, in three buffers.
    fn swap(&self, old: &[u8], new: &[u8], tag: u64) -> Io {
        let blocks = (old.len() / self.block_size()) as u32;
        let (head, tail) = new.split_at(new.len() / 2);
        let bufs = [old, head, tail].map(|bytes| self.filled(bytes));
        Io::with_data(Op::CompareAndWrite, self.place(), blocks, SgList::Many(bufs.into()), tag)
    }

    pub(super) fn a_compare_and_write_writes_if_nothing_has_changed(&mut self) {
        if !self.descriptor.allows(Op::CompareAndWrite) {
            return;
        }
        let mut channel = self.channel();
        let (place, unit) = (self.place(), self.unit() as usize * self.block_size());
        for len in self.lengths().filter(|len| *len <= 1 << 19 && len.is_multiple_of(unit)) {
            let [old, new, other] = [1, 2, 3].map(|salt| pattern(len, salt));
            self.write(&mut channel, place, &old);
            let io = self.swap(&old, &new, 1);
            let first = self.finish(&mut channel, io).status;
            self.expect(&mut channel, place, &new);
            let io = self.swap(&old, &other, 2);
            let second = self.finish(&mut channel, io).status;
            if self.medium == Medium::Keeps {
                assert_eq!(first, Ok(()), "{len} bytes");
                assert!(is_compare_failure(second), "{len} bytes: {second:?}");
            }
            self.expect(&mut channel, place, &new);
        }
        let short = pattern(unit, 1);
        let mut io = self.swap(&short, &short, 0);
        io.blocks *= 2;
        self.refused(&mut channel, io, RejectReason::BadBuffer);
        let mut io = self.swap(&short, &short, 0);
        io.lba = self.num_blocks();
        self.refused(&mut channel, io, RejectReason::OutOfRange);
    }

    /// Several channels count a number up, each from what it read last.
    pub(super) fn of_those_who_compare_and_write_at_once_one_wins(&mut self) {
        if !self.descriptor.allows(Op::CompareAndWrite) || self.medium == Medium::Forgets {
            return;
        }
        let mut channels = [(); 3].map(|()| self.channel());
        let (place, unit) = (self.place(), self.unit() as usize * self.block_size());
        let number = |number: u64| number.to_le_bytes().repeat(unit / 8);
        let all: Vec<_> = (0..40).map(number).collect();
        self.write(&mut channels[0], place, &all[0]);
        let mut wins = 0;
        for round in 0..13 {
            for (tag, channel) in channels.iter_mut().enumerate() {
                let io = self.swap(&all[round], &all[round + 1], tag as u64);
                assert!(channel.submit(io).is_ok(), "a compare and write was refused");
            }
            // Others go on meanwhile.
            for channel in &mut channels {
                let other = self.transfer(Op::Read, 40, 4);
                self.submit_in_time(channel, other);
            }
            let ended = self.drain_all(&mut channels, 6);
            let swaps = ended.iter().filter(|io| io.op == Op::CompareAndWrite);
            for status in swaps.map(|io| io.status) {
                assert!(status == Ok(()) || is_compare_failure(status), "{status:?}");
                wins += u32::from(status.is_ok());
            }
            assert_eq!(wins, round as u32 + 1, "one of them at a time");
        }
        self.expect(&mut channels[0], place, &all[13]);
    }

    pub(super) fn a_reset_ends_all_that_is_under_way(&mut self) {
        if !self.descriptor.allows(Op::Reset) {
            return;
        }
        let mut channels = [(); 2].map(|()| self.channel());
        let bytes = pattern(self.block_size(), 8);
        self.write(&mut channels[0], 9, &bytes);
        for channel in &mut channels {
            for lba in 20..24 {
                let io = self.transfer(Op::Read, lba, 1);
                self.submit_in_time(channel, io);
            }
        }
        assert!(channels[0].submit(Io::new(Op::Reset, 0, 0, 99)).is_ok(), "a reset was refused");
        for io in self.drain_all(&mut channels, 9) {
            let ended = io.status == Ok(());
            let aborted = io.op != Op::Reset && io.status == Err(IoError::Aborted);
            assert!(ended || aborted, "{:?} ended with {:?}", io.op, io.status);
        }
        self.expect(&mut channels[1], 9, &bytes);
    }

    /// Runs the machine until the channels have handed back `count` Ios together.
    fn drain_all(&mut self, channels: &mut [Channel], count: usize) -> Vec<Io> {
        let mut ended = Vec::new();
        for _ in 0..super::ROUNDS_MAX {
            for channel in &mut *channels {
                let _ = channel.poll(|io| ended.push(io));
            }
            if ended.len() >= count {
                return ended;
            }
            self.rig.step();
        }
        panic!("{} of {count} Ios came back: the bdev hangs", ended.len());
    }

    /// Submits, however long it takes until there is room.
    pub(super) fn submit_in_time(&mut self, channel: &mut Channel, io: Io) {
        let mut io = io;
        for _ in 0..super::ROUNDS_MAX {
            match channel.submit(io) {
                Ok(()) => return,
                Err(refused) if refused.reason == RejectReason::QueueFull => io = refused.io,
                Err(refused) => panic!("{:?} refused: {:?}", refused.io.op, refused.reason),
            }
            self.rig.step();
        }
        panic!("there is never any room");
    }
}

fn is_compare_failure(status: IoStatus) -> bool {
    let Err(IoError::Nvme { sct, sc, .. }) = status else { return false };
    (sct, sc) == COMPARE_FAILURE
}
