//! Large sends: how smoltcp is brought to hand over many segments at once, which the card cuts, or
//! where it does not, the stack on the way to it.
//!
//! smoltcp never sends more than its device's MTU nor more than the peer's MSS at a time. So it is
//! told that the device takes packets of 64 KiB, and the MSS in the peer's SYN is raised likewise
//! before smoltcp sees it. What it announces of itself is corrected on the way out, and whatever is
//! longer than the MTU is cut at the true MSS: the peer's, where it is below ours and so remembered
//! here, or else ours. What goes over the wire is as before, packets no longer than the path takes.
//!
//! The MSS has no part in what smoltcp may send: it keeps within the peer's window by bytes, keeps
//! what is unacknowledged by bytes, and sends from the first of these again, which may as well be
//! many segments at once. Its congestion window (0.13) does not bound what is sent, with either
//! MSS.

use alloc::vec::Vec;

use crate::IpAddress;
use crate::checksum;
use crate::port::{Cut, FramePort, IpVersion, PartialChecksum};
use crate::wire::{ETHERNET_LEN, Ip, Segment, TCP_LEN_MIN, dhcp, protocol};

/// A smaller MSS is left as it is, or very many segments would be cut from one.
const MSS_MIN: usize = 536;
/// Segments as large as our MTU allows that the stack cuts a packet into, at most,
const CUT_HERE: usize = 8;
/// and any, for peers that take smaller ones.
const CUT_HERE_MAX: usize = 4 * CUT_HERE;
const PACKET_MAX: usize = 65_535;

/// A flow by the peer's address and port, and our port.
type Flow = (IpAddress, u16, u16);

/// What there is to know of large sends.
pub struct LargeSend {
    mtu: usize,
    /// Largest packets over IPv4 and IPv6 with a TCP segment.
    packet_max: [usize; 2],
    /// Whether the stack cuts them, and not the card.
    here: bool,
    /// A smaller MSS is left as it is.
    mss_min: usize,
    /// Flows whose peer takes less than our MTU allows, and its MSS; ordered.
    small: Vec<(Flow, u16)>,
    /// Most of them.
    small_max: usize,
}

impl LargeSend {
    /// For what `port` can cut, or else the stack, and at most `flows` connections.
    pub fn new(port: &mut impl FramePort, flows: usize) -> Self {
        let mtu = port.mtu();
        let versions = [IpVersion::V4, IpVersion::V6];
        let packet_max = versions.map(|version| port.large_send_max(version));
        let large = Self {
            mtu,
            packet_max,
            here: false,
            mss_min: MSS_MIN,
            small: Vec::new(),
            small_max: flows,
        };
        // A port that holds few frames would never have room for all segments.
        if large.is_used() || !port.can_transmit(2 * CUT_HERE_MAX) {
            return large;
        }
        let packet_max = versions.map(|version| {
            let (mss, headers) = (large.own_mss(version), mtu - large.own_mss(version));
            headers + mss * CUT_HERE.min((PACKET_MAX - headers) / mss)
        });
        let mss_min = MSS_MIN.max(mtu.div_ceil(CUT_HERE_MAX / CUT_HERE));
        Self { packet_max, here: true, mss_min, ..large }
    }

    /// Frames that the port has to have room for before smoltcp may send a packet.
    pub fn frames_max(&self) -> usize {
        if self.here { CUT_HERE_MAX } else { 1 }
    }

    /// Whether the stack may have to cut a frame of that length.
    #[inline]
    pub fn is_cut_here(&self, frame_len: usize) -> bool {
        self.here && self.may_be_large(frame_len)
    }

    /// Whether a frame of that length may have more than the peer takes.
    #[inline]
    fn may_be_large(&self, frame_len: usize) -> bool {
        frame_len > self.mtu + ETHERNET_LEN || !self.small.is_empty() && frame_len > self.mss_min
    }

    /// Largest packet that smoltcp may make.
    pub fn packet_max(&self) -> usize {
        self.mtu.max(self.packet_max[0]).max(self.packet_max[1])
    }

    /// Whether anything is cut.
    pub fn is_used(&self) -> bool {
        self.packet_max() > self.mtu
    }

    /// Makes `out` the frame with a SYN from the peer as smoltcp is to see it. The caller vouches
    /// that it begins a connection, as no other SYN may change what is known of one. Does nothing
    /// if the frame can stay as it is. `is_alive` says of flows whether they still are.
    pub fn present(
        &mut self,
        frame: &[u8],
        segment: &Segment,
        is_alive: impl Fn(IpAddress, u16, u16) -> bool,
        out: &mut Vec<u8>,
    ) {
        let flow = (segment.ip.source, segment.source_port, segment.destination_port);
        let known = self.small.binary_search_by_key(&flow, |(flow, _)| *flow);
        if let Ok(at) = known {
            self.small.remove(at); // Of an earlier connection.
        }
        let Some(at) = segment.mss_at(frame) else { return };
        let mss = usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let own = self.own_mss(segment.ip.version());
        let packet_max = self.packet_max[segment.ip.version() as usize];
        let shown = if packet_max <= self.mtu {
            mss.min(own)
        } else if mss >= own || mss >= self.mss_min && self.remember(flow, mss as u16, is_alive) {
            packet_max - (self.mtu - own)
        } else {
            mss
        };
        if shown != mss {
            out.extend_from_slice(frame);
            out[at..at + 2].copy_from_slice(&(shown as u16).to_be_bytes());
        }
    }

    fn remember(
        &mut self,
        flow: Flow,
        mss: u16,
        is_alive: impl Fn(IpAddress, u16, u16) -> bool,
    ) -> bool {
        if self.small.len() >= self.small_max {
            self.small.retain(|&((peer, theirs, ours), _)| is_alive(peer, theirs, ours));
        }
        if self.small.len() >= self.small_max {
            return false;
        }
        let at = self.small.partition_point(|(known, _)| *known < flow);
        self.small.insert(at, (flow, mss));
        true
    }

    /// Finishes a frame that smoltcp wrote; gives what is left to the card.
    pub fn finish(&self, frame: &mut [u8], offload: bool) -> Option<PartialChecksum> {
        let ip = Ip::parse(frame)?;
        if self.is_used() && frame.len() <= self.mtu + ETHERNET_LEN {
            self.correct(frame, &ip);
        }
        if !offload {
            checksum::complete(frame, &ip);
            return None;
        }
        let is_large = !self.here && self.may_be_large(frame.len());
        let cut = if is_large { self.cut(frame) } else { None };
        checksum::prepare(frame, &ip).map(|partial| PartialChecksum { cut, ..partial })
    }

    /// Corrects what smoltcp announces as the most it receives at once.
    fn correct(&self, frame: &mut [u8], ip: &Ip) {
        let (at, most) = if ip.protocol == protocol::UDP {
            // As smoltcp has it: room for the longest header, and UDP's.
            (dhcp::message_size_at(frame, ip), self.mtu - 68)
        } else {
            let segment = Segment::of(frame, *ip).filter(Segment::is_syn);
            (segment.and_then(|segment| segment.mss_at(frame)), self.own_mss(ip.version()))
        };
        if let Some(at) = at {
            frame[at..at + 2].copy_from_slice(&(most as u16).to_be_bytes());
        }
    }

    /// How a frame is to be cut that has more than the peer takes.
    pub fn cut(&self, frame: &[u8]) -> Option<Cut> {
        let segment = Segment::parse(frame)?;
        let (version, payload) = (segment.ip.version(), segment.payload?);
        let flow = (segment.ip.destination, segment.destination_port, segment.source_port);
        let known = self.small.binary_search_by_key(&flow, |(flow, _)| *flow);
        let mss = known.map_or(self.own_mss(version), |at| self.small[at].1.into());
        // Options take their room from the payload (RFC 9293 §3.7.1).
        let options = payload - segment.ip.start - TCP_LEN_MIN;
        let segment_len = mss.saturating_sub(options) as u16;
        let is_large = segment.ip.end - payload > usize::from(segment_len);
        is_large.then_some(Cut { version, headers_len: payload as u16, segment_len })
    }

    /// The most payload that our MTU allows.
    fn own_mss(&self, version: IpVersion) -> usize {
        let header = match version {
            IpVersion::V4 => 20,
            IpVersion::V6 => 40,
        };
        self.mtu - header - TCP_LEN_MIN
    }
}
