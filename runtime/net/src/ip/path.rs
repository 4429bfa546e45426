//! The way of a connection's segments: their headers below TCP, written once.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::phy::Phy;
use crate::checksum;
use crate::port::{Cut, FramePort, Insert, IpVersion, TxFull};
use crate::tcp::{Header, Part, Parts};
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

    /// Writes the headers of a frame of `frame_len` bytes; its TCP checksum is to be completed.
    pub fn write(&self, headers: &mut [u8], header: &Header, frame_len: usize) {
        let (below, tcp) = headers.split_at_mut(self.headers_len());
        below.copy_from_slice(&self.headers[..below.len()]);
        let ip = &mut below[ETHERNET_LEN..];
        match self.flow.version() {
            IpVersion::V4 => {
                let len = (frame_len - ETHERNET_LEN) as u16;
                ip[2..4].copy_from_slice(&len.to_be_bytes());
                checksum::complete_v4_header(ip);
            }
            IpVersion::V6 => {
                let len = (frame_len - ETHERNET_LEN - V6_LEN) as u16;
                ip[4..6].copy_from_slice(&len.to_be_bytes());
            }
        }
        tcp[..2].copy_from_slice(&self.flow.local.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.flow.peer.port().to_be_bytes());
        header.write(tcp);
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

    /// Sends a segment; the card cuts it if it has more than `mss` bytes. What is in shared buffers
    /// is read there, as far as the card takes so many of them; all is copied where the processor
    /// has to go through it anyway, for the checksum.
    pub fn send<P: FramePort>(
        &self,
        phy: &mut Phy<P>,
        header: &Header,
        payload: Parts<'_>,
        mss: usize,
    ) -> Result<(), TxFull> {
        let Phy { port, inserts, .. } = phy;
        let headers_len = self.headers_len() + header.len();
        let len = headers_len + payload.len();
        if !port.completes_checksums() {
            return port.transmit_with(len, inserts, &mut |frame| {
                self.fill(frame, headers_len, header, len, (payload.clone(), 0));
                checksum::complete(frame, &self.packet(len));
                None
            });
        }
        let written = sort_out(payload.clone(), headers_len, port.inserts_max(), inserts);
        let inserted = inserts.len();
        let cut = (len - headers_len > mss).then(|| Cut {
            version: self.flow.version(),
            headers_len: headers_len as u16,
            segment_len: mss as u16,
        });
        let sent = port.transmit_with(written, inserts, &mut |frame| {
            self.fill(frame, headers_len, header, len, (payload.clone(), inserted));
            let partial = checksum::prepare(frame, &self.packet(len));
            partial.map(|partial| crate::PartialChecksum { cut, ..partial })
        });
        inserts.clear();
        sent
    }

    /// Writes what is not inserted of a frame of `len` bytes: all but the first so many pieces of
    /// shared bytes.
    fn fill(
        &self,
        frame: &mut [u8],
        headers_len: usize,
        header: &Header,
        len: usize,
        (payload, inserted): (Parts<'_>, usize),
    ) {
        let (headers, body) = frame.split_at_mut(headers_len);
        self.write(headers, header, len);
        if !body.is_empty() {
            copy(payload, inserted, body);
        }
    }
}

/// Says how many bytes of a frame are to be written; of shared ones, the first `most` pieces are
/// not, but are inserted.
fn sort_out(payload: Parts<'_>, headers: usize, most: usize, inserts: &mut Vec<Insert>) -> usize {
    let mut written = headers;
    for part in payload {
        match part {
            Part::Shared(slice, from, len) if inserts.len() < most => {
                inserts.push(Insert { at: written, bytes: slice.part(from, len) });
            }
            part => written += part.as_slice().len(),
        }
    }
    written
}

/// Writes what is not among the first `inserted` pieces of shared bytes.
fn copy(payload: Parts<'_>, mut inserted: usize, out: &mut [u8]) {
    let mut rest = out;
    for part in payload {
        if inserted > 0 && matches!(part, Part::Shared(..)) {
            inserted -= 1;
            continue;
        }
        let (here, behind) = rest.split_at_mut(part.as_slice().len());
        here.copy_from_slice(part.as_slice());
        rest = behind;
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
