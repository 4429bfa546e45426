use alloc::vec;
use alloc::vec::Vec;

use super::{Bench, Medium, pattern};
use crate::{Channel, Io, Op, SgList};

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Parts of the device, each with one operation in flight, so that none overlap.
const LANES: u64 = 4;
/// Blocks of a lane, or as many more as make whole write units.
const LANE_BLOCKS: u64 = 16;
const ROUNDS: u32 = 60;

impl Bench<'_> {
    pub(super) fn random_operations_match_an_array(&mut self, seed: u64) {
        let mut channel = self.channel();
        let mut random = Random::new(seed);
        let mut disk = pattern((LANES * self.lane()) as usize * self.block_size(), seed);
        self.write(&mut channel, 0, &disk);
        for round in 0..ROUNDS {
            for lane in 0..LANES {
                let io = self.random_io(&mut random, lane, &mut disk);
                self.submit_in_time(&mut channel, io);
            }
            for io in self.drain(&mut channel, LANES as usize) {
                assert_eq!(io.status, Ok(()), "seed {seed}, round {round}");
                self.check_read(&io, &disk, seed);
            }
        }
        self.check_all(&mut channel, &disk);
    }

    fn lane(&self) -> u64 {
        LANE_BLOCKS.next_multiple_of(u64::from(self.unit()))
    }

    /// A random operation on `lane`, already carried out on `disk`.
    fn random_io(&self, random: &mut Random, lane: u64, disk: &mut [u8]) -> Io {
        let kinds = [Op::Read, Op::Write, Op::Read, Op::Write, Op::WriteZeroes, Op::Unmap];
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let unit = if kind.changes_blocks() { u64::from(self.unit()) } else { 1 };
        let units = self.lane() / unit;
        let first = random.below(units);
        let blocks = ((1 + random.below(units - first)) * unit) as u32;
        let lba = lane * self.lane() + first * unit;
        let (start, len) = (lba as usize * self.block_size(), blocks as usize * self.block_size());
        let range = &mut disk[start..start + len];
        match kind {
            Op::Write => {
                range.copy_from_slice(&pattern(len, random.next()));
                Io::with_data(Op::Write, lba, blocks, self.scattered(random, range), lane)
            }
            op if !op.has_data() && self.descriptor.allows(op) => {
                range.fill(0);
                Io::new(op, lba, blocks, lane)
            }
            _ => {
                let data = self.scattered(random, range);
                Io::with_data(Op::Read, lba, blocks, data, lane)
            }
        }
    }

    /// `bytes` in up to four buffers, cut anywhere on a multiple of 4.
    fn scattered(&self, random: &mut Random, bytes: &[u8]) -> SgList {
        if random.below(2) == 0 {
            return SgList::One(self.filled(bytes));
        }
        let mut cuts: Vec<usize> =
            (0..3).map(|_| random.below(bytes.len() as u64 / 4) as usize * 4).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        SgList::Many(cuts.windows(2).map(|cut| self.filled(&bytes[cut[0]..cut[1]])).collect())
    }

    fn check_read(&self, io: &Io, disk: &[u8], seed: u64) {
        if io.op != Op::Read || self.medium == Medium::Forgets {
            return;
        }
        let start = io.lba as usize * self.block_size();
        let found = io.data.as_slice().iter().flat_map(|buf| buf.as_slice());
        let wanted = &disk[start..start + io.data.len()];
        assert!(found.eq(wanted), "seed {seed}: blocks from {} differ", io.lba);
    }

    fn check_all(&mut self, channel: &mut Channel, disk: &[u8]) {
        let block = self.block_size();
        let mut found = vec![];
        for lba in 0..LANES * self.lane() {
            found.extend(self.read(channel, lba, 1));
        }
        let same = found.chunks(block).eq(disk.chunks(block));
        assert!(same || self.medium == Medium::Forgets, "the disk differs from the array");
    }
}
