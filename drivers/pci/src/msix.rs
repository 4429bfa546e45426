//! MSI-X: a table of the messages that a function can send (PCI Express Base 5.0 §7.7.2).

use basalt_env::{Device, MessageTarget, Registers, WakeMessage};

use crate::{capabilities, id};

#[cfg(test)]
mod tests;

/// Message control (high half of the capability's first dword).
const CONTROL_ENABLE: u32 = 1 << 31;
const CONTROL_HOLD_ALL: u32 = 1 << 30;
const CONTROL_LAST: u32 = 0x7ff;
/// Where the table is: the BAR in the low three bits, the offset in the others.
const TABLE: u16 = 4;
const BAR: u32 = 0b111;

const ENTRY_LEN: usize = 16;
const ADDRESS: usize = 0;
const ADDRESS_ABOVE: usize = 4;
const DATA: usize = 8;
const VECTOR_CONTROL: usize = 12;
const MASKED: u32 = 1;

/// A function's messages, of which each is held back until its user lets it through.
pub(crate) struct MessageTable<R> {
    entries: R,
}

impl<R: Registers> MessageTable<R> {
    /// The table of `device`, switched on; none if it has none.
    pub(crate) fn find(device: &mut impl Device<Registers = R>) -> Option<Self> {
        let read = |offset| device.config_read(offset);
        let at = capabilities(read).find(|capability| capability.id == id::MSIX)?.offset;
        let (control, place) = (read(at), read(at + TABLE));
        if control == u32::MAX || place == u32::MAX {
            return None;
        }
        let count = usize::from((control >> 16 & CONTROL_LAST) as u16) + 1;
        let bar = device.bar((place & BAR) as u8).ok()?;
        let entries = bar.window((place & !BAR) as usize, count * ENTRY_LEN)?;
        for entry in 0..count {
            entries.write32(entry * ENTRY_LEN + VECTOR_CONTROL, MASKED);
        }
        device.config_write(at, control & !CONTROL_HOLD_ALL | CONTROL_ENABLE);
        Some(Self { entries })
    }

    /// Points message `index` at `target`.
    pub(crate) fn point(&self, index: u16, target: MessageTarget) -> Option<WakeMessage<R>> {
        let entry = self.entries.window(usize::from(index) * ENTRY_LEN, ENTRY_LEN)?;
        entry.write32(VECTOR_CONTROL, MASKED);
        entry.write32(ADDRESS, target.address as u32);
        entry.write32(ADDRESS_ABOVE, (target.address >> 32) as u32);
        entry.write32(DATA, target.data);
        entry.window(VECTOR_CONTROL, 4).map(WakeMessage::new)
    }
}
