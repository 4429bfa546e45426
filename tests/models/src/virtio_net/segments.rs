//! What a card does to TCP segments: completes checksums, cuts large ones, joins small ones
//! (virtio 1.2 §5.1.6.2 and §5.1.6.4).

use super::{HEADER_LEN, feature};

const ETHERNET_LEN: usize = 14;
/// Flags of the header.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
/// What a large segment is in.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// TCP control bits that end a segment, and the one that every segment has.
const FIN_PSH: u8 = 0x09;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
/// Where TCP has its checksum.
const TCP_CHECKSUM: usize = 16;
/// Largest IP packet.
const PACKET_MAX: usize = 65_535;

/// Where the parts of a TCP segment are in a frame.
#[derive(Clone, Copy)]
struct Layout {
    gso: u8,
    tcp: usize,
    payload: usize,
}

impl Layout {
    fn of(frame: &[u8]) -> Option<Self> {
        let (gso, tcp) = match frame.get(12..14)? {
            [8, 0] if *frame.get(23)? == 6 => {
                (GSO_TCPV4, ETHERNET_LEN + 4 * usize::from(frame[14] & 0xf))
            }
            [0x86, 0xdd] if *frame.get(20)? == 6 => (GSO_TCPV6, ETHERNET_LEN + 40),
            _ => return None,
        };
        let payload = tcp + 4 * usize::from(frame.get(tcp + 12)? >> 4);
        (tcp + 20..=frame.len()).contains(&payload).then_some(Self { gso, tcp, payload })
    }

    /// The addresses, which checksums cover.
    fn addresses(self) -> core::ops::Range<usize> {
        if self.gso == GSO_TCPV4 { 26..34 } else { 22..54 }
    }

    /// Writes lengths and checksums anew.
    fn finish(self, frame: &mut [u8]) {
        let len = frame.len();
        if self.gso == GSO_TCPV4 {
            put(frame, 16, len - ETHERNET_LEN);
            put(frame, 24, 0);
            let checksum = !folded(&frame[ETHERNET_LEN..self.tcp]);
            put(frame, 24, checksum.into());
        } else {
            put(frame, 18, len - ETHERNET_LEN - 40);
        }
        put(frame, self.tcp + TCP_CHECKSUM, self.pseudo_header(frame).into());
        let checksum = !folded(&frame[self.tcp..]);
        put(frame, self.tcp + TCP_CHECKSUM, checksum.into());
    }

    fn pseudo_header(self, frame: &[u8]) -> u16 {
        let len = ((frame.len() - self.tcp) as u16).to_be_bytes();
        folded(&[&frame[self.addresses()], &[0, 6, len[0], len[1]]].concat())
    }
}

/// The frames that go out for what a driver sent, header first. `None` if it broke a rule.
pub fn outgoing(bytes: &[u8], agreed: u64, frame_max: usize) -> Option<Vec<Vec<u8>>> {
    let (header, frame) = bytes.split_at_checked(HEADER_LEN)?;
    let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (flags, gso, header_len, size) = (header[0], header[1], half(2), half(4));
    let (start, offset) = (half(6), half(8));
    let completes = flags & NEEDS_CSUM != 0;
    if completes && (agreed & feature::CSUM == 0 || start + offset + 2 > frame.len()) {
        return None;
    }
    if gso == GSO_NONE {
        let mut frame = frame.to_vec();
        if completes {
            let checksum = !folded(&frame[start..]);
            put(&mut frame, start + offset, checksum.into());
        }
        return (frame.len() <= frame_max).then(|| vec![frame]);
    }
    let layout = Layout::of(frame)?;
    let needed = if layout.gso == GSO_TCPV4 { feature::HOST_TSO4 } else { feature::HOST_TSO6 };
    let told = gso == layout.gso
        && completes
        && (start, offset) == (layout.tcp, TCP_CHECKSUM)
        && half_at(frame, layout.tcp + TCP_CHECKSUM) == layout.pseudo_header(frame)
        && header_len >= layout.payload;
    let fits = size > 0 && layout.payload + size <= frame_max;
    (agreed & needed != 0 && told && fits).then(|| cut(frame, layout, size))
}

/// Segments of `size` bytes out of a large one.
fn cut(frame: &[u8], layout: Layout, size: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = frame.split_at(layout.payload);
    let count = payload.len().div_ceil(size);
    let sequence = sequence(frame, layout);
    let one = |(index, part): (usize, &[u8])| {
        let mut segment = [headers, part].concat();
        let sequence = sequence.wrapping_add((index * size) as u32);
        segment[layout.tcp + 4..][..4].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 < count {
            segment[layout.tcp + 13] &= !FIN_PSH;
        }
        layout.finish(&mut segment);
        segment
    };
    payload.chunks(size).enumerate().map(one).collect()
}

/// Adds a segment's payload to the one before it, where the driver takes large ones and the two
/// are of one flow, without a gap and with nothing to say in between.
pub fn join(frame: &mut Vec<u8>, next: &[u8], agreed: u64) -> bool {
    let (Some(layout), Some(other)) = (Layout::of(frame), Layout::of(next)) else { return false };
    let needed = if layout.gso == GSO_TCPV4 { feature::GUEST_TSO4 } else { feature::GUEST_TSO6 };
    let len = frame.len() - layout.payload;
    let follows = sequence(next, other) == sequence(frame, layout).wrapping_add(len as u32);
    let same = layout.gso == other.gso
        && layout.payload == other.payload
        && frame[layout.addresses()] == next[layout.addresses()]
        // Ports; then acknowledgement and offset, and window and options, as no checksum is.
        && frame[layout.tcp..][..4] == next[layout.tcp..][..4]
        && frame[layout.tcp + 8..][..5] == next[layout.tcp + 8..][..5]
        && frame[layout.tcp + 14..][..2] == next[layout.tcp + 14..][..2]
        && frame[layout.tcp + 20..layout.payload] == next[layout.tcp + 20..layout.payload];
    let plain = same && frame[layout.tcp + 13] == ACK && next[layout.tcp + 13] & !PSH == ACK;
    let total = frame.len() + next.len() - other.payload - ETHERNET_LEN;
    let fits = len > 0 && next.len() > other.payload && total <= PACKET_MAX;
    if agreed & needed == 0 || !(follows && plain && fits) {
        return false;
    }
    frame.extend_from_slice(&next[other.payload..]);
    frame[layout.tcp + 13] |= next[layout.tcp + 13];
    layout.finish(frame);
    true
}

/// The header before a frame that is received.
pub fn incoming(frame: &[u8], agreed: u64, mtu: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    if agreed & feature::GUEST_CSUM == 0 {
        return header;
    }
    header[0] = DATA_VALID;
    let large = frame.len() > mtu + ETHERNET_LEN;
    if let Some(layout) = Layout::of(frame).filter(|_| large) {
        header[1] = layout.gso;
        header[2..4].copy_from_slice(&(layout.payload as u16).to_le_bytes());
        let size = mtu + ETHERNET_LEN - layout.payload;
        header[4..6].copy_from_slice(&(size as u16).to_le_bytes());
    }
    header
}

fn sequence(frame: &[u8], layout: Layout) -> u32 {
    u32::from(half_at(frame, layout.tcp + 4)) << 16 | u32::from(half_at(frame, layout.tcp + 6))
}

fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

/// The ones' complement sum of 16-bit words.
fn folded(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}
