/// Sorts by ascending keys; equals stay in the order they have.
///
/// For what is done once, or once in a while, to so few that it does not matter how: up to some
/// hundreds, or more that are nearly sorted, as the time grows with what has to change places. It
/// is a fiftieth of the code of `sort_by_key`, which the image has once for each type.
pub fn sort_few_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && key(&items[at - 1]) > key(&items[at]) {
            items.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_are_sorted_as_many_are(keys in vec(0_u8..8, 0..40)) {
            let mut items: Vec<_> = keys.into_iter().zip(0..).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_few_by_key(&mut items, |(key, _): &(u8, u32)| *key);
            prop_assert_eq!(items, expected);
        }
    }
}
