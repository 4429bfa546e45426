//! The TCP header (RFC 9293 §3.1) and its options: maximum segment size (§3.7.1), window scale
//! (RFC 7323 §2), selective acknowledgements (RFC 2018).

use super::seq::{Seq, Span};
use crate::wire::{TCP_LEN_MIN, TcpFlags};

/// Most blocks that a selective acknowledgement has room for.
pub const BLOCKS_MAX: usize = 4;
/// A peer that names none takes segments of so many bytes (RFC 9293 §3.7.1), over IPv4.
pub const MSS_DEFAULT: u16 = 536;
/// Windows are scaled by no more than that (RFC 7323 §2.3).
const SHIFT_MAX: u8 = 14;

/// Kinds of options.
mod kind {
    pub const END: u8 = 0;
    pub const NOTHING: u8 = 1;
    pub const MSS: u8 = 2;
    pub const WINDOW_SCALE: u8 = 3;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 5;
}

/// What a SYN says of its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Largest segment it takes, bytes without headers.
    pub mss: Option<u16>,
    /// How far it shifts the windows it announces, if it knows of that.
    pub shift: Option<u8>,
    /// Whether it understands selective acknowledgements.
    pub sack: bool,
}

/// Blocks that arrived apart from the rest, the latest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Blocks {
    blocks: [Option<Span>; BLOCKS_MAX],
}

impl Blocks {
    /// Adds one, if there is room.
    pub fn push(&mut self, span: Span) {
        if let Some(free) = self.blocks.iter_mut().find(|block| block.is_none()) {
            *free = Some(span);
        }
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = Span> {
        self.blocks.iter().flatten().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks[0].is_none()
    }
}

/// What a segment says besides its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Of its first byte, or its SYN.
    pub seq: Seq,
    /// The byte it expects next; with ACK.
    pub ack: Seq,
    /// Control bits.
    pub flags: TcpFlags,
    /// As it is on the wire, unscaled.
    pub window: u16,
    /// With SYN.
    pub offer: Offer,
    /// Blocks that it acknowledges.
    pub blocks: Blocks,
}

impl Header {
    /// One without options.
    pub fn plain(seq: Seq, ack: Seq, flags: TcpFlags, window: u16) -> Self {
        let (offer, blocks) = (Offer::default(), Blocks::default());
        Self { seq, ack, flags, window, offer, blocks }
    }

    /// Parses a header, options and all. Options that are not understood or malformed are passed
    /// over, and with the latter what follows.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.first_chunk::<TCP_LEN_MIN>()?;
        let be32 = |at: usize| {
            Seq(u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]))
        };
        let mut header = Self {
            seq: be32(4),
            ack: be32(8),
            flags: TcpFlags::from_bits_truncate(fixed[13]),
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            offer: Offer::default(),
            blocks: Blocks::default(),
        };
        if bytes.len() > TCP_LEN_MIN {
            header.parse_options(&bytes[TCP_LEN_MIN..]);
        }
        Some(header)
    }

    #[cold]
    fn parse_options(&mut self, mut options: &[u8]) {
        while let [first, ref rest @ ..] = *options {
            options = match first {
                kind::END => return,
                kind::NOTHING => rest,
                _ => {
                    let [len, ..] = *rest else { return };
                    let Some((option, rest)) = options.split_at_checked(len.into()) else { return };
                    let [_, _, ref value @ ..] = *option else { return };
                    self.parse_option(first, value);
                    rest
                }
            };
        }
    }

    fn parse_option(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (kind::MSS, &[high, low]) => {
                self.offer.mss = Some(u16::from_be_bytes([high, low]));
            }
            (kind::WINDOW_SCALE, &[shift]) => self.offer.shift = Some(shift.min(SHIFT_MAX)),
            (kind::SACK_PERMITTED, &[]) => self.offer.sack = true,
            (kind::SACK, blocks) => {
                for edges in blocks.as_chunks::<8>().0 {
                    let [a, b, c, d, e, f, g, h] = *edges;
                    let start = Seq(u32::from_be_bytes([a, b, c, d]));
                    let end = Seq(u32::from_be_bytes([e, f, g, h]));
                    self.blocks.push(Span { start, end });
                }
            }
            _ => {}
        }
    }

    /// Bytes of the header.
    pub fn len(&self) -> usize {
        let offer = if self.flags.contains(TcpFlags::SYN) { self.offer.len() } else { 0 };
        let blocks = self.blocks.iter().count();
        TCP_LEN_MIN + offer + if blocks > 0 { 4 + 8 * blocks } else { 0 }
    }

    /// Writes everything but ports and checksum into a header of [`Self::len`] bytes.
    pub fn write(&self, bytes: &mut [u8]) {
        let words = (bytes.len() / 4) as u8;
        bytes[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        bytes[12..14].copy_from_slice(&[words << 4, self.flags.bits()]);
        bytes[14..16].copy_from_slice(&self.window.to_be_bytes());
        bytes[16..20].fill(0);
        if bytes.len() == TCP_LEN_MIN {
            return;
        }
        let mut options = &mut bytes[TCP_LEN_MIN..];
        if self.flags.contains(TcpFlags::SYN) {
            self.offer.write(&mut options);
        }
        if self.blocks.is_empty() {
            return;
        }
        let len = 2 + 8 * self.blocks.iter().count() as u8;
        put(&mut options, &[kind::NOTHING, kind::NOTHING, kind::SACK, len]);
        for Span { start, end } in self.blocks.iter() {
            put(&mut options, &start.0.to_be_bytes());
            put(&mut options, &end.0.to_be_bytes());
        }
    }
}

impl Offer {
    fn len(&self) -> usize {
        4 * (usize::from(self.mss.is_some())
            + usize::from(self.shift.is_some())
            + usize::from(self.sack))
    }

    /// Each is padded to a whole word.
    fn write(&self, options: &mut &mut [u8]) {
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            put(options, &[kind::MSS, 4, high, low]);
        }
        if let Some(shift) = self.shift {
            put(options, &[kind::NOTHING, kind::WINDOW_SCALE, 3, shift]);
        }
        if self.sack {
            put(options, &[kind::NOTHING, kind::NOTHING, kind::SACK_PERMITTED, 2]);
        }
    }
}

/// Writes `bytes` at the start of `out` and leaves the rest of it. There is room, by
/// [`Header::len`].
fn put(out: &mut &mut [u8], bytes: &[u8]) {
    let whole = core::mem::take(out);
    let Some((head, rest)) = whole.split_at_mut_checked(bytes.len()) else { return };
    head.copy_from_slice(bytes);
    *out = rest;
}
