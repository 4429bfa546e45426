//! PDUs as bytes (NVMe/TCP transport specification 1.0, §3.6), written down independently of the
//! target's own layouts, and easy to spoil afterwards.

/// Initialize Connection Request.
pub const IC_REQ: u8 = 0x00;
/// Initialize Connection Response.
pub const IC_RESP: u8 = 0x01;
/// The host terminates the connection.
pub const H2C_TERM_REQ: u8 = 0x02;
/// The controller terminates the connection.
pub const C2H_TERM_REQ: u8 = 0x03;
/// Command capsule.
pub const CAPSULE_CMD: u8 = 0x04;
/// Response capsule.
pub const CAPSULE_RESP: u8 = 0x05;
/// Data from the host.
pub const H2C_DATA: u8 = 0x06;
/// Data to the host.
pub const C2H_DATA: u8 = 0x07;
/// Ready to transfer.
pub const R2T: u8 = 0x09;

/// Flag: a header digest follows the header.
pub const HEADER_DIGEST: u8 = 1 << 0;
/// Flag: a data digest follows the data.
pub const DATA_DIGEST: u8 = 1 << 1;
/// Flag: the last data PDU of its transfer.
pub const LAST: u8 = 1 << 2;
/// Flag: the command succeeded, and no response capsule follows.
pub const SUCCESS: u8 = 1 << 3;

/// Length of an ICReq, bytes.
pub const IC_LEN: u8 = 128;
/// Header length of a command capsule, bytes.
pub const CAPSULE_LEN: u8 = 72;
/// Header length of a data PDU, bytes.
pub const DATA_LEN: u8 = 24;

/// Overwrites two bytes at `at`.
pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Overwrites four bytes at `at`.
pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The two bytes at `at`.
#[must_use]
pub fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at`.
#[must_use]
pub fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A header of `hlen` bytes, zero but for the common part, which announces `data_len` bytes of
/// data right behind it.
#[must_use]
pub fn header(kind: u8, hlen: u8, data_len: usize) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(hlen)];
    bytes[0] = kind;
    bytes[2] = hlen;
    bytes[3] = if data_len == 0 { 0 } else { hlen };
    let plen = u32::try_from(data_len + usize::from(hlen)).unwrap_or(u32::MAX);
    put32(&mut bytes, 4, plen);
    bytes
}

/// An ICReq that wants nothing special.
#[must_use]
pub fn ic_req() -> Vec<u8> {
    header(IC_REQ, IC_LEN, 0)
}

/// A command capsule with its data.
#[must_use]
pub fn capsule(command: &[u8; 64], data: &[u8]) -> Vec<u8> {
    let mut bytes = header(CAPSULE_CMD, CAPSULE_LEN, data.len());
    bytes[8..].copy_from_slice(command);
    bytes.extend(data);
    bytes
}

/// Data for an R2T; `last` says whether it ends the transfer.
#[must_use]
pub fn h2c_data(cid: u16, ttag: u16, offset: u32, last: bool, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(H2C_DATA, DATA_LEN, data.len());
    bytes[1] = if last { LAST } else { 0 };
    put16(&mut bytes, 8, cid);
    put16(&mut bytes, 10, ttag);
    put32(&mut bytes, 12, offset);
    put32(&mut bytes, 16, u32::try_from(data.len()).unwrap_or(u32::MAX));
    bytes.extend(data);
    bytes
}

/// A PDU that was received: its header, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The header's bytes.
    pub header: Vec<u8>,
    /// The bytes behind it, padding left out.
    pub data: Vec<u8>,
}

impl Received {
    /// Its type, such as [`R2T`].
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn has(&self, flags: u8) -> bool {
        self.header[1] & flags == flags
    }
}
