//! The real image, looked at from outside: what its backtraces will find.

use std::fs;

use basalt_runner::Workspace;
use basalt_runner::image::{LINK_BASE, SymbolTable};
use basalt_symbols::Table;

#[test]
fn every_function_of_the_image_is_found_by_its_name() {
    let workspace = Workspace::locate().unwrap();
    let (boot, _) = workspace.build_image().unwrap();
    let functions = SymbolTable::read(&fs::read(boot.with_extension("")).unwrap()).unwrap();
    let bytes = functions.to_bytes().unwrap();
    // The names alone take three times that.
    assert!(bytes.len() < functions.count() * 20, "{} bytes", bytes.len());
    assert!(functions.count() > 1000, "{} functions", functions.count());
    assert!(fs::read(&boot).unwrap().ends_with(&bytes), "the boot file ends with another table");
    let table = Table::new(&bytes).unwrap();
    for (address, size, name) in functions.iter() {
        let offset = u32::try_from(address - LINK_BASE).unwrap();
        let (found, into) = table.find(offset).unwrap();
        assert_eq!((found.to_string().as_str(), into), (name, 0));
        let last = u32::try_from(size - 1).unwrap();
        assert_eq!(table.find(offset + last).unwrap().1, last, "{name}");
    }
}
