//! The Internet checksum of TCP and UDP over IP (RFC 1071, RFC 9293 §3.1, RFC 768, RFC 8200 §8.1).
//!
//! The stack leaves these to its port: a card does them for nothing, and otherwise this does them
//! eight bytes at a time.

use crate::port::{Frame, IpVersion, PartialChecksum};
use crate::wire::{ETHERNET_LEN, Ip, protocol};

/// Where the checksum is in a TCP and in a UDP header.
const TCP_OFFSET: usize = 16;
const UDP_OFFSET: usize = 6;
/// In an ICMPv6 message,
const ICMP_V6_OFFSET: usize = 2;
/// And that of an IPv4 header.
const V4_CHECKSUM: usize = 10;

/// Whether the checksum of a received frame is right. What carries none, or is malformed, passes:
/// the stack judges that.
pub fn verify_frame(frame: &impl Frame) -> bool {
    let head = frame.head();
    let Some(ip) = Ip::parse_head(head, frame.len()) else { return true };
    let Some(offset) = offset(&ip) else { return true };
    // Headers are in the first buffer; what has them elsewhere is no packet that we know.
    let Some(field) = head.get(ip.start + offset..ip.start + offset + 2) else { return true };
    // Over IPv6, UDP has to have one.
    let may_lack = offset == UDP_OFFSET && ip.version() == IpVersion::V4;
    let none_sent = may_lack && field == [0, 0];
    none_sent || fold(add(sum_of(frame, ip.start, ip.end), pseudo_header(head, &ip))) == u16::MAX
}

/// The sum of a frame's bytes from `start` to `end`, which may lie in several buffers.
fn sum_of(frame: &impl Frame, start: usize, end: usize) -> u64 {
    let mut at = start;
    let mut total = 0;
    while at < end
        && let part @ [_, ..] = frame.from(at)
    {
        let part = &part[..part.len().min(end - at)];
        let sum = fold(sum(part));
        // At an odd place, the bytes of all words are swapped.
        let sum = if (at - start).is_multiple_of(2) { sum } else { sum.swap_bytes() };
        total += u64::from(sum);
        at += part.len();
    }
    total
}

/// Computes the checksum of a frame to be sent, which has this packet, and writes it.
pub fn complete(frame: &mut [u8], ip: &Ip) {
    let Some(offset) = offset(ip) else { return };
    let field = ip.start + offset;
    frame[field..field + 2].fill(0);
    let checksum = !fold(add(sum(&frame[ip.start..ip.end]), pseudo_header(frame, ip)));
    // A UDP checksum of zero means none; its other form of zero does not. TCP takes either.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    frame[field..field + 2].copy_from_slice(&checksum.to_ne_bytes());
}

/// Whether the checksum of a received packet's IPv4 header is right; IPv6 has none.
pub fn verify_header(frame: &[u8], ip: &Ip) -> bool {
    ip.version() == IpVersion::V6
        || frame.get(ETHERNET_LEN..ip.start).is_some_and(|header| fold(sum(header)) == u16::MAX)
}

/// Computes the checksum of an IPv4 header, and writes it (RFC 791 §3.1).
pub fn complete_v4_header(header: &mut [u8]) {
    header[V4_CHECKSUM..V4_CHECKSUM + 2].fill(0);
    let checksum = !fold(sum(header));
    header[V4_CHECKSUM..V4_CHECKSUM + 2].copy_from_slice(&checksum.to_ne_bytes());
}

/// Whether the checksum of a received ICMPv6 message is right.
pub fn verify_icmp_v6(frame: &[u8], ip: &Ip) -> bool {
    fold(add(sum(&frame[ip.start..ip.end]), pseudo_header(frame, ip))) == u16::MAX
}

/// The same for an ICMPv6 message (RFC 4443 §2.3), which no card completes.
pub fn complete_icmp_v6(frame: &mut [u8], ip: &Ip) {
    let field = ip.start + ICMP_V6_OFFSET;
    frame[field..field + 2].fill(0);
    let checksum = !fold(add(sum(&frame[ip.start..ip.end]), pseudo_header(frame, ip)));
    frame[field..field + 2].copy_from_slice(&checksum.to_ne_bytes());
}

/// Writes the pseudo-header's sum into the checksum of a frame to be sent, which has this packet,
/// and says what is left for the card to do.
pub fn prepare(frame: &mut [u8], ip: &Ip) -> Option<PartialChecksum> {
    let offset = offset(ip)?;
    let field = ip.start + offset;
    let sum = fold(pseudo_header(frame, ip));
    frame[field..field + 2].copy_from_slice(&sum.to_ne_bytes());
    // Both are small: our own packets have no extension headers.
    Some(PartialChecksum { start: ip.start as u16, offset: offset as u16, cut: None })
}

/// Where in the packet's payload its TCP or UDP checksum is, if it has one.
fn offset(ip: &Ip) -> Option<usize> {
    let offset = match ip.protocol {
        protocol::TCP => TCP_OFFSET,
        protocol::UDP => UDP_OFFSET,
        _ => return None,
    };
    (ip.end - ip.start >= offset + 2).then_some(offset)
}

/// Both addresses, the protocol and the length of the payload.
fn pseudo_header(frame: &[u8], ip: &Ip) -> u64 {
    let addresses = match ip.version() {
        IpVersion::V4 => &frame[ETHERNET_LEN + 12..ETHERNET_LEN + 20],
        IpVersion::V6 => &frame[ETHERNET_LEN + 8..ETHERNET_LEN + 40],
    };
    let length = (ip.end - ip.start) as u16;
    let rest = [0, ip.protocol, length.to_be_bytes()[0], length.to_be_bytes()[1]];
    add(sum(addresses), sum(&rest))
}

/// The sum of `bytes` as words of the machine's order, with end-around carry. Swapping the bytes of
/// all addends swaps those of the folded sum, so the order does not matter (RFC 1071 §2B).
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut total = if blocks.is_empty() { 0 } else { sum_of_blocks(blocks) };
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        total = add(total, u64::from_ne_bytes(*word));
    }
    let (halves, tail) = rest.as_chunks::<4>();
    for half in halves {
        total = add(total, u32::from_ne_bytes(*half).into());
    }
    let last = match *tail {
        [a, b, c] => [a, b, c, 0],
        [a, b] => [a, b, 0, 0],
        [a] => [a, 0, 0, 0],
        _ => return total,
    };
    add(total, u32::from_ne_bytes(last).into())
}

fn sum_of_blocks(blocks: &[[u8; 32]]) -> u64 {
    let mut lanes = [0u128; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        // Four sums that do not wait for each other's carry.
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u128::from(u64::from_ne_bytes(*word));
        }
    }
    let total: u128 = lanes.into_iter().sum();
    add(total as u64, (total >> 64) as u64)
}

/// Adds with end-around carry.
#[inline]
fn add(one: u64, other: u64) -> u64 {
    let (sum, carry) = one.overflowing_add(other);
    sum + u64::from(carry)
}

/// Folds a sum to 16 bits with end-around carry.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
