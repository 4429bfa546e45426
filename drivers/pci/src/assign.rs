//! Addresses for BARs that firmware gave none: those of a device that came while the machine ran.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use basalt_env::{ConfigSpace, PciAddress, sort_few_by_key};

use crate::bridge::{self, Range};
use crate::regs::{self, Command};
use crate::{Bar, Function, HeaderKind, capabilities, id};

/// Why a BAR gets no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AssignError {
    /// Nothing is known of the addresses that reach the function's bus.
    NoWindow,
    /// They are all taken.
    NoRoom {
        /// Bytes that were wanted.
        len: u64,
    },
}

impl fmt::Display for AssignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWindow => f.write_str(
                "firmware left its bus without a memory window; plug it in before the start",
            ),
            Self::NoRoom { len } => write!(f, "no {} KiB are free in its bus's window", len >> 10),
        }
    }
}

/// Which function has which bus addresses.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    taken: Vec<(PciAddress, Range)>,
    bridges: Vec<PciAddress>,
}

impl Addresses {
    /// Those that firmware gave to the ones of `functions` on buses that `matters` names, which are
    /// the buses where addresses may be given out.
    ///
    /// Nobody may be using these functions yet: finding out how many addresses one has switches it
    /// off for a moment, and takes its time.
    pub fn survey(
        config: &impl ConfigSpace,
        functions: &[Function],
        matters: impl Fn(PciAddress) -> bool,
    ) -> Self {
        let mut addresses = Self::default();
        for function in functions {
            let bars = if matters(function.address) { bars(config, function) } else { Vec::new() };
            for bar in bars.into_iter().filter(|bar| bar.base != 0) {
                addresses.take(function.address, bar.base, bar.len);
            }
            if function.header == HeaderKind::Bridge {
                addresses.bridges.push(function.address);
            }
        }
        addresses
    }

    /// Whether firmware gave `function` no addresses at all: it gives them to all BARs or to none.
    pub fn lacks(config: &impl ConfigSpace, function: &Function) -> bool {
        let registers = (0..function.header.bar_count())
            .map(|index| config.read(function.address, regs::BAR0 + u16::from(index) * 4));
        registers.into_iter().all(|register| register & !0xf == 0)
    }

    /// The addresses under which requests of the function at `address` may reach the machine: its
    /// own, and those that bridges to old PCI buses put in its place (PCI Express to PCI Bridge 1.0
    /// §2.3).
    pub fn requesters(&self, config: &impl ConfigSpace, address: PciAddress) -> Vec<PciAddress> {
        let mut requesters = Vec::from([address]);
        let mut below = address;
        while let Some(bridge) = self.bridge_above(config, below) {
            let first_below = PciAddress { device: 0, function: 0, ..below };
            match express_type(config, bridge) {
                Some(TO_OLD_BUS) => requesters.push(first_below),
                Some(_) => {}
                None => requesters.extend([bridge, first_below]),
            }
            below = bridge;
        }
        requesters
    }

    fn bridge_above(&self, config: &impl ConfigSpace, below: PciAddress) -> Option<PciAddress> {
        let is_above = |bridge: &&PciAddress| {
            bridge.segment == below.segment
                && bridge::bus_behind(config, **bridge) == Some(below.bus)
        };
        self.bridges.iter().find(is_above).copied()
    }

    /// Functions that `gone` tells of are no longer there.
    pub fn forget(&mut self, gone: impl Fn(PciAddress) -> bool) {
        self.taken.retain(|(address, _)| !gone(*address));
    }

    /// Gives each memory BAR of `function` that has none an address that its bridge passes on and
    /// that nothing else on its bus has. Nobody may be using the function.
    ///
    /// I/O BARs stay as they are: nothing here uses ports of devices.
    ///
    /// # Errors
    /// A BAR gets no address; those before it have theirs.
    pub fn assign(
        &mut self,
        config: &impl ConfigSpace,
        function: &Function,
    ) -> Result<(), AssignError> {
        let address = function.address;
        let (mut wanted, has): (Vec<_>, Vec<_>) =
            bars(config, function).into_iter().partition(|bar| bar.base == 0);
        self.forget(|other| other == address);
        has.iter().for_each(|bar| self.take(address, bar.base, bar.len));
        // The largest first: what is aligned to its size then leaves the fewest gaps.
        sort_few_by_key(&mut wanted, |bar| Reverse(bar.len));
        for bar in wanted {
            let base = self.place(config, address, &bar)?;
            bar.write(config, address, base);
            self.take(address, base, bar.len);
        }
        Ok(())
    }

    fn take(&mut self, address: PciAddress, base: u64, len: u64) {
        self.taken.push((address, Range { start: base, end: base.saturating_add(len) }));
    }

    /// The lowest place for `bar` on the bus of `address`.
    fn place(
        &self,
        config: &impl ConfigSpace,
        address: PciAddress,
        bar: &MemoryBar,
    ) -> Result<u64, AssignError> {
        let same_bus =
            |other: &PciAddress| (other.segment, other.bus) == (address.segment, address.bus);
        let taken = self.taken.iter().filter(|(other, _)| same_bus(other)).map(|(_, range)| *range);
        let mut taken: Vec<Range> = taken.collect();
        for bridge in self.bridges.iter().filter(|bridge| same_bus(bridge)) {
            let windows = bridge::windows(config, *bridge);
            taken.extend([windows.memory, windows.prefetchable].into_iter().flatten());
        }
        let above = self.bridge_above(config, address);
        let (memory, prefetchable) = match above.map(|bridge| bridge::windows(config, bridge)) {
            Some(windows) => (windows.memory, windows.prefetchable),
            None => (host_window(&taken), None),
        };
        let windows = [prefetchable.filter(|_| bar.prefetchable), memory].into_iter().flatten();
        let mut usable = windows.filter(|window| bar.wide || window.end <= 1 << 32).peekable();
        usable.peek().ok_or(AssignError::NoWindow)?;
        let mut places = usable.filter_map(|window| lowest_gap(window, &taken, bar.len));
        places.next().ok_or(AssignError::NoRoom { len: bar.len })
    }
}

/// The type of a bridge from PCI Express to an old bus (PCI Express Base 5.0 §7.5.3.2).
const TO_OLD_BUS: u32 = 7;

/// What a PCI Express function is; none if it is no such function.
fn express_type(config: &impl ConfigSpace, address: PciAddress) -> Option<u32> {
    let read = |offset| config.read(address, offset);
    let express = capabilities(read).find(|capability| capability.id == id::PCI_EXPRESS)?;
    Some(read(express.offset) >> 20 & 0xf)
}

/// A memory BAR.
struct MemoryBar {
    index: u8,
    base: u64,
    len: u64,
    prefetchable: bool,
    wide: bool,
}

impl MemoryBar {
    fn write(&self, config: &impl ConfigSpace, address: PciAddress, base: u64) {
        let command = config.read(address, regs::COMMAND_STATUS) & regs::STATUS_WRITE_MASK;
        let off = command & !u32::from((Command::IO | Command::MEMORY).bits());
        config.write(address, regs::COMMAND_STATUS, off);
        let register = regs::BAR0 + u16::from(self.index) * 4;
        config.write(address, register, base as u32);
        if self.wide {
            config.write(address, register + 4, (base >> 32) as u32);
        }
        config.write(address, regs::COMMAND_STATUS, command);
    }
}

fn bars(config: &impl ConfigSpace, function: &Function) -> Vec<MemoryBar> {
    let read = |index| match Bar::probe(config, function.address, function.header, index) {
        Ok(Bar::Memory { base, len, prefetchable, wide }) => {
            Some(MemoryBar { index, base, len, prefetchable, wide })
        }
        _ => None,
    };
    (0..function.header.bar_count()).filter_map(read).collect()
}

/// A host bridge's window is nowhere to be read but in ACPI's byte code. What firmware gave to
/// those on its bus lies in it, and so does what is between them, up to where a PC's own devices
/// begin.
fn host_window(taken: &[Range]) -> Option<Range> {
    const PC_DEVICES: u64 = 0xfec0_0000;
    let below = taken.iter().filter(|range| range.end <= PC_DEVICES);
    let start = below.map(|range| range.start).min()?;
    Some(Range { start, end: PC_DEVICES })
}

/// The lowest aligned place of `len` bytes in `window` that nothing has.
fn lowest_gap(window: Range, taken: &[Range], len: u64) -> Option<u64> {
    let mut base = window.start.checked_next_multiple_of(len)?;
    while base.checked_add(len)? <= window.end {
        match taken.iter().find(|range| range.start < base + len && base < range.end) {
            Some(other) => base = other.end.checked_next_multiple_of(len)?,
            None => return Some(base),
        }
    }
    None
}
