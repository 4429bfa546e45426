//! What a verified place holds: words that tell where they belong, and in which run.

use basalt_bdev::{Io, Op};

use super::tally::Failure;

const WORD: usize = size_of::<u64>();

/// Makes the data of a write.
pub fn fill(io: &mut Io, seed: u64) {
    let mut words = words(io.lba, seed);
    for buf in io.data.as_mut_slice() {
        for (bytes, word) in buf.as_mut_slice().chunks_exact_mut(WORD).zip(&mut words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// What a read has found that [`fill`] did not put there.
pub fn difference(io: &Io, seed: u64) -> Option<Failure> {
    if io.op != Op::Read {
        return None;
    }
    let mut words = words(io.lba, seed);
    let mut offset = 0;
    for buf in io.data.as_slice() {
        for (bytes, word) in buf.as_slice().chunks_exact(WORD).zip(&mut words) {
            if bytes != word.to_le_bytes() {
                return Some(Failure::Differs { lba: io.lba, offset });
            }
            offset += WORD;
        }
    }
    None
}

fn words(lba: u64, seed: u64) -> impl Iterator<Item = u64> {
    let first = lba.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
    (0..).map(move |index: u64| first.wrapping_add(index))
}
