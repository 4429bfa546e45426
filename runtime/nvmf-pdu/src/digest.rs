use basalt_env::crc32c_update;
use crc::CRC_32_ISCSI;

/// For processors without an instruction for it.
static SOFTWARE: crc::Crc<u32> = crc::Crc::<u32>::new(&CRC_32_ISCSI);

/// CRC-32C of `bytes`, as NVMe/TCP puts it on the wire (little-endian).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.finish()
}

/// A CRC-32C over data that arrives or leaves in pieces: by the processor's instruction, where it
/// has one.
#[derive(Clone, Debug)]
pub struct Crc(u32);

impl Crc {
    /// Over no bytes yet.
    pub fn new() -> Self {
        Self(u32::MAX)
    }

    /// Adds `bytes`.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = crc32c_update(self.0, bytes).unwrap_or_else(|| software(self.0, bytes));
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> u32 {
        !self.0
    }
}

impl Default for Crc {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
fn software(crc: u32, bytes: &[u8]) -> u32 {
    // What it begins with is taken to be the other way round.
    let mut digest = SOFTWARE.digest_with_initial(crc.reverse_bits());
    digest.update(bytes);
    !digest.finalize()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_processors_instruction_and_software_agree_on_pieces_of_any_length() {
        let bytes: Vec<u8> = (0..700_u32).map(|n| ((n * n) >> 3) as u8).collect();
        for (start, end) in (0..16).flat_map(|start| (start..700).map(move |end| (start, end))) {
            let (one, other) = bytes[start..end].split_at((end - start) / 3);
            let by_software = !software(software(u32::MAX, one), other);
            let mut crc = Crc::new();
            crc.update(one);
            crc.update(other);
            assert_eq!(crc.finish(), by_software, "{start}..{end}");
        }
    }
}
