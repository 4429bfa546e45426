extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;

/// `a`, `b`, both, and both twice; a code of two bytes is `[0x83, 0]`.
const DICTIONARY: &[u8] = &[10, 1, b'a', 1, b'b', 0, 0, 1, 0, 2, 2];

fn table(functions: &[u8]) -> Vec<u8> {
    [DICTIONARY, functions].concat()
}

fn find(table: &[u8], offset: u32) -> Option<(String, u32)> {
    let (name, into) = Table::new(table)?.find(offset)?;
    Some((format!("{name}"), into))
}

#[test]
fn a_function_is_found_by_each_of_its_bytes_and_by_no_other() {
    let table = table(&[16, 4, 1, 0, 0, 1, 2, 2, 1, 0x81, 1, 2, 1, 3]);
    assert_eq!(find(&table, 15), None);
    assert_eq!(find(&table, 16), Some(("a".into(), 0)));
    assert_eq!(find(&table, 19), Some(("a".into(), 3)));
    assert_eq!(find(&table, 20), Some(("abb".into(), 0)));
    assert_eq!(find(&table, 149), None);
    assert_eq!(find(&table, 150), Some(("abab".into(), 0)));
    assert_eq!(find(&table, 152), None);
    assert_eq!(find(&table, u32::MAX), None);
}

#[test]
fn a_name_that_goes_on_for_ever_ends() {
    // An entry that stands for itself twice, and one for a text and itself.
    let twice = [3, 0, 0, 0, 0, 1, 1, 0];
    assert_eq!(find(&twice, 0), Some(("...".into(), 0)));
    let endless = [5, 1, b'a', 0, 0, 1, 0, 1, 1, 1];
    let (name, _) = find(&endless, 0).unwrap();
    assert!(name.starts_with("aaaa") && name.ends_with("a..."), "{name}");
    assert!(name.len() <= ENTRIES_MAX + 3, "{}", name.len());
}

#[test]
fn what_cannot_be_read_ends_a_name() {
    for codes in [&[4_u8][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0x7f]] {
        let codes = [&[0], codes].concat();
        let table = table(&[&[0, 1, codes.len() as u8], codes.as_slice()].concat());
        assert_eq!(find(&table, 0), Some(("a...".into(), 0)), "{codes:?}");
    }
    let no_text = [2, 1, 0xff, 0, 1, 1, 0];
    assert_eq!(find(&no_text, 0), Some(("...".into(), 0)));
}

#[test]
fn a_table_that_is_cut_off_knows_less() {
    let whole = table(&[0, 4, 2, 0, 1, 0, 4, 1, 2]);
    for len in 0..whole.len() {
        let found = find(&whole[..len], 4);
        assert_eq!(found, None, "{len} bytes");
    }
    assert_eq!(find(&whole, 4), Some(("ab".into(), 0)));
    assert_eq!(find(&[], 0), None);
}
