#![expect(unsafe_code, reason = "hands out memory; DESIGN §5 places DMA memory here")]

//! Which memory devices may reach: an arena for each core, near it, and an IOMMU's tables.

use alloc::vec::Vec;
use core::ptr::NonNull;

use basalt_env::{DmaArena, Node, Numa, PhysAddr, sort_few_by_key};

use crate::memory::{FreeMemory, Span};

const MIB: u64 = 1 << 20;
/// DMA memory that a core gets if it can, whatever that leaves.
const DMA_ENOUGH: u64 = 64 * MIB;
/// The most that a core gets: thousands of the largest transfers at once.
const DMA_MAX: u64 = 512 * MIB;

/// Memory set aside for an IOMMU's tables.
const IOMMU_TABLES_LEN: u64 = 4 * MIB;

/// An arena for an IOMMU's tables; `None` if there is too little memory.
pub(crate) fn iommu_tables(free: &mut FreeMemory) -> Option<DmaArena> {
    arena(free.take_aligned(IOMMU_TABLES_LEN, DmaArena::ALIGN as u64)?)
}

/// Where the cores' arenas are, in order: near the core, where firmware tells what is near what and
/// there is enough of it.
pub(crate) fn spans(free: FreeMemory, apic_ids: &[u32], numa: &Numa) -> Option<Vec<Span>> {
    let nodes: Option<Vec<Node>> = apic_ids.iter().map(|&id| numa.node_of_core(id)).collect();
    let nodes = nodes.filter(|nodes| nodes.iter().any(|node| *node != nodes[0]));
    let near = nodes.and_then(|nodes| {
        let near = arenas_by_node(free.clone(), &nodes, numa);
        if near.is_none() {
            log::warn!("memory: a node has too little for its cores; it is split without regard");
        }
        near
    });
    near.or_else(|| {
        let mut spans = alloc::vec![None; apic_ids.len()];
        let cores: Vec<_> = (0..apic_ids.len()).collect();
        split_evenly(free, &cores, &mut spans)?;
        spans.into_iter().collect()
    })
}

/// The same for cores on these nodes: all of one node get as much as each other.
fn arenas_by_node(mut free: FreeMemory, nodes: &[Node], numa: &Numa) -> Option<Vec<Span>> {
    let mut homes = Vec::from(nodes);
    sort_few_by_key(&mut homes, |node| *node);
    homes.dedup();
    let mut spans = alloc::vec![None; nodes.len()];
    for &node in &homes {
        let cores: Vec<_> = (0..nodes.len()).filter(|&core| nodes[core] == node).collect();
        let ranges = numa.memory_near(node, &homes);
        let near = free.split_off(ranges.map(|range| Span { start: range.start, end: range.end }));
        let mib = split_evenly(near, &cores, &mut spans)? / MIB;
        log::info!("memory: node {node} has {} cores, with DMA {mib} MiB for each", cores.len());
    }
    spans.into_iter().collect()
}

/// Gives each of `cores` an equal part of half of `free`, or more or less if that is very little or
/// much; that size. The rest is for what need not be reached by devices, such as RAM disks.
fn split_evenly(free: FreeMemory, cores: &[usize], spans: &mut [Option<Span>]) -> Option<u64> {
    let mut next = cores.iter();
    let count = cores.len() as u64;
    let len_max = (free.len() / 2 / count.max(1)).clamp(DMA_ENOUGH, DMA_MAX);
    free.take_equal_parts(count, DmaArena::ALIGN as u64, len_max, |span| {
        if let Some(&core) = next.next() {
            spans[core] = Some(span);
        }
    })
}

/// An arena of free memory that was just taken for good and is aligned.
pub(crate) fn arena(span: Span) -> Option<DmaArena> {
    let base = NonNull::new(span.start as *mut u8)?;
    // SAFETY: as the caller says; it is mapped where it is, and memory is not uninitialised in
    // Rust's sense just because firmware, not Rust, last wrote it.
    Some(unsafe { DmaArena::new(base, span.len() as usize, PhysAddr::new(span.start)) })
}
