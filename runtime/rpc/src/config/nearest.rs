use alloc::vec::Vec;

/// How many letters of a word may be wrong.
const DISTANCE_MAX: usize = 2;

/// The one of `known` that `word` was probably meant to be: at most two letters are missing, too
/// many or others, and more of them are right.
pub(crate) fn nearest<'a>(word: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut found = None;
    let mut least = DISTANCE_MAX + 1;
    for known in known {
        let distance = distance(word.as_bytes(), known.as_bytes());
        if distance < least && 2 * distance < word.len().min(known.len()) {
            (found, least) = (Some(known), distance);
        }
    }
    found
}

/// How many bytes have to be put in, taken out or changed to make one of the other (Levenshtein);
/// some number above [`DISTANCE_MAX`] if their lengths differ by more.
fn distance(one: &[u8], other: &[u8]) -> usize {
    if one.len().abs_diff(other.len()) > DISTANCE_MAX {
        return usize::MAX / 2;
    }
    // Of each beginning of `other` the distance from what has been seen of `one`.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (seen, byte) in (1..).zip(one) {
        let mut diagonal = core::mem::replace(&mut row[0], seen);
        for (at, against) in (1..).zip(other) {
            let changed = diagonal + usize::from(byte != against);
            diagonal = row[at];
            row[at] = changed.min(row[at - 1] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_up_to_two_letters_is_seen_through() {
        let known = ["num_blocks", "block_size", "name", "uuid"];
        let find = |word| nearest(word, &mut known.into_iter());
        assert_eq!(find("num_block"), Some("num_blocks"));
        assert_eq!(find("num-blocks"), Some("num_blocks"));
        assert_eq!(find("blok_sise"), Some("block_size"));
        assert_eq!(find("nmae"), None, "two of four letters are half of it");
        assert_eq!(find("nam"), Some("name"));
        assert_eq!(find("number_of_blocks"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn the_closest_one_is_taken() {
        assert_eq!(nearest("raid1", &mut ["raid0f", "raid10", "raid"].into_iter()), Some("raid10"));
    }
}
