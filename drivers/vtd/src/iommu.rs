use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use basalt_env::{DmaMem, DmaPool, OutOfDmaMemory, PciAddress, Registers};

use crate::fault::Fault;
use crate::pages::{Pages, Shape, TABLE_LEN};
use crate::regs::PRESENT;
use crate::unit::{Now, Unit};

/// The one domain there is: who may reach memory may reach the same memory.
const DOMAIN: u64 = 1;
const ENTRY_LEN: usize = 16;

/// Why the units cannot be used. Those that were on already stay on, so what was not allowed stays
/// forbidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// A unit's registers do not answer.
    NoAnswer,
    /// The units have no kind of table in common that is known here.
    NoCommonTables,
    /// Devices cannot be told of memory that far up.
    TooNarrow {
        /// Bits of the largest address they can be told of.
        bits: u32,
    },
    /// There is no memory for the tables.
    NoMemory,
    /// A unit does not do as told.
    Stuck,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("a remapping unit does not answer"),
            Self::NoCommonTables => f.write_str("the remapping units take no tables in common"),
            Self::TooNarrow { bits } => {
                write!(f, "the remapping units reach {bits} bits of address, and memory goes on")
            }
            Self::NoMemory => f.write_str("its tables need more memory than is set aside for them"),
            Self::Stuck => f.write_str("a remapping unit does not do as told"),
        }
    }
}

impl From<OutOfDmaMemory> for StartError {
    fn from(_: OutOfDmaMemory) -> Self {
        Self::NoMemory
    }
}

/// The devices of one PCI segment.
struct Segment<R> {
    number: u16,
    units: Vec<Unit<R>>,
    root: DmaMem,
    /// By bus.
    contexts: Vec<(u8, DmaMem)>,
}

/// All remapping units of a machine, switched on.
///
/// Life of a device: nothing (its requests fault) -> [`Self::allow`] -> the arenas ->
/// [`Self::deny`] -> nothing.
pub struct Iommu<R> {
    pool: DmaPool,
    pages: Pages,
    shape: Shape,
    segments: Vec<Segment<R>>,
}

impl<R: Registers> Iommu<R> {
    /// Switches the units on, each given with its segment. `pool` is for their tables and lies
    /// outside `reachable`, the ranges of memory that devices may be allowed.
    ///
    /// # Errors
    /// A unit cannot be used.
    pub fn start(
        units: Vec<(u16, R)>,
        pool: DmaPool,
        reachable: &[Range<u64>],
        now: Now<'_>,
    ) -> Result<Self, StartError> {
        let mut segments: Vec<Segment<R>> = Vec::new();
        for (number, registers) in units {
            let unit = Unit::find(registers)?;
            match segments.iter_mut().find(|segment| segment.number == number) {
                Some(segment) => segment.units.push(unit),
                None => segments.push(Segment {
                    number,
                    units: Vec::from([unit]),
                    root: pool.alloc_shared(TABLE_LEN)?,
                    contexts: Vec::new(),
                }),
            }
        }
        let units = || segments.iter().flat_map(|segment| &segment.units);
        let shape = shape(units().map(Unit::capability))?;
        let bits = units().map(|unit| unit.capability().address_bits()).min().unwrap_or_default();
        let bits = bits.min(shape.address_bits());
        if reachable.iter().any(|range| range.end > 1 << bits) {
            return Err(StartError::TooNarrow { bits });
        }
        let pages = Pages::identity(&pool, shape, reachable)?;
        for segment in &segments {
            segment.root.write_back(0, TABLE_LEN);
            segment.units.iter().try_for_each(|unit| unit.enable(segment.root.phys(), now))?;
        }
        Ok(Self { pool, pages, shape, segments })
    }

    /// How many units there are.
    pub fn units(&self) -> usize {
        self.segments.iter().map(|segment| segment.units.len()).sum()
    }

    /// Lets the device at `address` reach the arenas.
    ///
    /// # Errors
    /// There is no memory for the tables, or a unit is stuck.
    pub fn allow(&mut self, address: PciAddress, now: Now<'_>) -> Result<(), StartError> {
        let low = self.pages.root().as_u64() | PRESENT;
        let high = self.shape.width_code() | DOMAIN << 8;
        let pool = &self.pool;
        let segment = self.segments.iter_mut().find(|other| other.number == address.segment);
        // Nothing watches over the other segments.
        let Some(segment) = segment else { return Ok(()) };
        segment.set(pool, address, low, high)?;
        segment.units.iter().try_for_each(|unit| unit.invalidate(now))
    }

    /// Lets the device at `address` reach nothing any more.
    ///
    /// # Errors
    /// A unit is stuck.
    pub fn deny(&mut self, address: PciAddress, now: Now<'_>) -> Result<(), StartError> {
        let segment = self.segments.iter_mut().find(|other| other.number == address.segment);
        let Some(segment) = segment else { return Ok(()) };
        segment.set(&self.pool, address, 0, 0)?;
        segment.units.iter().try_for_each(|unit| unit.invalidate(now))
    }

    /// Hands what was stopped since the last time to `tell`; whether there was more than the units
    /// could keep.
    pub fn faults(&self, tell: &mut dyn FnMut(Fault)) -> bool {
        let mut lost = false;
        for segment in &self.segments {
            for unit in &segment.units {
                lost |= unit.faults(segment.number, tell);
            }
        }
        lost
    }
}

impl<R> Segment<R> {
    /// Writes a context entry.
    fn set(
        &mut self,
        pool: &DmaPool,
        address: PciAddress,
        low: u64,
        high: u64,
    ) -> Result<(), StartError> {
        let context = self.context(pool, address.bus)?;
        let function = usize::from(address.device << 3 | address.function);
        let offset = function * ENTRY_LEN;
        // Never half an entry that is in use.
        context.store64(offset, 0);
        context.store64(offset + 8, high);
        context.store64(offset, low);
        context.write_back(offset, ENTRY_LEN);
        Ok(())
    }

    /// The context table of a bus.
    fn context(&mut self, pool: &DmaPool, bus: u8) -> Result<&DmaMem, StartError> {
        let at = match self.contexts.iter().position(|(other, _)| *other == bus) {
            Some(at) => at,
            None => {
                let table = pool.alloc_shared(TABLE_LEN)?;
                table.write_back(0, TABLE_LEN);
                let offset = usize::from(bus) * ENTRY_LEN;
                self.root.store64(offset, table.phys().as_u64() | PRESENT);
                self.root.write_back(offset, ENTRY_LEN);
                self.contexts.push((bus, table));
                self.contexts.len() - 1
            }
        };
        Ok(&self.contexts[at].1)
    }
}

impl<R> fmt::Debug for Iommu<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iommu").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Tables that every unit takes: the deepest, as they reach farthest.
fn shape(
    capabilities: impl Iterator<Item = crate::regs::Capability> + Clone,
) -> Result<Shape, StartError> {
    let large_pages = capabilities.clone().all(|unit| unit.large_pages());
    let levels = if capabilities.clone().all(|unit| unit.four_levels()) {
        4
    } else if capabilities.clone().all(|unit| unit.three_levels()) {
        3
    } else {
        return Err(StartError::NoCommonTables);
    };
    Ok(Shape { levels, large_pages })
}
