//! How a configuration lies in its partition, without any I/O.
//!
//! The partition has two slots, of which each has a header, in a unit of its own, and a text:
//!
//! ```text
//!   header 0 | header 1 | text 0 … | text 1 …
//! ```
//!
//! The slot with the greater generation counts. A save writes the other one, its text first, and
//! then the block with the header, which is what makes it count: a crash at any point leaves the
//! old configuration or the new one. Numbers are little-endian:
//!
//! | Bytes | Field |
//! |---|---|
//! | 0–7 | `BASALTCF` |
//! | 8–11 | version, 1 |
//! | 12–15 | bytes of the text; 0 if none is saved |
//! | 16–23 | generation, from 1 |
//! | 24–27 | CRC-32C of the text |
//! | 28–31, 32–35 | bytes and CRC-32C of the configuration that was handed over when it was saved |
//! | 36–59 | 0 |
//! | 60–63 | CRC-32C of the 60 bytes before |

#[cfg(test)]
mod tests;

use basalt_nvmf::pdu::crc32c;

/// Bytes of the unit that texts and headers are in, unless blocks are larger.
const UNIT: usize = 4096;
/// Most bytes of a text and its header: twice as much makes a partition of 1 MiB.
const SLOT_BYTES_MAX: usize = 512 << 10;
/// Bytes of a header.
const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"BASALTCF";
const VERSION: u32 = 1;

/// Where the slots of a partition are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    block_size: usize,
    /// Bytes of a unit.
    unit: usize,
    /// Bytes of a text, at most.
    text: usize,
}

impl Layout {
    /// That of a partition of so many blocks of `block_size` bytes, a power of two. `None` if it is
    /// too small: two slots need 16 KiB, and four blocks.
    pub fn new(num_blocks: u64, block_size: u32) -> Option<Self> {
        let block_size = block_size as usize;
        let unit = UNIT.max(block_size);
        let bytes = usize::try_from(num_blocks).ok()?.checked_mul(block_size)?;
        let slot = (bytes / 2).min(SLOT_BYTES_MAX.max(2 * unit)) / unit * unit;
        let text = slot.checked_sub(unit).filter(|text| *text > 0)?;
        Some(Self { block_size, unit, text })
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Bytes of both headers, which the partition begins with.
    pub fn headers_len(&self) -> usize {
        2 * self.unit
    }

    /// Where in these a slot's header is, bytes.
    pub fn header_at(&self, slot: Slot) -> usize {
        self.unit * slot as usize
    }

    /// The block with a slot's header.
    pub fn header_lba(&self, slot: Slot) -> u64 {
        (self.header_at(slot) / self.block_size) as u64
    }

    /// The first block of a slot's text.
    pub fn text_lba(&self, slot: Slot) -> u64 {
        ((self.headers_len() + self.text * slot as usize) / self.block_size) as u64
    }

    /// Most bytes of a text.
    pub fn text_len_max(&self) -> usize {
        self.text
    }
}

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// At the start of the partition.
    First = 0,
    /// Behind it.
    Second = 1,
}

impl Slot {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What tells a text from others: its length and its CRC-32C.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Bytes.
    pub len: u32,
    /// CRC-32C.
    pub crc: u32,
}

impl Mark {
    /// That of a text; one that is longer than any can be is as good as another.
    pub fn of(text: &[u8]) -> Self {
        Self { len: u32::try_from(text.len()).unwrap_or(u32::MAX), crc: crc32c(text) }
    }
}

/// What a slot's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// How many saves there have been.
    pub generation: u64,
    /// The saved text; without length if there is none.
    pub text: Mark,
    /// What was handed over to the machine that saved it.
    pub handed_over: Mark,
}

/// What a block was read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// A header.
    Header(Header),
    /// Something else: nothing was written here yet.
    Nothing,
    /// It was one, or is of a later version.
    Damaged,
}

impl Header {
    /// Reads a header from the start of `block`, in a partition that texts of so many bytes fit in.
    pub fn read(block: &[u8], text_len_max: usize) -> Read {
        let Some(bytes) = block.first_chunk::<HEADER_LEN>().filter(|it| it.starts_with(MAGIC))
        else {
            return Read::Nothing;
        };
        let word = |at: usize| {
            let word = bytes[at..].first_chunk();
            word.map_or(0, |word| u32::from_le_bytes(*word))
        };
        let generation = u64::from(word(20)) << 32 | u64::from(word(16));
        let text = Mark { len: word(12), crc: word(24) };
        let handed_over = Mark { len: word(28), crc: word(32) };
        let is_whole = word(60) == crc32c(&bytes[..60]);
        // No machine saves so often that it comes to the last generation.
        let is_sane = word(8) == VERSION
            && text.len as usize <= text_len_max
            && (1..u64::MAX).contains(&generation);
        match is_whole && is_sane {
            true => Read::Header(Self { generation, text, handed_over }),
            false => Read::Damaged,
        }
    }

    /// Writes it to the start of `block`; what is behind becomes 0. A block is never shorter.
    pub fn write(&self, block: &mut [u8]) {
        block.fill(0);
        let Some(bytes) = block.first_chunk_mut::<HEADER_LEN>() else { return };
        bytes[..8].copy_from_slice(MAGIC);
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        let words = [
            (8, VERSION),
            (12, self.text.len),
            (24, self.text.crc),
            (28, self.handed_over.len),
            (32, self.handed_over.crc),
        ];
        for (at, word) in words {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let sum = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The slots that may hold what counts, of what both headers were read as: the newest first.
pub fn newest_first(read: [Read; 2]) -> impl Iterator<Item = (Slot, Header)> {
    let [first, second] = read.map(|read| match read {
        Read::Header(header) => Some(header),
        Read::Nothing | Read::Damaged => None,
    });
    let mut both = [(Slot::First, first), (Slot::Second, second)];
    let generation = |header: Option<Header>| header.map(|header| header.generation);
    if generation(second) > generation(first) {
        both.reverse();
    }
    both.into_iter().filter_map(|(slot, header)| Some((slot, header?)))
}
