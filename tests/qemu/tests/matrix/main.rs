//! The image serves on every machine of a matrix: firmware × cores × memory × bridges ×
//! IOMMU × drives.
//! Every cell ends in I/O on every drive that was verified from both ends.
//!
//! By default a subset runs in which every two properties meet at least once; all of it with
//! `cargo test -p basalt-qemu-tests --test matrix -- --ignored`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cell;
mod cover;

use cell::{Bridges, Cell, Firmware, Iommu, Memory};

/// Every machine of the matrix.
fn all() -> Vec<Cell> {
    let mut cells = vec![Cell::default()];
    cells =
        each(&cells, [Firmware::Pvh, Firmware::Uefi], |cell, firmware| Cell { firmware, ..cell });
    cells = each(&cells, [1, 2, 8, 32], |cell, cpus| Cell { cpus, ..cell });
    let memories = [Memory::Least, Memory::Mib(1 << 10), Memory::Mib(6 << 10), Memory::TwoNodes];
    cells = each(&cells, memories, |cell, memory| Cell { memory, ..cell });
    let bridges = [Bridges::None, Bridges::RootPorts, Bridges::Switch, Bridges::SecondRoot];
    cells = each(&cells, bridges, |cell, bridges| Cell { bridges, ..cell });
    cells = each(&cells, [Iommu::Absent, Iommu::Intel], |cell, iommu| Cell { iommu, ..cell });
    each(&cells, [1, 4, 16], |cell, drives| Cell { drives, ..cell })
}

fn each<T: Copy, const N: usize>(
    cells: &[Cell],
    values: [T; N],
    with: impl Fn(Cell, T) -> Cell,
) -> Vec<Cell> {
    cells.iter().flat_map(|&cell| values.map(|value| with(cell, value))).collect()
}

fn verify_all(cells: Vec<Cell>, chosen: impl Fn(&Cell) -> bool) {
    let chosen: Vec<_> = cells.into_iter().filter(chosen).collect();
    assert!(!chosen.is_empty());
    for (at, cell) in chosen.iter().enumerate() {
        // Shown only if a cell fails: the last line names it.
        println!("cell {} of {}: {cell:?}", at + 1, chosen.len());
        cell.verify();
    }
}

#[test]
fn every_two_properties_meet_in_a_cell_of_the_subset() {
    let (all, subset) = (all(), cover::pairwise(&all()));
    assert_eq!(all.len(), 2 * 4 * 4 * 4 * 2 * 3);
    assert!(subset.len() <= 24, "{} cells take too long", subset.len());
    for cell in &all {
        for pair in cover::pairs(cell) {
            assert!(subset.iter().any(|other| cover::pairs(other).contains(&pair)), "{pair:?}");
        }
    }
}

#[test]
fn the_subset_serves_by_pvh() {
    verify_all(cover::pairwise(&all()), |cell| cell.firmware == Firmware::Pvh);
}

#[test]
fn the_subset_serves_by_uefi() {
    verify_all(cover::pairwise(&all()), |cell| cell.firmware == Firmware::Uefi);
}

#[test]
#[ignore = "the whole matrix takes an hour"]
fn every_machine_serves_by_pvh() {
    verify_all(all(), |cell| cell.firmware == Firmware::Pvh);
}

#[test]
#[ignore = "the whole matrix takes an hour"]
fn every_machine_serves_by_uefi() {
    verify_all(all(), |cell| cell.firmware == Firmware::Uefi);
}
