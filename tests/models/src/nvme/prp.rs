//! Walking PRPs as a controller does (base specification §4.1.1).

use basalt_env::PhysAddr;
use basalt_hosted::Bus;
use basalt_nvme_spec::Status;

const PAGE: u64 = 4096;

/// A contiguous run of bytes on the bus: address and length.
pub type Range = (u64, u64);

/// The runs of `len` bytes that two PRP entries describe, following lists and chained lists.
pub fn walk(bus: &Bus, prp1: u64, prp2: u64, len: u64) -> Result<Vec<Range>, Status> {
    if !prp1.is_multiple_of(4) {
        return Err(Status::PRP_OFFSET_INVALID);
    }
    let first = len.min(PAGE - prp1 % PAGE);
    let mut ranges = vec![(prp1, first)];
    let mut left = len - first;
    if left == 0 {
        return Ok(ranges);
    }
    if left <= PAGE {
        ranges.push((page(prp2)?, left));
        return Ok(ranges);
    }
    if !prp2.is_multiple_of(8) {
        return Err(Status::PRP_OFFSET_INVALID);
    }
    let mut list = prp2;
    while left != 0 {
        let entry = bus.read_u64(PhysAddr::new(list)).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        let last_in_page = list % PAGE == PAGE - 8;
        if last_in_page && left > PAGE {
            list = page(entry)?;
            continue;
        }
        let part = left.min(PAGE);
        ranges.push((page(entry)?, part));
        left -= part;
        list += 8;
    }
    Ok(ranges)
}

const fn page(entry: u64) -> Result<u64, Status> {
    if entry.is_multiple_of(PAGE) { Ok(entry) } else { Err(Status::PRP_OFFSET_INVALID) }
}
