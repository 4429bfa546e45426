//! The way of a connection's segments: their headers below TCP, written once.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::port::{Cut, FramePort, IpVersion, TxFull};
use crate::tcp::Header;
use crate::wire::{ETHERNET_LEN, Ip, TCP_LEN_MIN, protocol};
use crate::{Endpoint, IpAddress};

const V4_LEN: usize = 20;
const V6_LEN: usize = 40;
/// IPv4 without options: version and header length; then not to be fragmented, so that it needs no
/// identification (RFC 6864 §4.1).
const V4_START: u8 = 0x45;
const V4_DONT_FRAGMENT: u8 = 0x40;
const V6_START: u8 = 0x60;
/// RFC 1122 §3.2.1.7 and IANA's recommendation.
const HOPS: u8 = 64;

/// A flow as numbers: what differs most comes first. IPv4 addresses are as RFC 4291 §2.5.5.2 maps
/// them, which no packet has.
pub type FlowKey = [u64; 5];

/// From where to where segments go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The other end.
    pub peer: Endpoint,
    /// Our end.
    pub local: Endpoint,
}

impl Flow {
    /// What it is looked up by.
    #[inline]
    pub fn key(&self) -> FlowKey {
        let (peer, local) = (bits(self.peer.ip()), bits(self.local.ip()));
        let ports = u64::from(self.peer.port()) << 16 | u64::from(self.local.port());
        [peer as u64, ports, (peer >> 64) as u64, local as u64, (local >> 64) as u64]
    }

    /// Of both addresses.
    pub fn version(&self) -> IpVersion {
        if self.peer.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
    }
}

/// A flow, who on the link takes its segments, and their headers as far as these are always the
/// same.
///
/// A peer's segments say who that is: who has sent them. So there is nothing to ask for while they
/// come; only the first of a connection that we ask for, and what is sent again in vain, waits for
/// an answer.
pub struct Path {
    flow: Flow,
    link: Option<[u8; 6]>,
    headers: [u8; ETHERNET_LEN + V6_LEN],
}

impl Path {
    /// A way from `mac`.
    pub fn new(flow: Flow, mac: [u8; 6], link: Option<[u8; 6]>) -> Self {
        let mut headers = [0; ETHERNET_LEN + V6_LEN];
        headers[..6].copy_from_slice(&link.unwrap_or_default());
        headers[6..12].copy_from_slice(&mac);
        let ip = &mut headers[ETHERNET_LEN..];
        match (flow.local.ip(), flow.peer.ip()) {
            (IpAddress::V4(from), IpAddress::V4(to)) => {
                headers[12..14].copy_from_slice(&[0x08, 0x00]);
                start_v4(&mut headers[ETHERNET_LEN..], from, to);
            }
            (from, to) => {
                start_v6(ip, v6(from), v6(to));
                headers[12..14].copy_from_slice(&[0x86, 0xdd]);
            }
        }
        Self { flow, link, headers }
    }

    /// From where to where.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Whether it is known who on the link takes the segments.
    pub fn is_known(&self) -> bool {
        self.link.is_some()
    }

    /// A segment came from there.
    #[inline]
    pub fn learn(&mut self, link: [u8; 6]) {
        if self.link != Some(link) {
            self.link = Some(link);
            self.headers[..6].copy_from_slice(&link);
        }
    }

    /// Nothing comes from there any more.
    pub fn forget(&mut self) {
        self.link = None;
    }

    /// Bytes of the headers below TCP.
    pub fn headers_len(&self) -> usize {
        ETHERNET_LEN + headers_len(self.flow.version()) - TCP_LEN_MIN
    }

    /// Writes a frame of the right length; its TCP checksum is to be completed.
    pub fn write(&self, frame: &mut [u8], header: &Header, payload: [&[u8]; 2]) {
        let (below, rest) = frame.split_at_mut(self.headers_len());
        below.copy_from_slice(&self.headers[..below.len()]);
        match self.flow.version() {
            IpVersion::V4 => {
                let len = (below.len() - ETHERNET_LEN + rest.len()) as u16;
                let ip = &mut below[ETHERNET_LEN..];
                ip[2..4].copy_from_slice(&len.to_be_bytes());
                checksum::complete_v4_header(ip);
            }
            IpVersion::V6 => {
                let len = rest.len() as u16;
                below[ETHERNET_LEN + 4..ETHERNET_LEN + 6].copy_from_slice(&len.to_be_bytes());
            }
        }
        let (tcp, body) = rest.split_at_mut(header.len());
        tcp[..2].copy_from_slice(&self.flow.local.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.flow.peer.port().to_be_bytes());
        header.write(tcp);
        let (first, second) = body.split_at_mut(payload[0].len());
        first.copy_from_slice(payload[0]);
        second.copy_from_slice(payload[1]);
    }

    /// The packet in a frame of so many bytes.
    fn packet(&self, frame_len: usize) -> Ip {
        Ip {
            source: self.flow.local.ip(),
            destination: self.flow.peer.ip(),
            protocol: protocol::TCP,
            start: self.headers_len(),
            end: frame_len,
        }
    }

    /// Sends a segment; the card cuts it if it has more than `mss` bytes.
    pub fn send(
        &self,
        port: &mut impl FramePort,
        header: &Header,
        payload: [&[u8]; 2],
        mss: usize,
    ) -> Result<(), TxFull> {
        let headers_len = self.headers_len() + header.len();
        let payload_len = payload[0].len() + payload[1].len();
        let len = headers_len + payload_len;
        let offload = port.completes_checksums();
        let cut = (payload_len > mss).then(|| Cut {
            version: self.flow.version(),
            headers_len: headers_len as u16,
            segment_len: mss as u16,
        });
        port.transmit(len, |frame| {
            self.write(frame, header, payload);
            let ip = self.packet(len);
            if !offload {
                checksum::complete(frame, &ip);
                return None;
            }
            checksum::prepare(frame, &ip).map(|partial| crate::PartialChecksum { cut, ..partial })
        })
    }
}

/// Bytes of a packet's headers with a TCP header without options.
pub fn headers_len(version: IpVersion) -> usize {
    let ip = match version {
        IpVersion::V4 => V4_LEN,
        IpVersion::V6 => V6_LEN,
    };
    ip + TCP_LEN_MIN
}

fn start_v4(ip: &mut [u8], from: Ipv4Addr, to: Ipv4Addr) {
    ip[0] = V4_START;
    ip[6] = V4_DONT_FRAGMENT;
    ip[8..10].copy_from_slice(&[HOPS, protocol::TCP]);
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
}

fn start_v6(ip: &mut [u8], from: Ipv6Addr, to: Ipv6Addr) {
    ip[0] = V6_START;
    ip[6..8].copy_from_slice(&[protocol::TCP, HOPS]);
    ip[8..24].copy_from_slice(&from.octets());
    ip[24..40].copy_from_slice(&to.octets());
}

/// An address as a number.
#[inline]
fn bits(address: IpAddress) -> u128 {
    match address {
        IpAddress::V4(address) => 0xffff << 32 | u128::from(address.to_bits()),
        IpAddress::V6(address) => address.to_bits(),
    }
}

fn v6(address: IpAddress) -> Ipv6Addr {
    match address {
        IpAddress::V4(address) => address.to_ipv6_mapped(),
        IpAddress::V6(address) => address,
    }
}
