//! Which cores and which memory are near each other, as firmware tells it in ACPI's SRAT and SLIT
//! (ACPI 6.5 §5.2.16 and §5.2.17).

use alloc::vec::Vec;
use core::ops::Range;

use crate::{CoreId, sort_few_by_key};

/// A node's number: ACPI's proximity domain.
pub type Node = u32;

/// The nodes of a machine. Empty where firmware tells of none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Numa {
    cores: Vec<(u32, Node)>,
    memory: Vec<(Range<u64>, Node)>,
    /// Distances by pairs of the first nodes, row by row.
    distances: Vec<u8>,
    /// How many nodes `distances` is about.
    rows: usize,
}

const SRAT_HEADER_LEN: usize = 48;
const PROCESSOR: u8 = 0;
const MEMORY: u8 = 1;
const X2APIC: u8 = 2;
const ENABLED: u32 = 1;

const SLIT_HEADER_LEN: usize = 44;
/// The distance within a node, and what is taken for one between nodes that is not told.
const NEAR: u8 = 10;
const FAR: u8 = 20;

impl Numa {
    /// Reads both tables, headers included; an empty one is one that is not there. What is cut off
    /// or not known is passed over.
    pub fn read(srat: &[u8], slit: &[u8]) -> Self {
        let mut numa = Self::default();
        let mut rest = srat.get(SRAT_HEADER_LEN..).unwrap_or_default();
        while let &[kind, len, ..] = rest {
            let Some((entry, after)) = rest.split_at_checked(len.into()) else { break };
            if len < 2 {
                break;
            }
            rest = after;
            numa.take(kind, entry);
        }
        let rows = u64_at(slit, 36).and_then(|rows| usize::try_from(rows).ok()).unwrap_or(0);
        let distances =
            rows.checked_mul(rows).and_then(|len| slit.get(SLIT_HEADER_LEN..)?.get(..len));
        if let Some(distances) = distances {
            (numa.rows, numa.distances) = (rows, distances.into());
        }
        numa
    }

    fn take(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            PROCESSOR if u32_at(entry, 4)? & ENABLED != 0 => {
                let [low] = *entry.get(2..)?.first_chunk()?;
                let high = u32_at(entry, 8)? & !0xff;
                self.cores.push((u32::from(*entry.get(3)?), high | u32::from(low)));
            }
            X2APIC if u32_at(entry, 12)? & ENABLED != 0 => {
                self.cores.push((u32_at(entry, 8)?, u32_at(entry, 4)?));
            }
            MEMORY if u32_at(entry, 28)? & ENABLED != 0 => {
                let (start, len) = (u64_at(entry, 8)?, u64_at(entry, 16)?);
                let range = start..start.checked_add(len)?;
                self.memory.push((range, u32_at(entry, 2)?));
            }
            _ => {}
        }
        Some(())
    }

    /// The node of the core with this APIC identifier.
    pub fn node_of_core(&self, apic_id: u32) -> Option<Node> {
        self.cores.iter().find(|(id, _)| *id == apic_id).map(|(_, node)| *node)
    }

    /// How far `to` is from `from`; 10 is no way at all.
    pub fn distance(&self, from: Node, to: Node) -> u8 {
        let [row, column] = [from, to].map(|node| node as usize);
        let told = row < self.rows && column < self.rows;
        match told.then(|| self.distances.get(row * self.rows + column)).flatten() {
            Some(distance) => *distance,
            None if from == to => NEAR,
            None => FAR,
        }
    }

    /// The memory whose nearest node is `node`, if only those of `homes` (in order) are asked:
    /// memory of a node without cores falls to the nearest one that has some.
    pub fn memory_near<'a>(
        &'a self,
        node: Node,
        homes: &'a [Node],
    ) -> impl Iterator<Item = Range<u64>> + 'a {
        let nearest =
            move |of: Node| homes.iter().copied().min_by_key(move |home| self.distance(*home, of));
        let near = self.memory.iter().filter(move |(_, of)| nearest(*of) == Some(node));
        near.map(|(range, _)| range.clone())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Which of a machine's cores are near a node.
#[derive(Clone, Debug)]
pub struct Nearness {
    numa: Numa,
    apic_ids: Vec<u32>,
}

impl Nearness {
    /// Of the cores with these APIC identifiers, in order.
    pub const fn new(numa: Numa, apic_ids: Vec<u32>) -> Self {
        Self { numa, apic_ids }
    }

    /// All cores in the order of their distance from a node. Those that are equally far keep their
    /// order, those on no known node come last.
    pub fn cores_by_distance(&self, from: Node) -> Vec<CoreId> {
        let distance = |core: &CoreId| {
            let node = self.numa.node_of_core(self.apic_ids[core.index()]);
            node.map_or(u16::MAX, |node| self.numa.distance(from, node).into())
        };
        let mut cores: Vec<_> = (0..self.apic_ids.len()).map(|core| CoreId(core as u16)).collect();
        sort_few_by_key(&mut cores, distance);
        cores
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn processor(apic_id: u8, node: u32, flags: u32) -> Vec<u8> {
        let [low, high @ ..] = node.to_le_bytes();
        let flags = flags.to_le_bytes();
        [&[0, 16, low, apic_id][..], &flags, &[0], &high, &[0; 4]].concat()
    }

    fn x2apic(apic_id: u32, node: u32) -> Vec<u8> {
        let words = [node, apic_id, 1, 0, 0].map(u32::to_le_bytes).concat();
        [&[2, 24, 0, 0][..], &words].concat()
    }

    fn memory(range: Range<u64>, node: u32, flags: u32) -> Vec<u8> {
        let place = [range.start, range.end - range.start].map(u64::to_le_bytes).concat();
        let words = [0, flags, 0, 0].map(u32::to_le_bytes).concat();
        [&[1, 40][..], &node.to_le_bytes(), &[0; 2], &place, &words].concat()
    }

    /// Two nodes with cores, a third with memory alone, nearer to the second.
    fn tables() -> (Vec<u8>, Vec<u8>) {
        let srat = [
            vec![0; 48],
            processor(0, 0, 1),
            processor(1, 1, 1),
            processor(2, 1, 0),
            x2apic(300, 1),
            memory(0..GIB, 0, 1),
            memory(GIB..2 * GIB, 1, 1),
            memory(4 * GIB..6 * GIB, 2, 1),
            memory(9 * GIB..10 * GIB, 2, 0),
        ];
        let slit =
            [vec![0; 36], 3_u64.to_le_bytes().into(), vec![10, 21, 40, 21, 10, 12, 40, 12, 10]];
        (srat.concat(), slit.concat())
    }

    #[test]
    fn cores_and_memory_are_told_by_node() {
        let (srat, slit) = tables();
        let numa = Numa::read(&srat, &slit);
        let nodes = [0, 1, 2, 300].map(|apic_id| numa.node_of_core(apic_id));
        assert_eq!(nodes, [Some(0), Some(1), None, Some(1)]);
        assert_eq!((numa.distance(0, 1), numa.distance(2, 1), numa.distance(1, 1)), (21, 12, 10));
        let near = |node| {
            let starts = numa.memory_near(node, &[0, 1]).map(|range| range.start / GIB);
            starts.collect::<Vec<_>>()
        };
        assert_eq!((near(0), near(1)), (vec![0], vec![1, 4]));
        let alone: Vec<_> = numa.memory_near(0, &[0]).collect();
        assert_eq!(alone.len(), 3, "one node has it all");
    }

    #[test]
    fn cores_are_told_by_their_distance_from_a_node() {
        let (srat, slit) = tables();
        let nearness = Nearness::new(Numa::read(&srat, &slit), vec![0, 7, 1, 300]);
        let cores = |from| nearness.cores_by_distance(from);
        assert_eq!(cores(0), [0, 2, 3, 1].map(CoreId));
        assert_eq!(cores(2), [2, 3, 0, 1].map(CoreId));
    }

    #[test]
    fn without_distances_a_node_is_nearest_to_itself() {
        let numa = Numa::read(&tables().0, &[]);
        assert_eq!((numa.distance(5, 5), numa.distance(5, 6)), (10, 20));
        assert_eq!(numa.memory_near(1, &[0, 1]).count(), 1);
        assert_eq!(Numa::read(&[], &[]), Numa::default());
    }

    proptest! {
        #[test]
        fn damaged_tables_are_survived(
            cut in 0..300_usize,
            damage in prop::collection::vec((36..300_usize, any::<u8>()), 0..8),
            rows in any::<u64>(),
        ) {
            let (mut srat, mut slit) = tables();
            for (place, byte) in damage {
                if let Some(damaged) = srat.get_mut(place) {
                    *damaged = byte;
                }
            }
            srat.truncate(cut);
            slit[36..44].copy_from_slice(&rows.to_le_bytes());
            let numa = Numa::read(&srat, &slit);
            numa.memory_near(1, &[0, 1]).count();
            numa.distance(u32::MAX, 3);
        }
    }
}
