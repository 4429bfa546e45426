//! A peer may acknowledge every segment; of those that came together only the last says something.

use super::tcp::pattern;
use super::*;

use crate::wire::{Ip, Segment, TcpFlags};

const PLAIN: u64 = feature::VERSION_1 | feature::MAC;

/// From the peer: so many bytes from `sequence` on, all before `acknowledged` has come.
fn segment(flags: TcpFlags, sequence: u32, acknowledged: u32, len: usize) -> Segment {
    let address = |last| Ipv4Addr::new(10, 0, 0, last).into();
    let ip =
        Ip { source: address(1), destination: address(2), protocol: 6, start: 34, end: 54 + len };
    let (source_port, destination_port, payload) = (5000, 4420, Some(54));
    Segment { ip, source_port, destination_port, flags, sequence, acknowledged, payload }
}

#[test]
fn only_an_acknowledgement_gives_way_and_only_to_one_of_more() {
    let (ack, fin) = (TcpFlags::ACK, TcpFlags::FIN);
    let first = segment(ack, 7, 100, 0);
    for next in [
        segment(ack, 7, 101, 0),
        segment(ack | TcpFlags::PSH, 7, 101, 20),
        segment(ack | fin, 7, 200, 0),
    ] {
        assert!(first.is_superseded_by(&next), "{next:?}");
        assert!(!segment(ack, 7, 100, 1).is_superseded_by(&next), "it brings data");
        assert!(!segment(ack | fin, 7, 100, 0).is_superseded_by(&next), "it ends something");
    }
    for next in [
        segment(ack, 7, 100, 0), // A duplicate: something was lost.
        segment(ack, 7, 99, 0),
        segment(ack, 8, 101, 0), // Not the next in line.
        segment(ack | TcpFlags::RST, 7, 101, 0),
        segment(ack | TcpFlags::SYN, 7, 101, 0),
        segment(fin, 7, 101, 0),
        Segment { source_port: 5001, ..segment(ack, 7, 101, 0) },
        Segment { destination_port: 4421, ..segment(ack, 7, 101, 0) },
    ] {
        assert!(!first.is_superseded_by(&next), "{next:?}");
    }
    let wrapped = segment(ack, 7, 3, 0);
    assert!(segment(ack, 7, u32::MAX, 0).is_superseded_by(&wrapped));
}

#[test]
fn bytes_arrive_whole_where_acknowledgements_are_passed_over() {
    let plan = WirePlan { lost: 20, doubled: 10, overtaken: 30, damaged: 0 };
    for plan in [WirePlan::default(), plan] {
        let mut pair = Pair::with(plan, 1, SMALL, PLAIN);
        let listener = pair.server.listen(PORT).unwrap();
        let (near, far) = pair.connect(listener);
        let (bytes, mut sent, mut got) = (pattern(1 << 20, 3), 0, vec![]);
        pair.until(Duration::from_secs(600), |pair| {
            sent += pair.server.send(far, &bytes[sent..]).unwrap();
            got.extend(read(&mut pair.client, near).unwrap());
            got.len() >= bytes.len()
        });
        assert_eq!(got, bytes);
    }
}

#[test]
fn of_those_that_came_together_the_stack_sees_one() {
    let mut pair = Pair::with(WirePlan::default(), 1, SMALL, PLAIN);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    let before = pair.server.stats();
    // Each piece is acknowledged by itself, while the server does not look.
    let piece = pattern(1460, 3);
    let mut frames = vec![];
    for _ in 0..6 {
        assert_eq!(pair.server.send(far, &piece).unwrap(), piece.len());
        pair.now = pair.now + TICK;
        let _ = pair.server.poll(pair.now);
        while let Some(frame) = pair.models[0].take_sent() {
            pair.models[1].inject(frame);
        }
        for _ in 0..20 {
            pair.now = pair.now + TICK;
            let _ = pair.client.poll(pair.now);
            let _ = read(&mut pair.client, near);
            frames.extend(std::iter::from_fn(|| pair.models[1].take_sent()));
        }
    }
    let came = frames.len();
    assert!(came > 1, "{came} acknowledgements");
    frames.drain(..).for_each(|frame| pair.models[0].inject(frame));
    pair.now = pair.now + TICK;
    let _ = pair.server.poll(pair.now);
    let after = pair.server.stats();
    assert_eq!(after.superseded - before.superseded, came as u64 - 1);
    assert_eq!(after.frames_in - before.frames_in, 1);
}
