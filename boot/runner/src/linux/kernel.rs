//! Unpacks the kernel. Entered as an ELF file it boots some seconds earlier under emulation than
//! when it has to unpack itself.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// Start of a payload packed by `lz4 -l`, as Debian's kernels are.
const LZ4_LEGACY_MAGIC: [u8; 4] = 0x184c_2102_u32.to_le_bytes();
const BLOCK_MAX: usize = 8 << 20;

/// The kernel below `root` as an ELF file, or as it is if it is packed in another way.
pub(super) fn extract(root: &Path) -> anyhow::Result<Vec<u8>> {
    let boot = root.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("no {}", boot.display()))?;
    let kernel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("/vmlinuz-"))
        .context("the kernel's package has no vmlinuz")?;
    let packed = fs::read(&kernel)?;
    let payload = payload(&packed).context("vmlinuz is cut off")?;
    match payload.strip_prefix(&LZ4_LEGACY_MAGIC) {
        Some(blocks) => unpack_lz4(blocks),
        None => Ok(packed),
    }
}

/// The packed kernel inside a bzImage (Linux `arch/x86/boot`: setup_sects, payload_offset and
/// payload_length).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    let sectors = usize::from(*image.get(0x1f1)?);
    let start = (sectors + 1) * 512 + word(0x248)? as usize;
    image.get(start..)?.get(..word(0x24c)? as usize)
}

/// Blocks with their packed sizes before them; four bytes with the unpacked size may follow.
fn unpack_lz4(mut blocks: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((size, rest)) = blocks.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        let Some((block, rest)) = rest.split_at_checked(size) else { break };
        let before = all.len();
        unpack_block(block, &mut all)?;
        ensure!(all.len() - before <= BLOCK_MAX, "an oversized block in the kernel");
        blocks = rest;
    }
    ensure!(all.starts_with(b"\x7fELF"), "what is in vmlinuz is no ELF file");
    Ok(all)
}

/// One block: literals and copies of what was unpacked before, in turn.
fn unpack_block(mut block: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
    let start = out.len();
    while let Some((token, rest)) = block.split_first() {
        block = rest;
        let literals = length(usize::from(token >> 4), &mut block)?;
        let (plain, rest) = block.split_at_checked(literals).context("literals are cut off")?;
        out.extend(plain);
        // The last sequence has literals only.
        let Some((offset, rest)) = rest.split_first_chunk::<2>() else { return Ok(()) };
        block = rest;
        let count = length(usize::from(token & 15), &mut block)? + 4;
        let offset = usize::from(u16::from_le_bytes(*offset));
        if offset == 0 || offset > out.len() - start {
            bail!("a copy from before its block");
        }
        let from = out.len() - offset;
        for at in from..from + count {
            out.push(out[at]);
        }
    }
    Ok(())
}

/// A length of four bits, continued by bytes while they are 255.
fn length(first: usize, block: &mut &[u8]) -> anyhow::Result<usize> {
    let mut length = first;
    let mut more = first == 15;
    while more {
        let (byte, rest) = block.split_first().context("a length is cut off")?;
        length += usize::from(*byte);
        more = *byte == 255;
        *block = rest;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_overlapping_copies_are_unpacked() {
        let mut out = Vec::new();
        // "ab", then 4 + 3 bytes from 2 before, then the last literal.
        unpack_block(&[0x23, b'a', b'b', 2, 0, 0x10, b'!'], &mut out).unwrap();
        assert_eq!(out, b"abababab a!".iter().filter(|b| **b != b' ').copied().collect::<Vec<_>>());
    }

    #[test]
    fn long_lengths_are_continued() {
        let mut block = vec![0xf0, 255, 10];
        block.extend([7; 280]);
        let mut out = Vec::new();
        unpack_block(&block, &mut out).unwrap();
        assert_eq!(out, [7; 280]);
    }

    #[test]
    fn broken_blocks_are_refused() {
        for block in [&[0x20, 1][..], &[0xf0, 255], &[0x10, 1, 9, 0, 0], &[0x10, 1, 0, 0, 0]] {
            assert!(unpack_block(block, &mut Vec::new()).is_err(), "{block:?}");
        }
    }
}
