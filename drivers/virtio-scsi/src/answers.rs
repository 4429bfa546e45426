//! What a logical unit says of itself. Bytes that are missing are zeroes.

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, 1, 2, 3].map(|offset| byte(bytes, at + offset)))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// Standard INQUIRY data (SPC-4 §6.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// Whether it is a disk that is there.
    pub is_disk: bool,
    /// Vendor and product, as far as they are ASCII.
    pub vendor: [u8; 8],
    /// Product.
    pub product: [u8; 16],
}

impl Inquiry {
    /// Reads it.
    pub fn read(bytes: &[u8]) -> Self {
        // Connected, and a direct access block device.
        let is_disk = !bytes.is_empty() && byte(bytes, 0) == 0;
        Self {
            is_disk,
            vendor: core::array::from_fn(|at| byte(bytes, 8 + at)),
            product: core::array::from_fn(|at| byte(bytes, 16 + at)),
        }
    }
}

/// How large a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// How many blocks it has.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
}

impl Capacity {
    /// Bytes of READ CAPACITY(16)'s answer that matter.
    pub const LEN_16: usize = 32;
    /// Bytes of READ CAPACITY(10)'s answer.
    pub const LEN_10: usize = 8;

    /// Reads what READ CAPACITY(16) gave (SBC-3 §5.16.2).
    pub fn read_16(bytes: &[u8]) -> Self {
        Self { blocks: be64(bytes, 0).saturating_add(1), block_size: be32(bytes, 8) }
    }

    /// Reads what READ CAPACITY(10) gave (SBC-3 §5.15.2).
    pub fn read_10(bytes: &[u8]) -> Self {
        Self { blocks: u64::from(be32(bytes, 0)) + 1, block_size: be32(bytes, 4) }
    }
}

/// The page of vital product data Block Limits (SBC-3 §6.6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockLimits {
    /// Most blocks of one UNMAP; 0 if there is no such command or no limit is given.
    pub unmap_max: u32,
    /// Most blocks of one transfer; 0 if there is no limit.
    pub transfer_max: u32,
}

impl BlockLimits {
    /// Reads it.
    pub fn read(bytes: &[u8]) -> Self {
        Self { unmap_max: be32(bytes, 20), transfer_max: be32(bytes, 8) }
    }
}

/// The page of vital product data Logical Block Provisioning (SBC-3 §6.6.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provisioning {
    /// Whether there is an UNMAP command.
    pub has_unmap: bool,
}

impl Provisioning {
    /// Reads it.
    pub fn read(bytes: &[u8]) -> Self {
        Self { has_unmap: byte(bytes, 5) & 0x80 != 0 }
    }
}

/// The page of vital product data Unit Serial Number (SPC-4 §7.8.15), without blanks around it.
pub fn serial_number(page: &[u8]) -> &[u8] {
    let len = usize::from(byte(page, 3));
    let text = page.get(4..).unwrap_or(&[]);
    text[..len.min(text.len())].trim_ascii()
}
