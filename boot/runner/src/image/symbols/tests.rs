use basalt_symbols::Table;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn function(address: u64, size: u64, name: &str) -> Function {
    Function { address, size, limit: LINK_BASE + (1 << 20), name: name.to_owned() }
}

/// Looks for every function by its first and its last byte.
fn check(table: &SymbolTable) {
    let bytes = table.to_bytes().unwrap();
    let read = Table::new(&bytes).unwrap();
    for (address, size, name) in table.iter() {
        let offset = u32::try_from(address - LINK_BASE).unwrap();
        let (found, into) = read.find(offset).unwrap();
        assert_eq!((found.to_string().as_str(), into), (name, 0));
        let last = u32::try_from(size - 1).unwrap();
        assert_eq!(read.find(offset + last).unwrap().1, last, "{name}");
    }
}

/// Functions with names that have much in common, as an image's have.
fn functions() -> impl Strategy<Value = Vec<Function>> {
    let word = prop_oneof![
        "(core|alloc|basalt_[a-c])::",
        "(run|poll|drop_in_place)<",
        "(Io|Option|[A-Z][a-z]{0,9})(>|, | as )",
        "\\{\\{closure\\}\\}::",
        "\\PC{0,3}",
    ];
    let name = vec(word, 1..12).prop_map(|words| words.concat());
    let function = (0_u64..0x4000, 0_u64..0x300, name.prop_filter("empty", |n| !n.is_empty()));
    vec(function, 1..40).prop_map(|functions| {
        functions.iter().map(|(at, size, name)| function_at(*at, *size, name)).collect()
    })
}

fn function_at(at: u64, size: u64, name: &str) -> Function {
    function(LINK_BASE + at, size, name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_function_is_found_by_its_name(functions in functions()) {
        check(&SymbolTable::new(functions));
    }

    #[test]
    fn the_same_functions_make_the_same_table(functions in functions()) {
        let table = SymbolTable::new(functions);
        prop_assert_eq!(table.to_bytes().unwrap(), table.to_bytes().unwrap());
    }

    #[test]
    fn a_damaged_table_is_read_to_an_end(
        functions in functions(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        len in any::<prop::sample::Index>(),
        offset in 0_u32..0x4800,
    ) {
        let mut bytes = SymbolTable::new(functions).to_bytes().unwrap();
        damage.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = *byte);
        for bytes in [&bytes[..], &bytes[..len.index(bytes.len())]] {
            let found = Table::new(bytes).and_then(|table| table.find(offset));
            found.map(|(name, _)| name.to_string());
        }
    }
}

#[test]
fn a_function_ends_where_a_label_within_it_begins() {
    let outer = function(LINK_BASE + 16, 64, "outer");
    let (label, last) = (function(LINK_BASE + 32, 0, "label"), function(LINK_BASE + 96, 8, "last"));
    let table = SymbolTable::new(vec![last, label, outer]);
    check(&table);
    let sizes: Vec<_> = table.iter().map(|(_, size, name)| (name, size)).collect();
    assert_eq!(sizes, [("outer", 16), ("label", 64), ("last", 8)]);
}

#[test]
fn names_nested_deeply_stay_within_what_the_reader_holds() {
    // The n-th name is the first n letters: pairs that would each hold the one before.
    let letters: String = (0..80).map(|n| format!("{}::", char::from(b'a' + n % 26))).collect();
    let names = (1..80).flat_map(|len| [&letters[..len * 3]; 4]);
    let functions = (0..).zip(names).map(|(n, name)| function(LINK_BASE + n * 16, 16, name));
    check(&SymbolTable::new(functions.collect()));
}

#[test]
fn functions_out_of_reach_are_refused_by_name() {
    let refusal = |address, size| {
        let table = SymbolTable::new(vec![function(address, size, "far")]);
        format!("{:#}", table.to_bytes().unwrap_err())
    };
    assert!(refusal(LINK_BASE - 1, 4).contains("far lies below the link address"));
    assert!(refusal(LINK_BASE + u64::from(u32::MAX), 4).contains("far ends 4 GiB above"));
}
