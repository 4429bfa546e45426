//! A small subset of the matrix in which every two properties meet.

use crate::cell::Cell;

/// Which property (0–5) has which value, as text.
type Property = (usize, String);

/// All pairs of properties that a cell has.
pub fn pairs(cell: &Cell) -> Vec<(Property, Property)> {
    let Cell { firmware, cpus, memory, bridges, iommu, drives } = cell;
    let texts = [
        format!("{firmware:?}"),
        format!("{cpus} cores"),
        format!("{memory:?}"),
        format!("{bridges:?}"),
        format!("IOMMU {iommu:?}"),
        format!("{drives} drives"),
    ];
    let properties: Vec<Property> = texts.into_iter().enumerate().collect();
    let mut pairs = Vec::new();
    for (at, first) in properties.iter().enumerate() {
        pairs.extend(properties[at + 1..].iter().map(|second| (first.clone(), second.clone())));
    }
    pairs
}

/// Takes, again and again, the first cell with the most pairs that no cell had before.
pub fn pairwise(cells: &[Cell]) -> Vec<Cell> {
    let of_cells: Vec<_> = cells.iter().map(pairs).collect();
    let mut missing: Vec<_> = of_cells.iter().flatten().collect();
    missing.sort_unstable();
    missing.dedup();
    let mut subset = Vec::new();
    while !missing.is_empty() {
        let gain = |at: &usize| of_cells[*at].iter().filter(|pair| missing.contains(pair)).count();
        let Some(best) = (0..cells.len()).rev().max_by_key(gain) else { break };
        missing.retain(|pair| !of_cells[best].contains(pair));
        subset.push(cells[best]);
    }
    subset
}
