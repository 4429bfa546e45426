use std::io::Read as _;

use gpt::GptDisk;
use gpt::partition::Partition;

use super::*;

const APPLICATION: &[u8] = &[0x5a; 100_000];

fn written(config: Option<&[u8]>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    write(file.path(), Contents { application: APPLICATION, config }).unwrap();
    file
}

fn table(path: &Path) -> (GptDisk<File>, Partition) {
    // Both copies must be there, and their checksums right.
    let table = GptConfig::new().only_valid_headers(true).open(path).unwrap();
    let partition = table.partitions()[&1].clone();
    (table, partition)
}

/// The partition's file system, in memory.
fn volume(path: &Path) -> FileSystem<Cursor<Vec<u8>>> {
    let (_, partition) = table(path);
    let range = partition.first_lba * BLOCK_SIZE..(partition.last_lba + 1) * BLOCK_SIZE;
    let disk = std::fs::read(path).unwrap();
    let bytes = disk[range.start as usize..range.end as usize].to_vec();
    FileSystem::new(Cursor::new(bytes), FsOptions::new()).unwrap()
}

fn contents(volume: &FileSystem<Cursor<Vec<u8>>>, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    volume.root_dir().open_file(name).ok()?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn the_disk_has_an_efi_system_partition_and_an_empty_one_for_the_configuration() {
    let file = written(None);
    let (table, esp) = table(file.path());
    assert_eq!(table.partitions().values().filter(|entry| entry.is_used()).count(), 2);
    assert_eq!(esp.part_type_guid, partition_types::EFI);
    assert_eq!(esp.first_lba * BLOCK_SIZE % MIB, 0);
    let kept = &table.partitions()[&2];
    assert!(kept.part_type_guid.guid.to_string().eq_ignore_ascii_case(&uuid::format(&CONFIG_KIND)));
    assert_eq!(kept.first_lba, esp.last_lba + 1);
    assert!(kept.last_lba <= table.primary_header().unwrap().last_usable);
    let disk = std::fs::read(file.path()).unwrap();
    let range = kept.first_lba * BLOCK_SIZE..(kept.last_lba + 1) * BLOCK_SIZE;
    assert_eq!(range.end - range.start, MIB);
    assert!(disk[range.start as usize..range.end as usize].iter().all(|byte| *byte == 0));
}

#[test]
fn the_protective_mbr_covers_the_whole_disk() {
    let file = written(None);
    let disk = std::fs::read(file.path()).unwrap();
    let word = |at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap());
    assert_eq!(disk[510..512], [0x55, 0xaa]);
    assert_eq!(disk[446 + 4], 0xee);
    assert_eq!(word(446 + 8), 1);
    assert_eq!(u64::from(word(446 + 12)), disk.len() as u64 / BLOCK_SIZE - 1);
}

#[test]
fn firmware_finds_the_application_and_the_configuration() {
    let file = written(Some(b"{}"));
    let volume = volume(file.path());
    assert_eq!(volume.fat_type(), FatType::Fat32);
    assert_eq!(contents(&volume, "EFI/BOOT/BOOTX64.EFI").unwrap(), APPLICATION);
    assert_eq!(contents(&volume, "basalt.json").unwrap(), b"{}");
}

#[test]
fn a_disk_without_a_configuration_has_no_such_file() {
    assert_eq!(contents(&volume(written(None).path()), "basalt.json"), None);
}

#[test]
fn a_large_configuration_makes_a_larger_disk() {
    let large = vec![b' '; 100 << 20];
    let file = written(Some(&large));
    assert!(contents(&volume(file.path()), "basalt.json").unwrap() == large);
}
