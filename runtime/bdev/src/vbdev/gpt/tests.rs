use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crc::{CRC_32_ISO_HDLC, Crc};
use proptest::prelude::*;

use super::*;
use crate::suite::{self, Medium};
use crate::tests::Cores;

const BLOCKS: u64 = 2048;
const SPDK: &str = "6527994e-2c5a-4eec-9613-8f5944074e8b";
const OLD_SPDK: &str = "7c5222bd-8f5d-4087-9c00-bf9843c7b58c";
const CONFIG: &str = "775df5a4-d056-43fa-9356-561f96ba8dc9";
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

fn crc(bytes: &[u8]) -> [u8; 4] {
    Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(bytes).to_le_bytes()
}

fn guid(text: &str) -> [u8; 16] {
    let mut guid = uuid::parse(text).unwrap();
    guid[..4].reverse();
    guid[4..6].reverse();
    guid[6..8].reverse();
    guid
}

/// An entry of the type, from block `first` to `last`, called `name`.
fn entry(kind: &str, unique: u8, first: u64, last: u64, name: &str) -> [u8; 128] {
    let mut entry = [0; 128];
    entry[..16].copy_from_slice(&guid(kind));
    entry[16..32].fill(unique);
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&last.to_le_bytes());
    for (to, unit) in entry[56..].as_chunks_mut::<2>().0.iter_mut().zip(name.encode_utf16()) {
        *to = unit.to_le_bytes();
    }
    entry
}

/// A header at `lba` of a table of 128 entries at block `entries`.
fn header(lba: u64, alternate: u64, at: u64, entries: &[u8]) -> [u8; 512] {
    let mut header = [0; 512];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
    for (place, value) in [(24, lba), (32, alternate), (40, 34), (48, BLOCKS - 34), (72, at)] {
        header[place..place + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[80..88].copy_from_slice(&[128, 0, 0, 0, 128, 0, 0, 0]);
    header[88..92].copy_from_slice(&crc(entries));
    let sum = crc(&header[..92]);
    header[16..20].copy_from_slice(&sum);
    header
}

/// A disk with both tables, byte by byte.
fn disk(partitions: &[[u8; 128]]) -> Vec<u8> {
    let mut entries = partitions.concat();
    entries.resize(128 * 128, 0);
    let mut disk = vec![0; BLOCKS as usize * 512];
    let mut put = |lba: u64, bytes: &[u8]| {
        disk[lba as usize * 512..][..bytes.len()].copy_from_slice(bytes);
    };
    put(1, &header(1, BLOCKS - 1, 2, &entries));
    put(2, &entries);
    put(BLOCKS - 33, &entries);
    put(BLOCKS - 1, &header(BLOCKS - 1, 1, BLOCKS - 33, &entries));
    disk
}

fn usual() -> Vec<u8> {
    disk(&[
        entry(LINUX, 1, 40, 99, "root"),
        entry(SPDK, 2, 100, 355, "data \u{e9}"),
        entry(OLD_SPDK, 3, 400, 499, "old"),
        entry(SPDK, 4, 2000, 5000, "beyond the end"),
    ])
}

struct World {
    cores: Cores,
}

impl World {
    fn new() -> Self {
        let cores = Cores::new(1);
        Examiner::start(&cores.core(0));
        Self { cores }
    }

    /// A disk `M` that has these bytes when it is examined.
    fn insert(&mut self, bytes: &[u8]) {
        let cores = &mut self.cores;
        crate::tests::stored(&cores.registry, "M", bytes);
        let (local, over) = (cores.core(0), Rc::new(RefCell::new(false)));
        let told = Rc::clone(&over);
        local.clone().spawn("test", async move {
            Examiner::settled(&local).await;
            *told.borrow_mut() = true;
        });
        for _ in 0..10_000 {
            cores.round();
            if *over.borrow() {
                return;
            }
        }
        panic!("the examination hangs");
    }

    fn names(&self) -> Vec<String> {
        self.cores.registry.list().iter().map(|bdev| bdev.info().name.clone()).collect()
    }
}

#[test]
fn partitions_of_spdks_type_are_bdevs_and_others_are_not() {
    let mut world = World::new();
    world.insert(&usual());
    assert_eq!(world.names(), ["M", "Mp2", "Mp3"]);
    assert!(world.cores.registry.is_claimed("M"));
    let part = world.cores.registry.get("Mp2").unwrap();
    assert_eq!((part.info().num_blocks.get(), part.info().uuid), (256, [2; 16]));
    let shown = part.driver_specific();
    for text in ["\"offset_blocks\":100", SPDK, "\"partition_name\":\"data \u{e9}\""] {
        assert!(shown.contains(text), "{shown}");
    }
    let disk = world.cores.registry.open("Mp2", Access::ReadWrite).unwrap();
    suite::run(&mut world.cores, &disk, Medium::Keeps);
}

#[test]
fn a_partition_for_the_configuration_is_a_bdev_of_its_own_kind() {
    let mut world = World::new();
    let spdk = entry(SPDK, 2, 300, 355, "data");
    world.insert(&disk(&[entry(CONFIG, 1, 100, 299, "config"), spdk]));
    assert_eq!(world.names(), ["M", "Mp1", "Mp2"]);
    let products = ["Mp1", "Mp2"].map(|name| world.cores.registry.get(name).unwrap());
    let products = products.map(|bdev| bdev.info().product_name);
    assert_eq!(products, [CONFIG_PRODUCT_NAME, PRODUCT_NAME]);
}

#[test]
fn a_partition_for_the_configuration_that_shares_blocks_with_another_is_not_used() {
    for (first, last) in [(100, 300), (355, 400), (310, 320), (200, 500)] {
        let mut world = World::new();
        let other = entry(LINUX, 2, 300, 355, "data");
        world.insert(&disk(&[entry(CONFIG, 1, first, last, "config"), other]));
        assert_eq!(world.names(), ["M"], "{first}..={last}");
    }
}

#[test]
fn a_partition_over_the_table_is_left_out() {
    for first in [0, 1, 2, 33] {
        let mut world = World::new();
        let mut bytes = disk(&[entry(SPDK, 1, first, 99, "table"), entry(SPDK, 2, 100, 199, "x")]);
        bytes[512 + 40..512 + 48].fill(0);
        bytes[512 + 16..512 + 20].fill(0);
        let sum = crc(&bytes[512..512 + 92]);
        bytes[512 + 16..512 + 20].copy_from_slice(&sum);
        world.insert(&bytes);
        assert_eq!(world.names(), ["M", "Mp2"], "{first}");
    }
}

#[test]
fn a_damaged_table_is_replaced_by_the_other_one() {
    for damage in [512, 512 + 60, 1024 + 32] {
        let mut world = World::new();
        let mut bytes = usual();
        bytes[damage] ^= 1;
        world.insert(&bytes);
        assert_eq!(world.names(), ["M", "Mp2", "Mp3"], "byte {damage}");
    }
    let mut world = World::new();
    let mut bytes = usual();
    bytes[512] = 0;
    let last = (BLOCKS as usize - 1) * 512;
    bytes[last] = 0;
    world.insert(&bytes);
    assert_eq!(world.names(), ["M"]);
    assert!(!world.cores.registry.is_claimed("M"));
}

#[test]
fn a_disk_that_is_replaced_has_its_own_table() {
    let mut world = World::new();
    world.insert(&usual());
    world.cores.registry.remove("M").unwrap();
    assert_eq!(world.names(), Vec::<String>::new());
    world.insert(&disk(&[entry(SPDK, 9, 50, 60, "other")]));
    assert_eq!(world.names(), ["M", "Mp1"]);
    world.cores.registry.remove("M").unwrap();
    world.insert(&vec![0; 1 << 20]);
    assert_eq!(world.names(), ["M"]);
}

#[test]
fn a_disk_that_somebody_has_claimed_is_left_alone() {
    let mut world = World::new();
    let claim = world.cores.registry.clone();
    world.cores.registry.subscribe(move |event| {
        if let Event::Registered(bdev) = event {
            let disk = claim.open(&bdev.info().name, Access::Exclusive).unwrap();
            core::mem::forget(disk);
        }
    });
    world.insert(&usual());
    assert_eq!(world.names(), ["M"]);
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(
        damage in proptest::collection::vec((0..92_usize, any::<u8>()), 0..6),
        fix in any::<bool>(),
        num_blocks in any::<u64>(),
        noise in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let mut bytes = usual();
        let table = &mut bytes[512..];
        for (at, byte) in damage {
            table[at] = byte;
        }
        if fix {
            table[16..20].fill(0);
            let sum = crc(&table[..92]);
            table[16..20].copy_from_slice(&sum);
        }
        if let Some(header) = Header::read(&table[..512], 1) {
            header.partitions(&table[512..512 + (16 << 10)], num_blocks);
            header.partitions(&noise, num_blocks);
        }
        Header::read(&noise, 1);
    }
}
