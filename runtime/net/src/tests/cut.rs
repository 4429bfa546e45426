//! What the segments of a large packet are like, each as if its sender had made it.

use proptest::prelude::*;

use super::tcp::pattern;
use super::*;

use crate::checksum;
use crate::port::{Cut, IpVersion};
use crate::smol::cut::segments;
use crate::wire::{ETHERNET_LEN, Ip, Segment, TCP_LEN_MIN, TcpFlags};

/// A frame with a TCP packet whose first byte has that sequence number.
fn frame(version: IpVersion, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let tcp_len = TCP_LEN_MIN + payload.len();
    let mut frame = vec![2; 12];
    match version {
        IpVersion::V4 => {
            let [high, low] = ((20 + tcp_len) as u16).to_be_bytes();
            frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        }
        IpVersion::V6 => {
            let [high, low] = (tcp_len as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, 6, 64]);
            frame.extend([0xfd; 32]);
        }
    }
    frame.extend([0x11, 0x44, 0x30, 0x39]);
    frame.extend(sequence.to_be_bytes());
    let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN;
    frame.extend([0, 0, 0, 9, 0x50, flags.bits(), 1, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// The sum of an IPv4 header with a right checksum is all ones.
fn has_right_header(frame: &[u8]) -> bool {
    let words = frame[ETHERNET_LEN..ETHERNET_LEN + 20].as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

proptest! {
    #[test]
    fn segments_carry_the_payload_in_order_and_only_the_last_ends_it(
        six in any::<bool>(), sequence in any::<u32>(),
        len in 1usize..20_000, segment_len in 536u16..9_000,
    ) {
        let version = if six { IpVersion::V6 } else { IpVersion::V4 };
        let payload = pattern(len, 7);
        let whole = frame(version, sequence, &payload);
        let ip = Ip::parse(&whole).unwrap();
        let headers_len = (ip.start + TCP_LEN_MIN) as u16;
        let mut carried = vec![];
        for segment in segments(&whole, &ip, Cut { version, headers_len, segment_len }) {
            let mut out = vec![0; segment.frame_len()];
            segment.write(&mut out);
            let ip = Ip::parse(&out).unwrap();
            prop_assert_eq!(ip.end, out.len());
            checksum::complete(&mut out, &ip);
            prop_assert!(checksum::verify(&out));
            prop_assert!(six || has_right_header(&out));
            let parsed = Segment::of(&out, ip).unwrap();
            let at = out[ip.start + 4..].first_chunk::<4>().unwrap();
            let expected = sequence.wrapping_add(carried.len() as u32);
            prop_assert_eq!(u32::from_be_bytes(*at), expected);
            carried.extend_from_slice(&out[parsed.payload.unwrap()..]);
            let is_last = carried.len() == len;
            prop_assert_eq!(parsed.flags.contains(TcpFlags::FIN | TcpFlags::PSH), is_last);
            prop_assert!(is_last || !parsed.flags.intersects(TcpFlags::FIN | TcpFlags::PSH));
            prop_assert!(out.len() - usize::from(headers_len) <= usize::from(segment_len));
        }
        prop_assert_eq!(carried, payload);
    }
}
