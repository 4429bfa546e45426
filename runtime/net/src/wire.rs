//! Just enough of Ethernet, ARP, IPv4 and TCP to know whose a frame is.
//!
//! Every accessor looks at bytes a peer chose: whatever is too short or not understood is `None`.

use bitflags::bitflags;
use core::net::Ipv4Addr;

/// Ethernet header, bytes. Tagged frames are not understood.
pub const ETHERNET_LEN: usize = 14;
const IPV4_LEN_MIN: usize = 20;
const TCP_LEN_MIN: usize = 20;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ARP_REPLY: u16 = 2;

/// IP protocol numbers.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
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
        /// Acknowledges.
        const ACK = 16;
    }
}

/// An unfragmented IPv4 packet inside a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// IP protocol.
    pub protocol: u8,
    /// Where its payload starts in the frame.
    pub start: usize,
    /// Where it ends; inside the frame.
    pub end: usize,
}

impl Ipv4 {
    /// Parses a frame; `None` for fragments too.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if be16(frame, 12)? != ETHERTYPE_IPV4 {
            return None;
        }
        let header = frame.get(ETHERNET_LEN..)?.first_chunk::<IPV4_LEN_MIN>()?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let (start, end) = (ETHERNET_LEN + header_len, ETHERNET_LEN + total);
        let sane = header[0] >> 4 == 4 && header_len >= IPV4_LEN_MIN && start <= end;
        if !sane || fragment || end > frame.len() {
            return None;
        }
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        let source = Ipv4Addr::new(s0, s1, s2, s3);
        let destination = Ipv4Addr::new(d0, d1, d2, d3);
        Some(Self { source, destination, protocol: header[9], start, end })
    }
}

/// The addresses and control bits of a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The IP packet around it.
    pub ip: Ipv4,
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Control bits.
    pub flags: TcpFlags,
}

impl Segment {
    /// Parses a frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ip = Ipv4::parse(frame)?;
        if ip.protocol != protocol::TCP {
            return None;
        }
        let header = frame.get(ip.start..ip.end)?.first_chunk::<TCP_LEN_MIN>()?;
        Some(Self {
            ip,
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            flags: TcpFlags::from_bits_truncate(header[13]),
        })
    }

    /// Whether it asks for a new connection.
    pub fn opens(&self) -> bool {
        let control = TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN;
        self.flags & control == TcpFlags::SYN
    }
}

/// Whether a frame is an ARP reply.
pub fn is_arp_reply(frame: &[u8]) -> bool {
    be16(frame, 12) == Some(ETHERTYPE_ARP) && be16(frame, 20) == Some(ARP_REPLY)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
