use super::*;
use crate::image::tests::{PROGRAM, linked_with};

const PACKED: &str = "-Wl,-z,pack-relative-relocs";
const UNPACKED: &str = "-Wl,-z,nopack-relative-relocs";

/// Words with addresses side by side, with gaps, further apart than a bitmap reaches, and at an
/// address that is no multiple of eight.
const WORDS: &str = "
    .data
    .balign 8
    .globl words
    words:
    .rept 130
    .quad start
    .endr
    .quad 1, start, 2, 3, start
    .skip 8 * 62
    .quad start
    .skip 8 * 64
    .quad start
    .long 4
    .quad start
    .long 5
    .quad start
";

/// How far each of them is from `words`.
fn expected() -> Vec<u64> {
    let near = (0..130).chain([131, 134, 197, 262]).map(|word| word * 8);
    near.chain([263 * 8 + 4, 265 * 8]).collect()
}

fn program(argument: &str) -> Vec<u8> {
    linked_with(&[&PROGRAM.concat(), WORDS].concat(), argument)
}

fn symbol(data: &[u8], name: &str) -> u64 {
    let file = ElfFile64::<Le>::parse(data).unwrap();
    file.symbol_by_name(name).unwrap().address()
}

/// The words behind `words` that are relocated, as distances from there.
fn relocated(data: &[u8]) -> Vec<u64> {
    let words = symbol(data, "words");
    let all = Image::parse(data).unwrap().relocations().unwrap();
    all.into_iter().filter_map(|address| address.checked_sub(words)).collect()
}

/// Where the entries are in the file that the dynamic section has with this tag.
fn entries(data: &[u8], tag: DynamicTag) -> Option<usize> {
    let image = Image::parse(data).unwrap();
    let entry = image.dynamic().unwrap().iter().find(|entry| entry.d_tag(Le) == tag);
    entry.map(|entry| image.file_offset(entry.d_val(Le)).unwrap())
}

#[test]
fn packed_relocations_name_every_word_with_an_address() {
    let (packed, unpacked) = (program(PACKED), program(UNPACKED));
    assert!(entries(&packed, DT_RELR).is_some() && entries(&unpacked, DT_RELR).is_none());
    let all = Image::parse(&packed).unwrap().relocations().unwrap();
    assert_eq!(all.len(), expected().len() + 1, "the note's as well");
    assert_eq!(relocated(&packed), expected());
}

#[test]
fn every_packed_bit_speaks_of_its_word() {
    let mut data = program(PACKED);
    let at = entries(&data, DT_RELR).unwrap();
    let words = symbol(&data, "words");
    let packed = [words, 1 << 63 | 1 << 2 | 1 << 1 | 1, 1, 1 << 1 | 1, words - 8];
    for (place, entry) in data[at..].chunks_exact_mut(8).zip(packed) {
        place.copy_from_slice(&entry.to_le_bytes());
    }
    let found = relocated(&data);
    for word in [0, 1, 2, 63, 127] {
        assert!(found.contains(&(word * 8)), "{word} in {found:?}");
    }
    assert!(![3, 62, 64, 126].iter().any(|word| found.contains(&(word * 8))), "{found:?}");
}

#[test]
fn packed_relocations_outside_of_the_data_are_refused() {
    let refused = |entry: u64| {
        let mut data = program(PACKED);
        let at = entries(&data, DT_RELR).unwrap();
        data[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        let refusal = Image::parse(&data).unwrap().relocations().unwrap_err();
        format!("{refusal:#}")
    };
    for entry in [3, 0, 1 << 40, u64::MAX - 7, u64::MAX] {
        assert!(refused(entry).contains("lies in no loaded data"), "{entry:#x}");
    }
}

#[test]
fn relocations_that_are_not_applied_are_refused() {
    let mut data = program(UNPACKED);
    let image = Image::parse(&data).unwrap();
    let at = image.file_offset(symbol(&data, "words")).unwrap();
    data[at..at + 8].fill(0);
    let refusal = Image::parse(&data).unwrap().relocations().unwrap_err();
    assert!(format!("{refusal:#}").contains("--apply-dynamic-relocs"), "{refusal:#}");
}
