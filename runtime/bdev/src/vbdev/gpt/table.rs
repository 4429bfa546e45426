//! GUID partition tables (UEFI 2.10 §5.3).

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crc::{CRC_32_ISO_HDLC, Crc};

use crate::uuid::Uuid;

/// Where the first header is, behind the protective MBR.
pub(super) const FIRST_HEADER: u64 = 1;
/// Bytes of a header that are defined.
const HEADER_LEN: usize = 92;
/// Least bytes of an entry.
const ENTRY_LEN: usize = 128;
/// Most bytes of all entries together; the usual table has 16 KiB.
const ENTRIES_LEN_MAX: u64 = 1 << 20;

/// A header, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Where the other header is.
    pub(super) alternate: u64,
    first_usable: u64,
    last_usable: u64,
    /// First block of the entries.
    pub(super) entries: u64,
    /// Blocks of the entries.
    pub(super) entries_blocks: u64,
    count: u32,
    entry_len: u32,
    entries_crc: u32,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Partition {
    /// Its number, from 1.
    pub(super) number: u32,
    pub(super) kind: Uuid,
    pub(super) unique: Uuid,
    pub(super) first: u64,
    pub(super) blocks: u64,
    pub(super) name: String,
}

impl Header {
    /// Reads the header in `block`, which is block `lba`. `None` if there is none, or it is
    /// damaged.
    pub(super) fn read(block: &[u8], lba: u64) -> Option<Self> {
        if !block.starts_with(b"EFI PART") {
            return None;
        }
        let len = u32_at(block, 12)? as usize;
        if len < HEADER_LEN || u64_at(block, 24)? != lba {
            return None;
        }
        let mut header = Vec::from(block.get(..len)?);
        // Its checksum is that of itself without it.
        header[16..20].fill(0);
        if crc32(&header) != u32_at(block, 16)? {
            return None;
        }
        let (count, entry_len) = (u32_at(block, 80)?, u32_at(block, 84)?);
        let entries_len = u64::from(count) * u64::from(entry_len);
        let header = Self {
            alternate: u64_at(block, 32)?,
            first_usable: u64_at(block, 40)?,
            last_usable: u64_at(block, 48)?,
            entries: u64_at(block, 72)?,
            entries_blocks: entries_len.div_ceil(block.len() as u64),
            count,
            entry_len,
            entries_crc: u32_at(block, 88)?,
        };
        let sane = header.entry_len as usize >= ENTRY_LEN
            && header.entry_len.is_power_of_two()
            && header.entries_len() > 0
            && header.entries_len() <= ENTRIES_LEN_MAX;
        sane.then_some(header)
    }

    /// Bytes of all entries together.
    pub(super) fn entries_len(&self) -> u64 {
        u64::from(self.count) * u64::from(self.entry_len)
    }

    /// Whether those blocks are none of the first header's or of these entries.
    fn is_apart(&self, first: u64, last: u64) -> bool {
        let end = self.entries.saturating_add(self.entries_blocks);
        first > FIRST_HEADER && (first >= end || last < self.entries)
    }

    /// The partitions of a bdev of so many blocks, from its entries. `None` if they are damaged.
    ///
    /// An entry that does not lie where partitions may is left out.
    pub(super) fn partitions(&self, entries: &[u8], num_blocks: u64) -> Option<Vec<Partition>> {
        let entries = entries.get(..usize::try_from(self.entries_len()).ok()?)?;
        if crc32(entries) != self.entries_crc {
            return None;
        }
        let all = entries.chunks_exact(self.entry_len as usize).zip(1..);
        let is_inside = |partition: &Partition| {
            let last = partition.first + (partition.blocks - 1);
            partition.first >= self.first_usable
                && self.is_apart(partition.first, last)
                && last <= self.last_usable
                && last < num_blocks
        };
        Some(all.filter_map(|(entry, number)| partition(entry, number)).filter(is_inside).collect())
    }
}

impl Partition {
    /// Its blocks.
    pub(super) fn run(&self) -> Range<u64> {
        self.first..self.first + self.blocks
    }
}

/// The partition of an entry (§5.3.3), if it has one.
fn partition(entry: &[u8], number: u32) -> Option<Partition> {
    let kind = guid_at(entry, 0)?;
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    let blocks = last.checked_sub(first)?.checked_add(1)?;
    let units = entry.get(56..128)?.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let name = char::decode_utf16(units.take_while(|unit| *unit != 0));
    let name = name.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let unique = guid_at(entry, 16)?;
    (kind != [0; 16]).then_some(Partition { number, kind, unique, first, blocks, name })
}

/// A GUID as a UUID in network order: its first three fields are little-endian (UEFI appendix A).
fn guid_at(bytes: &[u8], at: usize) -> Option<Uuid> {
    let mut guid: [u8; 16] = *bytes.get(at..)?.first_chunk()?;
    guid[..4].reverse();
    guid[4..6].reverse();
    guid[6..8].reverse();
    Some(guid)
}

fn crc32(bytes: &[u8]) -> u32 {
    Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
