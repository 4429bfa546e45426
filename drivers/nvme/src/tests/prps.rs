use basalt_models::nvme::prp::walk;
use proptest::prelude::*;

use super::*;
use crate::prp::{TRANSFER_MAX, build};

/// The bytes of `segments` as runs, neighbouring ones joined.
fn joined(ranges: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for (start, len) in ranges {
        match all.last_mut() {
            Some((last, held)) if *last + *held == start => *held += len,
            _ => all.push((start, len)),
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_controller_walks_exactly_the_bytes_that_were_described(
        before in 0usize..4,
        first in prop_oneof![Just(0usize), 1usize..=8],
        pages in prop::collection::vec(1usize..=32, 0..8),
        tail in 0usize..4096,
    ) {
        let machine = Machine::new();
        let pool = machine.pool(16 << 20);
        let _shift: Vec<_> = (0..before).map(|_| pool.alloc(512).unwrap()).collect();
        let mut segments = Vec::new();
        if first != 0 {
            segments.push(pool.alloc(first * 512).unwrap());
        }
        segments.extend(pages.iter().map(|&count| pool.alloc(count * 4096).unwrap()));
        if tail != 0 {
            // At least a page large, so that it starts on one.
            let mut buf = pool.alloc(4096).unwrap();
            buf.set_len(tail);
            segments.push(buf);
        }
        let len: u64 = segments.iter().map(|buf| buf.len() as u64).sum();
        prop_assume!(len > 0 && len <= TRANSFER_MAX);
        let list = pool.alloc_shared(4096).unwrap();
        let aligned = |n: u64| n.is_multiple_of(4096);
        let fits = segments.windows(2).all(|pair| {
            aligned(pair[0].phys().as_u64() + pair[0].len() as u64)
                && aligned(pair[1].phys().as_u64())
        });
        match build(segments.iter().map(|b| (b.phys().as_u64(), b.len() as u64)), &list) {
            Ok(prps) => {
                prop_assert!(fits);
                let walked = walk(&machine.bus(), prps.prp1, prps.prp2, len).unwrap();
                let described = segments.iter().map(|b| (b.phys().as_u64(), b.len() as u64));
                prop_assert_eq!(joined(walked), joined(described));
            }
            Err(reason) => {
                prop_assert_eq!(reason, crate::RejectReason::Misaligned);
                prop_assert!(!fits);
            }
        }
    }
}

#[test]
fn chained_lists_are_walked_as_a_controller_must() {
    let machine = Machine::new();
    let pool = machine.pool(16 << 20);
    let data = pool.alloc(8 * 4096).unwrap();
    let lists = [pool.alloc_shared(4096).unwrap(), pool.alloc_shared(4096).unwrap()];
    let page = |i: u64| data.phys().as_u64() + i * 4096;
    // The first list starts two entries before its page's end: one page, then a link.
    lists[0].store64(4080, page(1));
    lists[0].store64(4088, lists[1].phys().as_u64());
    (2..8).for_each(|i| lists[1].store64((i as usize - 2) * 8, page(i)));
    let start = lists[0].phys().as_u64() + 4080;
    let walked = walk(&machine.bus(), page(0), start, 8 * 4096).unwrap();
    assert_eq!(joined(walked), [(page(0), 8 * 4096)]);
    let wrong = walk(&machine.bus(), page(0) + 2, 0, 512);
    assert_eq!(wrong, Err(Status::PRP_OFFSET_INVALID));
    let wrong = walk(&machine.bus(), page(0), page(1) + 512, 8192);
    assert_eq!(wrong, Err(Status::PRP_OFFSET_INVALID));
}
