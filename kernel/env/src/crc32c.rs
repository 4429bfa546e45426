#![expect(unsafe_code, reason = "an instruction that not every processor has; DESIGN §5: kernel")]

use core::arch::x86_64::{__cpuid, _mm_crc32_u8, _mm_crc32_u64};
use core::sync::atomic::{AtomicU8, Ordering};

/// What is known of the processor: asking it is slow, in a virtual machine above all.
static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const PRESENT: u8 = 1;
const ABSENT: u8 = 2;

/// The register of a CRC-32C (polynomial 1EDC6F41h, reflected; RFC 3720 §12.1) after `bytes`, where
/// it was `crc` before them. It begins with all ones, and its complement is the CRC. `None` if the
/// processor has no instruction for it (SSE 4.2).
#[inline]
pub fn crc32c_update(crc: u32, bytes: &[u8]) -> Option<u32> {
    let known = KNOWN.load(Ordering::Relaxed);
    if known == ABSENT || known == UNKNOWN && !find_out() {
        return None;
    }
    // SAFETY: the processor has said that it has SSE 4.2, which is all that is asked of it.
    Some(unsafe { update(crc, bytes) })
}

#[cold]
fn find_out() -> bool {
    const SSE4_2: u32 = 1 << 20;
    let is_present = __cpuid(1).ecx & SSE4_2 != 0;
    KNOWN.store(if is_present { PRESENT } else { ABSENT }, Ordering::Relaxed);
    is_present
}

#[target_feature(enable = "sse4.2")]
fn update(crc: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let crc = words.fold(u64::from(crc), |crc, word| _mm_crc32_u64(crc, word)) as u32;
    rest.iter().fold(crc, |crc, byte| _mm_crc32_u8(crc, *byte))
}
