//! Where the blocks of a raid5f lie.

use core::ops::Range;

/// Strips of so many blocks, one on each base but one, then on each again, and so on; the strip of
/// the base that is left out has their parity. It is another base in each stripe, from the last to
/// the first, as SPDK has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stripes {
    /// Blocks of a strip, as a power of two.
    strip_shift: u32,
    /// How many bases there are to be; at least 3.
    places: u64,
}

/// Blocks that follow each other on one base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// Which base.
    pub(super) place: usize,
    /// The first block's number there.
    pub(super) at: u64,
    pub(super) blocks: u64,
}

impl Stripes {
    pub(super) fn new(strip: u64, places: usize) -> Self {
        Self { strip_shift: strip.trailing_zeros(), places: places as u64 }
    }

    /// How many bases have blocks of a stripe and not its parity.
    pub(super) const fn data_places(&self) -> u64 {
        self.places - 1
    }

    /// Blocks of a strip.
    pub(super) const fn strip(&self) -> u64 {
        1 << self.strip_shift
    }

    /// Blocks of a stripe, without parity.
    pub(super) const fn stripe(&self) -> u64 {
        self.data_places() << self.strip_shift
    }

    /// Which base has the parity of that stripe.
    const fn parity_place(&self, stripe: u64) -> usize {
        (self.places - 1 - stripe % self.places) as usize
    }

    /// Where block `lba` and those after it are.
    pub(super) fn piece(&self, lba: u64) -> Piece {
        let (stripe, within) = (lba / self.stripe(), lba % self.stripe());
        let (strip, within) = ((within >> self.strip_shift) as usize, within & (self.strip() - 1));
        let place = strip + usize::from(strip >= self.parity_place(stripe));
        let at = (stripe << self.strip_shift) + within;
        Piece { place, at, blocks: self.strip() - within }
    }

    /// `blocks` in order, in pieces.
    pub(super) fn pieces(self, blocks: Range<u64>) -> impl Iterator<Item = Piece> {
        let mut lba = blocks.start;
        core::iter::from_fn(move || {
            let left = blocks.end.checked_sub(lba).filter(|left| *left > 0)?;
            let piece = self.piece(lba);
            let piece = Piece { blocks: piece.blocks.min(left), ..piece };
            lba += piece.blocks;
            Some(piece)
        })
    }

    /// Which blocks of each base whole stripes are.
    pub(super) fn on_bases(&self, blocks: Range<u64>) -> Range<u64> {
        let row = |lba: u64| (lba / self.stripe()) << self.strip_shift;
        row(blocks.start)..row(blocks.end)
    }

    /// The places of whole stripes' strips in order, each stripe's parity after its blocks; and
    /// whether it is that.
    pub(super) fn strips(self, blocks: Range<u64>) -> impl Iterator<Item = (usize, bool)> {
        (blocks.start / self.stripe()..blocks.end / self.stripe()).flat_map(move |stripe| {
            let parity = self.parity_place(stripe);
            let data = (0..self.places as usize).filter(move |place| *place != parity);
            data.map(|place| (place, false)).chain([(parity, true)])
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parity_goes_round_from_the_last_base() {
        let stripes = Stripes::new(2, 3);
        let places: Vec<_> = (0..12).step_by(2).map(|lba| stripes.piece(lba).place).collect();
        assert_eq!(places, [0, 1, 0, 2, 1, 2]);
        let strips: Vec<_> = stripes.strips(4..8).collect();
        assert_eq!(strips, [(0, false), (2, false), (1, true)]);
        assert_eq!(stripes.on_bases(4..12), 2..6);
    }

    proptest! {
        #[test]
        fn every_block_has_a_place_of_its_own_that_is_no_parity(
            shift in 0..4_u32, places in 3..7_usize, stripe in 0..9_u64,
        ) {
            let stripes = Stripes::new(1 << shift, places);
            let first = stripe * stripes.stripe();
            let mut seen = Vec::new();
            for lba in first..first + stripes.stripe() {
                let piece = stripes.piece(lba);
                prop_assert!(piece.place != stripes.parity_place(stripe) && piece.place < places);
                prop_assert!(stripes.on_bases(first..first + stripes.stripe()).contains(&piece.at));
                prop_assert!(!seen.contains(&(piece.place, piece.at)));
                seen.push((piece.place, piece.at));
            }
            let (from, end) = (first + 1, first + 3 * stripes.stripe());
            let blocks: u64 = stripes.pieces(from..end).map(|piece| piece.blocks).sum();
            prop_assert_eq!(blocks, end - from);
        }
    }
}
