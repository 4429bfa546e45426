extern crate std;

mod cores;
mod queues;

use std::time::Duration;
use std::vec;
use std::vec::Vec;

use basalt_env::Instant;
use proptest::prelude::*;

use super::flows::{Flows, Side};
use super::rings::{self, Assembled, Assembler, Chunk, Written};
use crate::wire::{Ip, Segment, TcpFlags, protocol};

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;

/// A segment between peer 10.0.0.`peer` and us, from either side.
fn segment(peer: u8, port: u16, side: Side, flags: TcpFlags) -> Segment {
    let [theirs, ours] = [[10, 0, 0, peer], [10, 0, 0, 1]].map(crate::IpAddress::from);
    let (source, destination, source_port, destination_port) = match side {
        Side::Peer => (theirs, ours, port, 4420),
        Side::Ours => (ours, theirs, 4420, port),
    };
    let ip = Ip { source, destination, protocol: protocol::TCP, start: 34, end: 54 };
    let payload = Some(54);
    Segment { ip, source_port, destination_port, flags, payload }
}

fn from_peer(port: u16, flags: TcpFlags) -> Segment {
    segment(2, port, Side::Peer, flags)
}

fn from_us(port: u16, flags: TcpFlags) -> Segment {
    segment(2, port, Side::Ours, flags)
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// Ages the whole table.
fn age(flows: &mut Flows, seconds: u64) {
    (0..64 / 8).for_each(|_| flows.age(at(seconds)));
}

fn one_flow() -> Flows {
    let mut flows = Flows::new(64, 3, 7);
    assert!(flows.insert(&from_peer(50_000, SYN), Side::Peer, 2));
    flows.lane_of(&from_us(50_000, SYN | ACK), Side::Ours);
    flows.lane_of(&from_peer(50_000, ACK), Side::Peer);
    flows
}

#[test]
fn a_flow_is_known_from_both_sides_and_others_are_not() {
    let mut flows = one_flow();
    assert_eq!(flows.lane_of(&from_peer(50_000, ACK), Side::Peer), Some(2));
    assert_eq!(flows.lane_of(&from_us(50_000, ACK), Side::Ours), Some(2));
    assert_eq!(flows.lane_of(&from_peer(50_001, ACK), Side::Peer), None);
    assert_eq!(flows.lane_of(&segment(3, 50_000, Side::Peer, ACK), Side::Peer), None);
    assert_eq!(flows.counts(), [0, 0, 1]);
}

#[test]
fn a_flow_both_sides_finished_is_soon_forgotten() {
    let mut flows = one_flow();
    flows.lane_of(&from_peer(50_000, TcpFlags::FIN | ACK), Side::Peer);
    age(&mut flows, 100);
    flows.lane_of(&from_us(50_000, TcpFlags::FIN | ACK), Side::Ours);
    flows.lane_of(&from_peer(50_000, ACK), Side::Peer);
    age(&mut flows, 111);
    assert_eq!(flows.lane_of(&from_peer(50_000, ACK), Side::Peer), Some(2));
    age(&mut flows, 113);
    assert_eq!(flows.lane_of(&from_peer(50_000, ACK), Side::Peer), None);
    assert_eq!(flows.counts(), [0, 0, 0]);
}

#[test]
fn a_reset_ends_a_flow_unless_our_side_goes_on() {
    let mut flows = one_flow();
    flows.lane_of(&from_peer(50_000, TcpFlags::RST), Side::Peer);
    age(&mut flows, 13);
    assert_eq!(flows.counts(), [0, 0, 0]);
    let mut flows = one_flow();
    flows.lane_of(&from_peer(50_000, TcpFlags::RST), Side::Peer);
    flows.lane_of(&from_us(50_000, ACK), Side::Ours);
    age(&mut flows, 200);
    assert_eq!(flows.counts(), [0, 0, 1], "the reset was forged");
    age(&mut flows, 301);
    assert_eq!(flows.counts(), [0, 0, 0], "silent for five minutes");
}

#[test]
fn a_peer_cannot_keep_an_ended_flow_alive_but_may_start_it_again() {
    let mut flows = one_flow();
    flows.lane_of(&from_us(50_000, TcpFlags::RST), Side::Ours);
    flows.lane_of(&from_peer(50_000, ACK), Side::Peer);
    age(&mut flows, 11);
    flows.lane_of(&from_peer(50_000, SYN), Side::Peer);
    flows.lane_of(&from_us(50_000, SYN | ACK), Side::Ours);
    age(&mut flows, 22);
    flows.lane_of(&from_peer(50_000, ACK), Side::Peer);
    age(&mut flows, 100);
    assert_eq!(flows.counts(), [0, 0, 1]);
}

#[test]
fn a_request_that_the_peer_does_not_follow_up_is_soon_forgotten() {
    let mut flows = Flows::new(64, 1, 7);
    assert!(flows.insert(&from_peer(50_000, SYN), Side::Peer, 0));
    flows.lane_of(&from_us(50_000, SYN | ACK), Side::Ours);
    flows.lane_of(&from_peer(50_000, SYN), Side::Peer);
    age(&mut flows, 13);
    assert_eq!(flows.counts(), [0]);
}

#[test]
fn a_full_table_turns_new_flows_away_and_keeps_the_old_ones() {
    let mut flows = Flows::new(64, 1, 99);
    let known: Vec<u16> =
        (1..200).filter(|&port| flows.insert(&from_peer(port, SYN), Side::Peer, 0)).collect();
    assert!(known.len() <= 64 && known.len() > 32);
    for port in known {
        assert_eq!(flows.lane_of(&from_peer(port, ACK), Side::Peer), Some(0));
    }
    assert!(!flows.insert(&from_peer(1, SYN), Side::Peer, 9), "there is no such lane");
}

proptest! {
    #[test]
    fn counts_are_the_flows_that_are_remembered(
        steps in prop::collection::vec((1u16..200, 0u8..32, any::<bool>(), 0u64..40), 1..300),
    ) {
        let mut flows = Flows::new(64, 3, 5);
        let mut seconds = 0;
        for (port, flags, ours, wait) in steps {
            seconds += wait / 8;
            flows.age(at(seconds));
            let side = if ours { Side::Ours } else { Side::Peer };
            let seen = segment(2, port, side, TcpFlags::from_bits_truncate(flags));
            if flows.lane_of(&seen, side).is_none() {
                flows.insert(&seen, side, (port % 3) as u8);
            }
        }
        let known = (1..200).filter(|&p| flows.lane_of(&from_peer(p, ACK), Side::Peer).is_some());
        prop_assert_eq!(known.count(), flows.counts().iter().sum::<u32>() as usize);
        age(&mut flows, seconds + 301);
        age(&mut flows, seconds + 602);
        prop_assert_eq!(flows.counts(), [0, 0, 0]);
    }

    #[test]
    fn frames_of_any_size_cross_whole_and_buffers_come_back(
        lens in prop::collection::vec(1usize..20_000, 1..40),
    ) {
        let (mut sender, mut receiver) = rings::channel::<Chunk>();
        let mut assembler = Assembler::new(16_000);
        for len in lens {
            let frame: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            prop_assert!(sender.send_frame(&Written(&frame), None, |chunk| chunk));
            let mut got = None;
            while let Some(chunk) = receiver.receive() {
                let (frame, buffer) = assembler.add(chunk);
                buffer.into_iter().for_each(|buffer| receiver.give_back(buffer));
                got = frame;
            }
            let expected = (len <= 16_000).then_some(&frame[..]);
            prop_assert_eq!(got.as_ref().map(Assembled::as_slice), expected);
            match got {
                Some(Assembled::One(chunk)) => receiver.give_back(chunk.buffer),
                Some(Assembled::Many(bytes, ..)) => assembler.recycle(bytes),
                None => {}
            }
        }
        prop_assert!(sender.has_room(256 * 2048, 1), "all buffers are back");
    }
}

#[test]
fn a_ring_without_buffers_takes_nothing_and_no_part_of_it() {
    let (mut sender, mut receiver) = rings::channel::<Chunk>();
    let big = vec![1; 255 * 2048];
    assert!(sender.send_frame(&Written(&big), None, |chunk| chunk));
    assert!(!sender.send_frame(&Written(&[2; 2049]), None, |chunk| chunk));
    assert!(sender.send_frame(&Written(&[3; 2048]), None, |chunk| chunk));
    let chunks: Vec<_> = core::iter::from_fn(|| receiver.receive()).collect();
    assert_eq!(chunks.len(), 256);
    assert!(chunks.iter().all(|chunk| chunk.buffer[0] != 2));
}
