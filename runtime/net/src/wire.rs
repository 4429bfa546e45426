//! Just enough of Ethernet, ARP, IP and TCP to know whose a frame is.
//!
//! Every accessor looks at bytes a peer chose: whatever is too short or not understood is `None`.

use bitflags::bitflags;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::port::{Frame, IpVersion};
use crate::{IpAddress, checksum};

/// Ethernet header, bytes. Tagged frames are not understood.
pub const ETHERNET_LEN: usize = 14;
/// TCP header without options, bytes.
pub const TCP_LEN_MIN: usize = 20;
const IPV4_LEN_MIN: usize = 20;
const IPV6_LEN: usize = 40;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ARP_REPLY: u16 = 2;

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// Messages of router and neighbour discovery (RFC 4861 §4).
pub mod discovery {
    /// Router advertisement.
    pub const ROUTER: u8 = 134;
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR: u8 = 136;
    /// Kind of the option with the link-layer address of what is advertised.
    pub const TARGET_LINK: u8 = 2;
}

bitflags! {
    /// TCP control bits (RFC 9293 §3.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct TcpFlags: u8 {
        /// The sender has finished.
        const FIN = 1;
        /// Starts a connection.
        const SYN = 2;
        /// Ends it at once.
        const RST = 4;
        /// Asks for what has come to be passed on.
        const PSH = 8;
        /// Acknowledges.
        const ACK = 16;
    }
}

/// An unfragmented IP packet inside a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ip {
    /// Sender.
    pub source: IpAddress,
    /// Receiver.
    pub destination: IpAddress,
    /// IP protocol.
    pub protocol: u8,
    /// Where its payload starts in the frame.
    pub start: usize,
    /// Where it ends; inside the frame.
    pub end: usize,
}

impl Ip {
    /// Parses a frame; `None` for fragments too.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        Self::parse_head(frame, frame.len())
    }

    /// Parses a frame of `frame_len` bytes by its first.
    pub fn parse_head(head: &[u8], frame_len: usize) -> Option<Self> {
        let ip = match be16(head, 12)? {
            ETHERTYPE_IPV4 => Self::parse_v4(head)?,
            ETHERTYPE_IPV6 => Self::parse_v6(head)?,
            _ => return None,
        };
        (ip.start <= ip.end && ip.end <= frame_len).then_some(ip)
    }

    /// The version both addresses are of.
    pub fn version(&self) -> IpVersion {
        if self.source.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
    }

    fn parse_v4(frame: &[u8]) -> Option<Self> {
        let header = frame.get(ETHERNET_LEN..)?.first_chunk::<IPV4_LEN_MIN>()?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let (start, end) = (ETHERNET_LEN + header_len, ETHERNET_LEN + total);
        let sane = header[0] >> 4 == 4 && header_len >= IPV4_LEN_MIN;
        if !sane || fragment {
            return None;
        }
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        let source = Ipv4Addr::new(s0, s1, s2, s3).into();
        let destination = Ipv4Addr::new(d0, d1, d2, d3).into();
        Some(Self { source, destination, protocol: header[9], start, end })
    }

    /// Of extension headers (RFC 8200 §4) only hop-by-hop options are passed over: a packet with
    /// another has that as its protocol, which nobody here understands.
    fn parse_v6(frame: &[u8]) -> Option<Self> {
        let header = frame.get(ETHERNET_LEN..)?.first_chunk::<IPV6_LEN>()?;
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (mut start, mut protocol) = (ETHERNET_LEN + IPV6_LEN, header[6]);
        let end = start + payload_len;
        if header[0] >> 4 != 6 {
            return None;
        }
        if protocol == protocol::HOP_BY_HOP {
            let [next, units] = *frame.get(start..)?.first_chunk()?;
            start += 8 * (usize::from(units) + 1);
            protocol = next;
        }
        let address = |at: usize| Some(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?));
        let (source, destination) = (address(8)?.into(), address(24)?.into());
        Some(Self { source, destination, protocol, start, end })
    }
}

/// The addresses and control bits of a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The IP packet around it.
    pub ip: Ip,
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Control bits.
    pub flags: TcpFlags,
    /// Where its payload starts in the frame, if the header is whole.
    pub payload: Option<usize>,
}

impl Segment {
    /// Parses a frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        Self::of(frame, Ip::parse(frame)?)
    }

    /// Parses a frame of `frame_len` bytes by its first.
    #[inline(never)]
    pub fn parse_head(head: &[u8], frame_len: usize) -> Option<Self> {
        Self::of(head, Ip::parse_head(head, frame_len)?)
    }

    /// Parses a received frame.
    pub fn of_frame(frame: &impl Frame) -> Option<Self> {
        Self::parse_head(frame.head(), frame.len())
    }

    /// Parses the payload of a packet.
    pub fn of(frame: &[u8], ip: Ip) -> Option<Self> {
        if ip.protocol != protocol::TCP || ip.end - ip.start < TCP_LEN_MIN {
            return None;
        }
        let header = frame.get(ip.start..)?.first_chunk::<TCP_LEN_MIN>()?;
        let header_len = usize::from(header[12] >> 4) * 4;
        let payload = ip.start + header_len;
        Some(Self {
            ip,
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            flags: TcpFlags::from_bits_truncate(header[13]),
            payload: (header_len >= TCP_LEN_MIN && payload <= ip.end).then_some(payload),
        })
    }

    /// Whether it asks for a new connection.
    pub fn opens(&self) -> bool {
        let control = TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN;
        self.flags & control == TcpFlags::SYN
    }
}

/// Whether a frame may answer what any of our stacks has asked: an ARP reply, or an advertisement
/// of a neighbour or a router.
pub fn answers_all(frame: &[u8]) -> bool {
    if be16(frame, 12) == Some(ETHERTYPE_ARP) {
        return be16(frame, 20) == Some(ARP_REPLY);
    }
    let Some(ip) = Ip::parse(frame) else { return false };
    let kind = frame.get(ip.start..ip.end).and_then(|payload| payload.first());
    ip.protocol == protocol::ICMPV6
        && matches!(kind, Some(&(discovery::ROUTER | discovery::NEIGHBOUR)))
}

/// Whose address on the link a frame tells, and that: an ARP reply, or a neighbour advertisement.
pub fn tells_of(frame: &[u8]) -> Option<(IpAddress, [u8; 6])> {
    if be16(frame, 12)? == ETHERTYPE_ARP {
        // Of IPv4 on Ethernet.
        let [0, 1, 8, 0, 6, 4, 0, 2, a, b, c, d, e, f, i, j, k, l, ..] = *frame.get(14..)? else {
            return None;
        };
        return unicast([a, b, c, d, e, f]).map(|link| (Ipv4Addr::new(i, j, k, l).into(), link));
    }
    let ip = Ip::parse(frame)?;
    let message = frame.get(ip.start..ip.end)?;
    // It has not come from further away (RFC 4861 §7.1.2).
    let is_near = frame.get(ETHERNET_LEN + 7) == Some(&255);
    let tells = ip.protocol == protocol::ICMPV6 && *message.first()? == discovery::NEIGHBOUR;
    if !tells || !is_near || !checksum::verify_icmp_v6(frame, &ip) {
        return None;
    }
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let mut options = message.get(24..)?;
    while let [kind, units, ..] = *options {
        let len = 8 * usize::from(units).max(1);
        let (option, rest) = options.split_at_checked(len)?;
        if kind == discovery::TARGET_LINK {
            return unicast(*option.get(2..)?.first_chunk()?).map(|link| (target.into(), link));
        }
        options = rest;
    }
    None
}

/// An address of one card.
fn unicast(link: [u8; 6]) -> Option<[u8; 6]> {
    (link[0] & 1 == 0 && link != [0; 6]).then_some(link)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
