//! PCI-to-PCI bridges: the bus behind one, and the addresses it passes on (PCI-to-PCI Bridge
//! Architecture 1.2 §3.2.5).

use basalt_env::{ConfigSpace, PciAddress};

use crate::{Function, HeaderKind, regs};

/// A range of bus addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    /// First address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
}

/// What a bridge passes on to the bus behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Windows {
    /// Any memory, below 4 GiB.
    pub memory: Option<Range>,
    /// Memory whose reads have no side effects.
    pub prefetchable: Option<Range>,
}

/// The number of the bus behind the bridge at `address`, if there is one and it has a number.
pub(crate) fn bus_behind(config: &impl ConfigSpace, address: PciAddress) -> Option<u8> {
    let function = Function::read(config, address)?;
    if function.header != HeaderKind::Bridge {
        return None;
    }
    let [_, secondary, ..] = config.read(address, regs::BRIDGE_BUSES).to_le_bytes();
    (secondary > address.bus).then_some(secondary)
}

/// The windows of the bridge at `address`.
pub(crate) fn windows(config: &impl ConfigSpace, address: PciAddress) -> Windows {
    let memory = config.read(address, regs::BRIDGE_MEMORY);
    let prefetchable = config.read(address, regs::BRIDGE_PREFETCHABLE);
    let wide = prefetchable & 0xf == 1;
    let upper = |offset| if wide { u64::from(config.read(address, offset)) << 32 } else { 0 };
    let above = (upper(regs::BRIDGE_PREFETCHABLE_BASE), upper(regs::BRIDGE_PREFETCHABLE_LIMIT));
    Windows { memory: range(memory, (0, 0)), prefetchable: range(prefetchable, above) }
}

/// Base and limit registers hold address bits 31:20; a base above the limit is no window. Zeroes
/// are what a bridge has that was left alone, or that lacks the register.
fn range(register: u32, (base_above, limit_above): (u64, u64)) -> Option<Range> {
    let start = base_above | u64::from(register & 0xfff0) << 16;
    let last = limit_above | u64::from(register & 0xfff0_0000) | 0xf_ffff;
    let end = last.checked_add(1)?;
    (0 < start && start < last && register != u32::MAX).then_some(Range { start, end })
}
