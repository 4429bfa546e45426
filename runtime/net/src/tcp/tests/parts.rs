use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::super::ring::Ring;
use super::super::sacked::Sacked;
use super::*;

fn any_header() -> impl Strategy<Value = Header> {
    let offer = (any::<Option<u16>>(), proptest::option::of(0u8..15), any::<bool>());
    let blocks = proptest::collection::vec(any::<(u32, u32)>(), 0..4);
    (any::<(u32, u32, u16)>(), 0u8..32, offer, blocks).prop_map(|(fields, flags, offer, spans)| {
        let (seq, ack, window) = fields;
        let flags = TcpFlags::from_bits_truncate(flags);
        let mut header = Header::plain(Seq(seq), Seq(ack), flags, window);
        if flags.contains(TcpFlags::SYN) {
            let (mss, shift, sack) = offer;
            header.offer = Offer { mss, shift, sack };
        } else {
            for (start, end) in spans {
                header.blocks.push(Span { start: Seq(start), end: Seq(end) });
            }
        }
        header
    })
}

proptest! {
    #[test]
    fn a_header_is_read_as_it_was_written(header in any_header()) {
        let mut bytes = vec![0xff; header.len()];
        header.write(&mut bytes);
        prop_assert!(bytes.len() <= 60 && usize::from(bytes[12] >> 4) * 4 == bytes.len());
        prop_assert_eq!(Header::parse(&bytes), Some(header));
    }

    #[test]
    fn no_bytes_are_a_header_that_cannot_be_written(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        if let Some(header) = Header::parse(&bytes) {
            let mut again = vec![0; header.len()];
            header.write(&mut again);
        }
    }

    #[test]
    fn a_ring_is_a_queue(steps in proptest::collection::vec((any::<bool>(), 0usize..40), 1..60)) {
        let mut ring = Ring::new(64);
        let mut queue = VecDeque::new();
        let mut next = 0u8;
        for (is_push, count) in steps {
            if is_push {
                let bytes: Vec<u8> = (0..count).map(|at| next.wrapping_add(at as u8)).collect();
                let taken = ring.push(&bytes);
                prop_assert_eq!(taken, count.min(64 - queue.len()));
                queue.extend(&bytes[..taken]);
                next = next.wrapping_add(taken as u8);
            } else {
                ring.drop_front(count);
                queue.drain(..count.min(queue.len()));
            }
            prop_assert_eq!((ring.len(), ring.room()), (queue.len(), 64 - queue.len()));
            let offset = count.min(queue.len());
            let bytes: Vec<u8> = queue.iter().skip(offset).copied().collect();
            prop_assert_eq!(ring.parts(offset, usize::MAX).concat(), bytes);
        }
    }

    #[test]
    fn what_a_peer_has_is_what_it_said(
        spans in proptest::collection::vec((0usize..200, 1usize..30), 1..25),
        acked in 0usize..150,
    ) {
        let mut sacked = Sacked::new();
        let mut model = BTreeSet::new();
        for (start, len) in spans {
            let new = (start..start + len).fold(false, |new, at| model.insert(at) | new);
            prop_assert_eq!(sacked.add(Span::of(OURS + start, len)), new);
        }
        sacked.forget_before(OURS + acked);
        let last = model.last().copied().unwrap();
        let start = (acked..=last).find(|at| !model.contains(at));
        let expected = start.map(|start| {
            let end = (start..=last).find(|at| model.contains(at)).unwrap();
            (OURS + start, OURS + end)
        });
        let hole = sacked.hole(OURS + acked).map(|span| (span.start, span.end));
        prop_assert_eq!(hole, expected);
    }

    #[test]
    fn a_stream_arrives_whole_however_it_is_cut_and_ordered(
        cuts in proptest::collection::vec((0usize..3000, 1usize..400), 1..80),
        copies: bool,
    ) {
        let bytes = pattern(0, 4000);
        let mut rig = Rig::open();
        rig.keep = if copies { Keep::Copy } else { Keep::Frame };
        let mut had = BTreeSet::new();
        let mut read = vec![];
        for (start, len) in cuts {
            rig.data(start, &bytes[start..start + len]);
            had.extend(start..start + len);
            read.extend(rig.read());
            let in_order = (0..).find(|at| !had.contains(at)).unwrap();
            prop_assert!(read.len() <= in_order);
            let _ = rig.sent();
        }
        rig.data(read.len(), &bytes[read.len()..]);
        read.extend(rig.read());
        prop_assert!(read == bytes);
    }
}
