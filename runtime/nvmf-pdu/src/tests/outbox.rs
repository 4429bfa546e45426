//! What an outbox hands to a network that takes as many bytes as it likes.

use std::vec;
use std::vec::Vec;

use basalt_env::DmaRun;
use proptest::prelude::*;

use crate::{Digests, Outbox, Parts};

/// A PDU: how long its header is, and its data.
type Item = (usize, Option<Vec<u8>>);

fn items() -> impl Strategy<Value = Vec<Item>> {
    let data = prop::option::of(prop::collection::vec(any::<u8>(), 1..300));
    prop::collection::vec((1usize..80, data), 1..120)
}

/// Encodes from `next` on what there is room for.
fn encode(outbox: &mut Outbox<usize>, items: &[Item], next: &mut usize) {
    while outbox.has_room()
        && let Some((header, data)) = items.get(*next)
    {
        outbox.put_header(&vec![*next as u8; *header], 0, Digests::default());
        if let Some(data) = data {
            outbox.put_data(*next, data.len());
        }
        *next += 1;
    }
}

proptest! {
    #[test]
    fn whatever_the_network_takes_at_a_time_bytes_arrive_whole_and_in_order(
        items in items(), taken in prop::collection::vec(0usize..3000, 1..40),
    ) {
        let mut expected = Vec::new();
        for (index, (header, data)) in items.iter().enumerate() {
            expected.extend(std::iter::repeat_n(index as u8, *header));
            expected.extend(data.iter().flatten());
        }
        let with_data = |(index, item): (usize, &Item)| item.1.is_some().then_some(index);
        let keys: Vec<_> = items.iter().enumerate().filter_map(with_data).collect();
        let (mut outbox, mut next) = (Outbox::default(), 0);
        let (mut arrived, mut done) = (Vec::new(), Vec::new());
        // At the end the network takes whatever it is given.
        for budget in taken.into_iter().chain(std::iter::repeat(usize::MAX)) {
            encode(&mut outbox, &items, &mut next);
            if outbox.is_empty() {
                break;
            }
            let mut parts = Parts::default();
            let gathered = outbox.gather(&mut parts, |key: usize, skip, parts| {
                // In pieces, as buffers are.
                let data = items[key].1.as_ref()?[skip..].chunks(100);
                data.for_each(|bytes| parts.put(DmaRun::Lent(bytes)));
                Some(())
            });
            prop_assert!(gathered.is_some());
            let bytes: Vec<u8> =
                parts.as_slice().iter().flat_map(DmaRun::as_slice).copied().collect();
            prop_assert_eq!(bytes.len(), parts.bytes());
            let sent = budget.min(bytes.len());
            arrived.extend_from_slice(&bytes[..sent]);
            let mut out = outbox.advance(sent);
            while let Some(key) = out {
                prop_assert!(!outbox.is_sending(|other| other == key));
                done.push(key);
                out = outbox.advance(0);
            }
        }
        prop_assert_eq!(arrived, expected);
        prop_assert_eq!(done, keys);
    }
}

#[test]
fn data_that_is_no_more_is_said() {
    let mut outbox = Outbox::default();
    outbox.stage(&[1, 2, 3]);
    outbox.put_data(7, 10);
    let mut parts = Parts::default();
    assert_eq!(outbox.gather(&mut parts, |_, _, _| None), None);
    assert!(outbox.is_sending(|key| key == 7));
    outbox.clear();
    assert!(outbox.is_empty() && !outbox.is_sending(|_| true));
}
