//! GUID partition tables on a bdev that is examined: what comes of them lies where it may.

use basalt_bdev::malloc::{self, MallocOptions};
use basalt_bdev::vbdev::{Vbdevs, gpt, passthru};
use basalt_bdev::{Access, Channel, Io, Op, SgList};
use crc::{CRC_32_ISO_HDLC, Crc};

use crate::input::Input;
use crate::machine::Machine;
use crate::seed::Seed;

pub(super) const BLOCKS: u64 = 512;
/// Entries are 128 of 128 bytes, in as many blocks as this.
const ENTRIES_BLOCKS: u64 = 32;

/// Byte 0: whether the checksums of the first header (bit 0) and of its entries (1) are renewed,
/// and whether blocks have 4 KiB (2). Then records: the first header, its entries, the other
/// header.
pub fn run(bytes: &[u8]) {
    examine(bytes, check);
}

/// Has a disk with that table examined, and what comes of it looked at.
fn examine(bytes: &[u8], look: impl FnOnce(&Machine)) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let (mut header, entries) = (input.record().to_vec(), input.record().to_vec());
    let other = input.record().to_vec();
    if mode & 2 != 0 && header.len() >= 92 {
        let counted = u64::from(dword(&header, 80)) * u64::from(dword(&header, 84));
        let mut all = entries.clone();
        all.resize(counted.min(1 << 18) as usize, 0);
        header[88..92].copy_from_slice(&crc(&all));
    }
    if mode & 1 != 0 && header.len() >= 92 {
        header[16..20].fill(0);
        let len = (dword(&header, 12) as usize).min(header.len());
        let sum = crc(&header[..len]);
        header[16..20].copy_from_slice(&sum);
    }
    let block_size = if mode & 4 != 0 { 4096 } else { 512 };
    let mut machine = Machine::new(1);
    let options = MallocOptions {
        name: Some("Base".into()),
        num_blocks: BLOCKS,
        block_size,
        ..MallocOptions::default()
    };
    malloc::create(&machine.registry, options).unwrap();
    let disk = machine.registry.open("Base", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&machine.local(0)).unwrap();
    let places = [(1, header), (2, entries), (BLOCKS - 1, other)];
    for (lba, bytes) in places {
        put(&mut machine, &mut channel, lba, &bytes, block_size as usize);
    }
    drop((channel, disk));
    gpt::Examiner::start(&machine.local(0));
    let vbdevs = Vbdevs::of(&machine.local(0)).unwrap();
    vbdevs.create(passthru::recipe("Seen", "Base", None)).unwrap();
    let local = machine.local(0);
    machine.wait_for(async move { gpt::Examiner::settled(&local).await }, || {});
    look(&machine);
    vbdevs.delete(passthru::PRODUCT_NAME, "Seen").unwrap();
    machine.rounds(50);
    assert_eq!(machine.registry.list().len(), 1, "partitions go with their disk");
}

pub(super) fn put(
    machine: &mut Machine,
    channel: &mut Channel,
    lba: u64,
    bytes: &[u8],
    block_size: usize,
) {
    let room = (BLOCKS - lba).min(ENTRIES_BLOCKS + 1) as usize * block_size;
    let len = bytes.len().min(room).next_multiple_of(block_size);
    if len == 0 {
        return;
    }
    let mut buf = machine.pools[0].alloc(len).unwrap();
    buf.as_mut_slice().fill(0);
    buf.as_mut_slice()[..bytes.len().min(len)].copy_from_slice(&bytes[..bytes.len().min(len)]);
    let blocks = (len / block_size) as u32;
    channel.submit(Io::with_data(Op::Write, lba, blocks, SgList::One(buf), 0)).unwrap();
    let mut done = false;
    while !done {
        let _ = channel.poll(|io| done = io.status.is_ok());
        machine.step();
    }
}

/// Partitions lie within the disk, apart from one another where they can be opened, and have names
/// that JSON can hold.
fn check(machine: &Machine) {
    for bdev in machine.registry.list() {
        let info = bdev.info();
        if info.product_name != gpt::PRODUCT_NAME {
            continue;
        }
        assert!(info.num_blocks.get() > 0 && info.num_blocks.get() <= BLOCKS, "{}", info.name);
        let number: u32 = info.name.strip_prefix("Seenp").unwrap().parse().unwrap();
        assert!(number > 0, "{}", info.name);
    }
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn crc(bytes: &[u8]) -> [u8; 4] {
    Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(bytes).to_le_bytes()
}

/// An entry of that type, from block `first` to `last`.
pub(super) fn entry(kind: [u8; 16], unique: u8, first: u64, last: u64) -> [u8; 128] {
    let mut entry = [0; 128];
    entry[..16].copy_from_slice(&kind);
    entry[16..32].fill(unique);
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&last.to_le_bytes());
    entry[56..60].copy_from_slice(&[b'd', 0, 0xe9, 0]);
    entry
}

/// A header at `lba`, without its checksums, of four entries that begin at block `at`.
pub(super) fn header(lba: u64, alternate: u64, at: u64) -> Vec<u8> {
    let mut header = vec![0; 92];
    header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
    let places = [(24, lba), (32, alternate), (40, 34), (48, BLOCKS - 34), (72, at)];
    for (place, value) in places {
        header[place..place + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[80..88].copy_from_slice(&[4, 0, 0, 0, 128, 0, 0, 0]);
    header
}

/// A table of three partitions, of which two are SPDK's.
pub fn seeds() -> Vec<Seed> {
    let spdk = [
        0x4e, 0x99, 0x27, 0x65, 0x5a, 0x2c, 0xec, 0x4e, 0x96, 0x13, 0x8f, 0x59, 0x44, 0x07, 0x4e,
        0x8b,
    ];
    let mut entries =
        [entry([7; 16], 1, 40, 99), entry(spdk, 2, 100, 199), entry(spdk, 3, 300, 301)].concat();
    entries.resize(512, 0);
    let first = header(1, BLOCKS - 1, 2);
    [3, 7]
        .map(|mode| {
            let seed = Seed::starting(&[mode]).record(&first).record(&entries);
            seed.record(&header(BLOCKS - 1, 1, 2))
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_have_two_partitions_of_spdks() {
        for seed in seeds() {
            let found = std::rc::Rc::new(std::cell::Cell::new(0));
            let counted = std::rc::Rc::clone(&found);
            examine(&seed.bytes, move |machine| counted.set(machine.registry.list().len()));
            assert_eq!(found.get(), 4, "the disk, its other face, and two partitions");
        }
    }
}
