//! What each Io does next, and where.

use basalt_bdev::{Io, Op};

use super::job::Shape;
use super::pattern;
use super::workload::{Kind, Order};

/// Chooses, for one core.
pub struct Aim {
    shape: Shape,
    /// Whether all Ios do the same, as they were made to.
    same: bool,
    random: Random,
    next_place: u64,
}

impl Aim {
    pub fn new(shape: Shape) -> Self {
        let random = Random::new(shape.seed.wrapping_add(shape.first_place));
        let same = matches!(shape.workload.kind, Kind::One(_));
        Self { shape, same, random, next_place: 0 }
    }

    /// Gives the Io something to do.
    #[inline]
    pub fn direct(&mut self, io: &mut Io) {
        if !self.same {
            return self.direct_other(io);
        }
        self.place(io);
    }

    #[cold]
    fn direct_other(&mut self, io: &mut Io) {
        if self.shape.workload.kind == Kind::Verify {
            return self.direct_verified(io);
        }
        let reads = self.random.below(100) < u64::from(self.shape.read_percent);
        io.op = if reads { Op::Read } else { Op::Write };
        self.place(io);
    }

    /// What has just been written is read back, into memory that shows if it is not; what has been
    /// read back makes room for a write elsewhere.
    fn direct_verified(&mut self, io: &mut Io) {
        if io.op == Op::Write {
            io.op = Op::Read;
            io.data.as_mut_slice().iter_mut().for_each(|buf| buf.as_mut_slice().fill(0));
            return;
        }
        io.op = Op::Write;
        self.place(io);
        pattern::fill(io, self.shape.seed);
    }

    #[inline]
    fn place(&mut self, io: &mut Io) {
        let place = match self.shape.workload.order {
            Order::Random => self.random.below(self.shape.places),
            Order::Sequential => {
                let place = self.next_place;
                self.next_place = if place + 1 == self.shape.places { 0 } else { place + 1 };
                place
            }
        };
        io.lba = (self.shape.first_place + place) * u64::from(self.shape.blocks);
    }
}

/// Xorshift (Marsaglia 2003): some instructions per number, and random enough to pick blocks.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero would stay zero; the odd factor spreads small seeds over all bits.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// A number below `bound`.
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}
