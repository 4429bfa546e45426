use crc::{CRC_32_ISCSI, Digest, Table};

static CRC32C: crc::Crc<u32, Table<16>> = crc::Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// CRC-32C of `bytes`, as NVMe/TCP puts it on the wire (little-endian).
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes)
}

/// A CRC-32C over data that arrives or leaves in pieces.
#[derive(Clone)]
pub struct Crc(Digest<'static, u32, Table<16>>);

impl Crc {
    /// Over no bytes yet.
    pub fn new() -> Self {
        Self(CRC32C.digest())
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

impl Default for Crc {
    fn default() -> Self {
        Self::new()
    }
}
