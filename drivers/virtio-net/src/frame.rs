use alloc::vec::Vec;
use core::fmt;

use basalt_env::Parcel;

use crate::layout::header;

/// What is known about the TCP or UDP checksum of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumState {
    /// Nothing: it must be verified.
    Unverified,
    /// The device vouches for the data. The checksum field itself may be unfinished.
    Good,
}

/// A checksum for the device to complete: the ones' complement sum from `start` to the end of the
/// frame goes, complemented, to `start + offset`, where the pseudo-header's sum already is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialChecksum {
    /// First byte that is summed, from the start of the frame.
    pub start: u16,
    /// Where the checksum goes, from `start`.
    pub offset: u16,
    /// For a TCP segment that is to be cut first; its pseudo-header's sum covers all of it.
    pub cut: Option<Cut>,
}

/// How a device is to cut a large TCP segment (virtio 1.2 §5.1.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// What it is in.
    pub version: IpVersion,
    /// Bytes of all headers, which every piece gets.
    pub headers_len: u16,
    /// Payload of each piece but the last, bytes.
    pub segment_len: u16,
}

/// A version of the Internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A received frame, Ethernet header first. It can be read on any core. Give it back with
/// [`crate::VirtioNet::recycle`]; one that is dropped instead costs the device a receive buffer for
/// good.
pub struct Frame {
    pub(crate) body: Body,
    pub(crate) checksum: ChecksumState,
}

pub(crate) enum Body {
    /// In the buffer the device wrote; this many bytes after the header.
    Single(Parcel, usize),
    /// In several, and so many bytes in all.
    Several(Vec<Part>, usize),
}

/// A buffer with a part of a frame.
pub(crate) struct Part {
    pub(crate) buf: Parcel,
    /// Where the part begins in the buffer, and behind its end.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Part {
    fn as_slice(&self) -> &[u8] {
        self.buf.as_slice().get(self.from..self.to).unwrap_or_default()
    }
}

impl Frame {
    /// Its bytes up to the end of the first buffer, which is large enough for all headers.
    #[inline]
    pub fn head(&self) -> &[u8] {
        match &self.body {
            Body::Single(buf, len) => {
                buf.as_slice().get(header::LEN..header::LEN + len).unwrap_or_default()
            }
            Body::Several(parts, _) => parts.first().map(Part::as_slice).unwrap_or_default(),
        }
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Single(_, len) | Body::Several(_, len) => *len,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes from `at` on, up to the end of the buffer they are in; none behind its end.
    #[inline]
    pub fn from(&self, at: usize) -> &[u8] {
        match &self.body {
            Body::Single(..) => self.head().get(at..).unwrap_or_default(),
            Body::Several(parts, _) => {
                let mut at = at;
                for part in parts {
                    let bytes = part.as_slice();
                    if at < bytes.len() {
                        return &bytes[at..];
                    }
                    at -= bytes.len();
                }
                &[]
            }
        }
    }

    /// What is known about its checksum.
    pub fn checksum(&self) -> ChecksumState {
        self.checksum
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes, {:?})", self.len(), self.checksum)
    }
}
