//! Making, printing and reading UUIDs (RFC 9562).

use alloc::format;
use alloc::string::String;

/// A UUID as 16 bytes in network order.
pub type Uuid = [u8; 16];

/// A version 8 UUID (RFC 9562 §5.8) made of a hash of `parts`: equal parts give equal UUIDs.
///
/// There is no random source this early in a machine without an operating system. Whoever needs a
/// UUID that no other machine makes puts something of the machine into the parts: a serial number,
/// a MAC address, a time stamp.
pub fn derive(parts: &[&[u8]]) -> Uuid {
    let mut hash = FNV_BASIS;
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash = fnv1a(hash, &(part.len() as u64).to_le_bytes());
        hash = fnv1a(hash, part);
    }
    let mut uuid = hash.to_be_bytes();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// 128-bit FNV-1a (draft-eastlake-fnv §5): not cryptographic, only well spread.
fn fnv1a(mut hash: u128, bytes: &[u8]) -> u128 {
    for byte in bytes {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(FNV_PRIME);
    }
    hash
}

const FNV_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// The usual text form, in lower case: `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub fn format(uuid: &Uuid) -> String {
    let n = u128::from_be_bytes(*uuid);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        n >> 96,
        (n >> 80) & 0xffff,
        (n >> 64) & 0xffff,
        (n >> 48) & 0xffff,
        n & 0xffff_ffff_ffff
    )
}

/// Reads the usual text form, in either case.
pub fn parse(text: &str) -> Option<Uuid> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|dash| bytes[*dash] != b'-') {
        return None;
    }
    let mut value = 0_u128;
    let mut digits = 0;
    for byte in bytes.iter().filter(|byte| **byte != b'-') {
        value = value << 4 | u128::from((*byte as char).to_digit(16)?);
        digits += 1;
    }
    (digits == 32).then(|| value.to_be_bytes())
}
