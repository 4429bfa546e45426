//! Firmware's memory map as the kernel's regions (UEFI 2.10 §7.2.3).

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use uefi_raw::table::boot::{MemoryAttribute, MemoryDescriptor, MemoryType};

/// Bytes of the pages that descriptors count.
const PAGE: u64 = 4096;

/// Writes the map to `regions`, neighbours of one kind as one; how many they are.
pub(super) fn convert(
    map: impl Iterator<Item = MemoryDescriptor>,
    regions: &mut [MemoryRegion],
) -> usize {
    let mut used = 0_usize;
    for descriptor in map {
        let region = region(&descriptor);
        if let Some(last) = used.checked_sub(1).and_then(|last| regions.get_mut(last))
            && last.kind == region.kind
            && last.end == region.start
        {
            last.end = region.end;
            continue;
        }
        let Some(slot) = regions.get_mut(used) else { break };
        *slot = region;
        used += 1;
    }
    used
}

fn region(descriptor: &MemoryDescriptor) -> MemoryRegion {
    let len = descriptor.page_count.saturating_mul(PAGE);
    MemoryRegion {
        start: descriptor.phys_start,
        end: descriptor.phys_start.saturating_add(len),
        kind: kind(descriptor),
    }
}

/// What is free once firmware's boot services are gone, the image's own memory included (the kernel
/// knows its own). Memory set aside for some device is left alone.
fn kind(descriptor: &MemoryDescriptor) -> MemoryRegionKind {
    let for_anyone = !descriptor.att.contains(MemoryAttribute::SPECIAL_PURPOSE);
    match descriptor.ty {
        MemoryType::LOADER_CODE
        | MemoryType::LOADER_DATA
        | MemoryType::BOOT_SERVICES_CODE
        | MemoryType::BOOT_SERVICES_DATA
        | MemoryType::CONVENTIONAL
            if for_anyone =>
        {
            MemoryRegionKind::Usable
        }
        MemoryType(other) => MemoryRegionKind::UnknownUefi(other),
    }
}
