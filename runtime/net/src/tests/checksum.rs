use super::*;
use proptest::prelude::*;

use crate::checksum::{verify_frame, verify_header};
use crate::tcp::Header;
use crate::wire::{Ip, Segment, answers_all};
use crate::{ChecksumState, Frame, PartialChecksum, checksum};

/// A frame in two buffers.
struct Halves(Vec<u8>, Vec<u8>);

impl Frame for Halves {
    fn head(&self) -> &[u8] {
        &self.0
    }

    fn len(&self) -> usize {
        self.0.len() + self.1.len()
    }

    fn from(&self, at: usize) -> &[u8] {
        let (head, rest) = (&self.0, &self.1);
        if at < head.len() { &head[at..] } else { rest.get(at - head.len()..).unwrap_or_default() }
    }

    fn checksum(&self) -> ChecksumState {
        ChecksumState::Unverified
    }
}

fn verify(frame: &[u8]) -> bool {
    verify_frame(&Halves(frame.to_vec(), vec![]))
}

/// An IPv4 frame around `payload`; header checksum left out, as nothing here looks at it.
fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 34];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    frame[23] = protocol;
    frame[26..30].copy_from_slice(&SERVER.octets());
    frame[30..34].copy_from_slice(&CLIENT.octets());
    frame.extend_from_slice(payload);
    frame
}

pub fn complete(frame: &mut [u8]) {
    if let Some(ip) = Ip::parse(frame) {
        checksum::complete(frame, &ip);
    }
}

fn prepare(frame: &mut [u8]) -> Option<PartialChecksum> {
    checksum::prepare(frame, &Ip::parse(frame)?)
}

/// The same around an IPv6 packet, with hop-by-hop options if there are any.
fn frame_v6(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    frame[18..20].copy_from_slice(&((options.len() + payload.len()) as u16).to_be_bytes());
    frame[20] = if options.is_empty() { protocol } else { 0 };
    frame[22..54].copy_from_slice(&core::array::from_fn::<u8, 32, _>(|at| at as u8 * 7));
    frame.extend_from_slice(options);
    frame.extend_from_slice(payload);
    frame
}

/// The definition, two bytes at a time.
fn slow_sum(frame: &[u8]) -> u16 {
    let len = (frame.len() - 34) as u32;
    let words = frame[26..]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum = words.sum::<u32>() + len + u32::from(frame[23]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

proptest! {
    #[test]
    fn completed_frames_add_up_by_the_definition(
        payload in prop::collection::vec(any::<u8>(), 20..1480),
        tcp: bool,
        flip: usize,
    ) {
        let mut frame = frame(if tcp { 6 } else { 17 }, &payload);
        frame.extend([0; 3]); // Padding is not part of it.
        complete(&mut frame);
        prop_assert!(verify(&frame));
        let len = frame.len() - 3;
        prop_assert_eq!(slow_sum(&frame[..len]), 0xffff);
        let at = 34 + flip % payload.len();
        frame[at] ^= 0x10;
        let udp_without = !tcp && frame[40..42] == [0, 0];
        prop_assert!(!verify(&frame) || udp_without);
    }

    #[test]
    fn the_same_holds_for_ipv6_and_behind_its_options(
        payload in prop::collection::vec(any::<u8>(), 20..1400),
        tcp: bool,
        hop_by_hop: bool,
        flip: usize,
    ) {
        let protocol = if tcp { 6 } else { 17 };
        let options: &[u8] = if hop_by_hop { &[protocol, 0, 5, 2, 0, 0, 1, 0] } else { &[] };
        let mut frame = frame_v6(protocol, options, &payload);
        complete(&mut frame);
        prop_assert!(verify(&frame));
        let start = 54 + options.len();
        let len = (payload.len() as u32).to_be_bytes();
        let rest = [&frame[start..], &vec![0; payload.len() % 2]].concat();
        let summed = [&frame[22..54], &len, &[0, 0, 0, protocol], &rest].concat();
        let words = summed.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])));
        prop_assert_eq!(words.sum::<u64>() % 0xffff, 0);
        let at = start + flip % payload.len();
        frame[at] ^= 0x10;
        prop_assert!(!verify(&frame));
    }

    #[test]
    fn a_frame_in_two_buffers_is_as_right_as_in_one(
        payload in prop::collection::vec(any::<u8>(), 20..400),
        cut in 54usize..100,
        damaged: bool,
    ) {
        let mut bytes = frame(6, &payload);
        complete(&mut bytes);
        let last = bytes.len() - 1;
        bytes[last] ^= u8::from(damaged);
        let rest = bytes.split_off(cut.min(bytes.len()));
        prop_assert_eq!(verify_frame(&Halves(bytes, rest)), !damaged);
    }

    #[test]
    fn what_is_left_to_the_card_is_the_sum_of_the_rest(
        payload in prop::collection::vec(any::<u8>(), 20..200),
    ) {
        let mut whole = frame(6, &payload);
        let mut partial = whole.clone();
        complete(&mut whole);
        let left = prepare(&mut partial).unwrap();
        prop_assert_eq!((left.start, left.offset), (34, 16));
        let mut sum = partial[34..].chunks(2).fold(0u32, |sum, pair| {
            sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
        });
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let checksum = u16::from_be_bytes([whole[50], whole[51]]);
        prop_assert!(!(sum as u16) == checksum || (checksum == 0xffff && sum == 0xffff));
    }

    #[test]
    fn no_bytes_panic_the_parsers(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        if bytes.len() > 24 && bytes[0] & 1 == 0 {
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[14] = 0x40 | bytes[14] & 0xf;
            bytes[16] = 0;
            bytes[20..22].copy_from_slice(&[0, 0]);
            bytes[23] = if bytes[0] & 2 == 0 { 6 } else { 17 };
        }
        if bytes.len() > 24 && bytes[0] & 5 == 5 {
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
            bytes[14] = 0x60 | bytes[14] & 0xf;
            let len = bytes[1] & 63;
            bytes[18..20].copy_from_slice(&[0, len]);
            bytes[20] = [0, 6, 17, 58][usize::from(bytes[0] >> 6)];
        }
        if let Some(ip) = Ip::parse(&bytes) {
            prop_assert!(ip.start <= ip.end && ip.end <= bytes.len());
            let _ = verify_header(&bytes, &ip);
        }
        if let Some(segment) = Segment::parse(&bytes)
            && let Some(payload) = segment.payload
        {
            prop_assert!(segment.ip.start < payload && payload <= segment.ip.end);
            prop_assert!(Header::parse(&bytes[segment.ip.start..payload]).is_some());
        }
        let _ = (verify(&bytes), answers_all(&bytes));
        complete(&mut bytes);
        let _ = prepare(&mut bytes);
    }
}

#[test]
fn udp_without_a_checksum_passes() {
    let mut frame = frame(17, &[1; 20]);
    assert!(!verify(&frame));
    frame[40..42].fill(0);
    assert!(verify(&frame));
}
