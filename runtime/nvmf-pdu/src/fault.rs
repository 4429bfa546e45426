use core::fmt;

use zerocopy::IntoBytes;

use super::wire::{CommonHeader, HEADER_MAX, TermReq};

/// Fatal error status of a termination request (§3.6.2.5, FES).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum FaultKind {
    /// A header field has an invalid value; the information is its byte offset.
    InvalidHeaderField = 1,
    /// A PDU that must not come now.
    Sequence = 2,
    /// The header digest does not match; the information is the digest received.
    HeaderDigest = 3,
    /// Data outside what was asked for.
    DataOutOfRange = 4,
    /// More data than the limits announced allow.
    DataLimit = 5,
    /// A parameter that is not supported; the information is its byte offset.
    Unsupported = 6,
}

impl FaultKind {
    /// The names that faults are counted under.
    pub const NAMES: [&'static str; 6] = [
        "nvmf_pdu_header_field",
        "nvmf_pdu_sequence",
        "nvmf_pdu_header_digest",
        "nvmf_pdu_data_range",
        "nvmf_pdu_data_limit",
        "nvmf_pdu_unsupported",
    ];

    /// Position in [`Self::NAMES`].
    pub const fn index(self) -> usize {
        self as usize - 1
    }
}

/// A violation of the protocol that ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// Fatal error information (FEI).
    pub info: u32,
}

impl Fault {
    /// A fault without information.
    pub const fn new(kind: FaultKind) -> Self {
        Self { kind, info: 0 }
    }

    /// An invalid value in the header field at `offset` bytes.
    pub const fn field(offset: usize) -> Self {
        Self { kind: FaultKind::InvalidHeaderField, info: offset as u32 }
    }

    /// An unsupported value in the header field at `offset` bytes.
    pub const fn unsupported(offset: usize) -> Self {
        Self { kind: FaultKind::Unsupported, info: offset as u32 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::InvalidHeaderField => {
                write!(f, "invalid PDU header field at byte {}", self.info)
            }
            FaultKind::Sequence => f.write_str("PDU out of sequence"),
            FaultKind::HeaderDigest => f.write_str("wrong header digest"),
            FaultKind::DataOutOfRange => f.write_str("data outside the transfer"),
            FaultKind::DataLimit => f.write_str("more data than announced limits allow"),
            FaultKind::Unsupported => {
                write!(f, "unsupported parameter at byte {} of the PDU", self.info)
            }
        }
    }
}

/// Builds a termination request of that `kind` for `fault` with a copy of the offending `header`
/// (at most 128 bytes of it). Gives the buffer and how many bytes of it to send.
pub fn term_request(
    kind: u8,
    fault: Fault,
    header: &[u8],
) -> ([u8; size_of::<TermReq>() + HEADER_MAX], usize) {
    let header = &header[..header.len().min(HEADER_MAX)];
    let hlen = size_of::<TermReq>();
    let plen = hlen + header.len();
    let request = TermReq {
        common: CommonHeader {
            kind,
            flags: 0,
            hlen: hlen as u8,
            pdo: 0,
            plen: (plen as u32).into(),
        },
        fes: (fault.kind as u16).into(),
        fei: fault.info.into(),
        reserved: [0; 10],
    };
    let mut bytes = [0; size_of::<TermReq>() + HEADER_MAX];
    bytes[..hlen].copy_from_slice(request.as_bytes());
    bytes[hlen..plen].copy_from_slice(header);
    (bytes, plen)
}
