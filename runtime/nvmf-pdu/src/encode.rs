use alloc::vec::Vec;

use super::wire::{CommonHeader, flags};
use super::{DIGEST_LEN, Digests, crc32c};

/// The common header of a PDU of that kind whose header has `hlen` bytes. `pdo` is where its
/// `data_len` bytes of data begin, 0 if it has none.
#[inline]
pub fn common_header(
    kind: u8,
    extra: u8,
    hlen: usize,
    (pdo, data_len): (usize, usize),
    digests: Digests,
) -> CommonHeader {
    let (header_flag, header_digest) =
        if digests.header { (flags::HEADER_DIGEST, DIGEST_LEN) } else { (0, 0) };
    let (data_flag, trailer) =
        if pdo != 0 && digests.data { (flags::DATA_DIGEST, DIGEST_LEN) } else { (0, 0) };
    let start = if pdo == 0 { hlen + header_digest } else { pdo };
    CommonHeader {
        kind,
        flags: extra | header_flag | data_flag,
        hlen: hlen as u8,
        pdo: pdo as u8,
        plen: ((start + data_len + trailer) as u32).into(),
    }
}

/// Appends a header and its digest, if there are any, to what is to be sent.
#[inline]
pub fn put_header(stage: &mut Vec<u8>, header: &[u8], digests: Digests) {
    stage.extend_from_slice(header);
    if digests.header {
        stage.extend_from_slice(&crc32c(header).to_le_bytes());
    }
}

/// Where data begins after a header of `hlen` bytes: behind its digest, at a multiple of `align`.
pub const fn data_offset(hlen: usize, digests: Digests, align: usize) -> usize {
    let prefix = hlen + if digests.header { DIGEST_LEN } else { 0 };
    prefix.next_multiple_of(align)
}
