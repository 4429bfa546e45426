//! Cutting a large TCP packet for a card that does not cut (what Linux calls generic segmentation
//! offload): the way through smoltcp is gone once for all segments, and only headers are written
//! for each.

use crate::checksum;
use crate::port::{Cut, IpVersion};
use crate::wire::{ETHERNET_LEN, Ip, TcpFlags};

/// Where things are in an IPv4 and an IPv6 header (RFC 791 §3.1, RFC 8200 §3).
const V4_TOTAL_LEN: usize = ETHERNET_LEN + 2;
const V6_PAYLOAD_LEN: usize = ETHERNET_LEN + 4;
const V6_HEADER_LEN: usize = 40;
/// And in a TCP header (RFC 9293 §3.1).
const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;

/// One segment of a large packet.
pub struct Segment<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    /// Where the TCP header begins.
    tcp: usize,
    /// Of the payload in the packet's, bytes.
    offset: usize,
    is_last: bool,
    version: IpVersion,
}

/// The segments of the packet `ip` in `frame`, in order.
pub fn segments<'a>(frame: &'a [u8], ip: &Ip, cut: Cut) -> impl Iterator<Item = Segment<'a>> {
    let (headers, payload) = frame[..ip.end].split_at(usize::from(cut.headers_len).min(ip.end));
    let len = usize::from(cut.segment_len).max(1);
    let (tcp, version, whole) = (ip.start, cut.version, payload.len());
    payload.chunks(len).enumerate().map(move |(index, payload)| {
        let offset = index * len;
        let is_last = offset + payload.len() == whole;
        Segment { headers, payload, tcp, offset, is_last, version }
    })
}

impl Segment<'_> {
    /// Bytes of its frame.
    pub fn frame_len(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    /// Writes its frame; the checksum of TCP is to be completed.
    pub fn write(&self, frame: &mut [u8]) {
        let (headers, payload) = frame.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(self.payload);
        let packet_len = self.frame_len() - ETHERNET_LEN;
        match self.version {
            IpVersion::V4 => {
                put_be16(headers, V4_TOTAL_LEN, packet_len as u16);
                checksum::complete_v4_header(&mut headers[ETHERNET_LEN..self.tcp]);
            }
            IpVersion::V6 => put_be16(headers, V6_PAYLOAD_LEN, (packet_len - V6_HEADER_LEN) as u16),
        }
        let sequence = &mut headers[self.tcp + TCP_SEQUENCE..][..4];
        let mut first = [0; 4];
        first.copy_from_slice(sequence);
        let first = u32::from_be_bytes(first).wrapping_add(self.offset as u32);
        sequence.copy_from_slice(&first.to_be_bytes());
        if !self.is_last {
            headers[self.tcp + TCP_FLAGS] &= !(TcpFlags::FIN | TcpFlags::PSH).bits();
        }
    }
}

fn put_be16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
