//! Where the blocks of a raid0 or concat lie.

use alloc::boxed::Box;
use core::ops::Range;

/// How a bdev's blocks are dealt out to its bases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Strips of so many blocks, to each base in turn.
    Striped {
        /// Blocks of a strip, as a power of two.
        strip_shift: u32,
        /// How many bases there are.
        bases: u64,
    },
    /// One base after the other; where each of them ends.
    Concat(Box<[u64]>),
}

impl Layout {
    /// The base that has block `lba`, that block's number there, and how many blocks from it on
    /// follow each other on that base.
    #[inline]
    pub(super) fn place(&self, lba: u64) -> (usize, u64, u64) {
        match self {
            Self::Striped { strip_shift, bases } => {
                let strip = 1 << strip_shift;
                let (number, within) = (lba >> strip_shift, lba & (strip - 1));
                let (row, base) = (number / bases, number % bases);
                (base as usize, (row << strip_shift) + within, strip - within)
            }
            Self::Concat(ends) => {
                let base = ends.partition_point(|end| *end <= lba).min(ends.len() - 1);
                let start = base.checked_sub(1).map_or(0, |before| ends[before]);
                (base, lba - start, ends[base] - lba)
            }
        }
    }

    /// Which blocks of a base `blocks` are. They follow each other there, so that there is one
    /// range for each base.
    pub(super) fn on_base(&self, base: usize, blocks: Range<u64>) -> Range<u64> {
        self.before(base, blocks.start)..self.before(base, blocks.end)
    }

    /// How many of the first `lba` blocks are on a base.
    fn before(&self, base: usize, lba: u64) -> u64 {
        match self {
            Self::Striped { strip_shift, bases } => {
                let (row, first) = (bases << strip_shift, (base as u64) << strip_shift);
                let (rows, within) = (lba / row, lba % row);
                (rows << strip_shift) + within.saturating_sub(first).min(1 << strip_shift)
            }
            Self::Concat(ends) => {
                let start = base.checked_sub(1).map_or(0, |before| ends[before]);
                lba.min(ends[base]).saturating_sub(start)
            }
        }
    }

    /// `blocks` in order, in runs that each lie on one base: the base, and how many.
    pub(super) fn runs(&self, blocks: Range<u64>) -> impl Iterator<Item = (usize, u64)> + '_ {
        let mut lba = blocks.start;
        core::iter::from_fn(move || {
            let left = blocks.end.checked_sub(lba).filter(|left| *left > 0)?;
            let (base, _, run) = self.place(lba);
            let run = run.min(left);
            lba += run;
            Some((base, run))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn any_layout() -> impl Strategy<Value = (Layout, u64)> {
        let striped = (0..4_u32, 1..6_u64, 1..9_u64).prop_map(|(strip_shift, bases, rows)| {
            (Layout::Striped { strip_shift, bases }, (bases * rows) << strip_shift)
        });
        let concat = proptest::collection::vec(1..40_u64, 1..6).prop_map(|sizes| {
            let sum = |end: &mut u64, size| {
                *end += size;
                Some(*end)
            };
            let ends: Vec<_> = sizes.into_iter().scan(0, sum).collect();
            let blocks = *ends.last().unwrap();
            (Layout::Concat(ends.into()), blocks)
        });
        prop_oneof![striped, concat]
    }

    proptest! {
        #[test]
        fn every_block_has_a_place_of_its_own_and_ranges_agree_with_it(
            (layout, blocks) in any_layout(),
            ends in any::<[prop::sample::Index; 2]>(),
        ) {
            let bases = match &layout {
                Layout::Striped { bases, .. } => *bases as usize,
                Layout::Concat(ends) => ends.len(),
            };
            let mut next = vec![0; bases];
            for lba in 0..blocks {
                let (base, at, run) = layout.place(lba);
                prop_assert_eq!(at, next[base], "a base is filled from its start on");
                next[base] += 1;
                prop_assert!(run > 0);
            }
            let [start, end] = ends.map(|end| end.index(blocks as usize + 1) as u64);
            let range = start.min(end)..start.max(end);
            let mut lba = range.start;
            for (base, run) in layout.runs(range.clone()) {
                for step in 0..run {
                    let (on, at, _) = layout.place(lba + step);
                    prop_assert_eq!(on, base);
                    prop_assert!(layout.on_base(base, range.clone()).contains(&at));
                }
                lba += run;
            }
            prop_assert_eq!(lba, range.end);
            let spans = (0..bases).map(|base| layout.on_base(base, range.clone()));
            let blocks = spans.map(|span| span.end - span.start).sum::<u64>();
            prop_assert_eq!(blocks, range.end - range.start);
        }
    }
}
