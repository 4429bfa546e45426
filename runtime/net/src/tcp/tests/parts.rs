use std::collections::{BTreeSet, VecDeque};

use basalt_env::{DmaPool, DmaSlice};
use basalt_hosted::Machine;
use proptest::prelude::*;

use super::super::queue::Queue;
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

fn slice(pool: &DmaPool, bytes: &[u8]) -> DmaSlice {
    let mut buf = pool.alloc(bytes.len()).unwrap();
    buf.as_mut_slice().copy_from_slice(bytes);
    pool.share(buf).unwrap()
}

proptest! {
    #[test]
    fn a_queue_of_copied_and_shared_bytes_is_a_queue(
        steps in proptest::collection::vec((0u8..7, 0usize..3000, 0usize..3000), 1..120),
    ) {
        const CAPACITY: usize = 5000;
        let pool = Machine::new().pool(4 << 20);
        let (mut queue, mut model, mut last) = (Queue::new(CAPACITY), Vec::new(), None);
        for (step, one, other) in steps {
            let bytes = pattern(other, one);
            let room = CAPACITY - model.len();
            match step {
                0 | 1 => {
                    let taken = queue.push(&bytes);
                    prop_assert_eq!(taken, bytes.len().min(room));
                    model.extend_from_slice(&bytes[..taken]);
                }
                2 if one > 0 => {
                    let slice = slice(&pool, &bytes);
                    let from = other % one;
                    let taken = queue.push_shared(&slice, from);
                    prop_assert_eq!(taken, (one - from).min(room));
                    model.extend_from_slice(&bytes[from..from + taken]);
                    last = (from + taken < one).then_some((slice, from + taken));
                }
                3 => if let Some((slice, from)) = last.take() {
                    let rest = slice.as_slice()[from..].to_vec();
                    let taken = queue.push_shared(&slice, from);
                    prop_assert_eq!(taken, rest.len().min(room));
                    model.extend_from_slice(&rest[..taken]);
                },
                4 | 5 => {
                    queue.drop_front(one);
                    model.drain(..one.min(model.len()));
                }
                6 if one % 8 == 0 => {
                    prop_assert!(queue.copy_shared());
                    prop_assert_eq!(queue.held(), 0);
                }
                _ => {}
            }
            prop_assert_eq!(queue.len(), model.len());
            for (offset, len) in [(0, CAPACITY), (other, one), (one, other)] {
                let offset = offset.min(model.len());
                let len = len.min(model.len() - offset);
                let parts = queue.parts(offset, len);
                let bytes: Vec<u8> = parts.flat_map(|part| part.as_slice().to_vec()).collect();
                prop_assert_eq!(&bytes[..], &model[offset..offset + len]);
            }
        }
        drop(last);
        queue.drop_front(CAPACITY);
        prop_assert_eq!(queue.held(), 0);
        prop_assert_eq!(pool.stats().bytes_free, 4 << 20, "nothing is kept of what is gone");
    }
}

#[test]
fn a_queue_has_room_for_so_many_pieces_and_again_for_what_is_acknowledged() {
    let pool = Machine::new().pool(4 << 20);
    let slice = slice(&pool, &pattern(0, 1000));
    let mut queue = Queue::new(1 << 20);
    let pieces = (0..2000).take_while(|_| queue.push_shared(&slice, 999) == 1).count();
    assert_eq!((pieces, queue.push(b"one more"), queue.len()), (256, 0, 256));
    queue.drop_front(1);
    assert_eq!((queue.push(b"one more"), queue.push(b", longer")), (8, 8));
    assert_eq!((queue.push_shared(&slice, 0), queue.len()), (0, 271));
}
