#![expect(unsafe_code, reason = "makes arenas of raw memory; DESIGN §5 allows it here")]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use basalt_env::{DmaArena, DmaPool, PhysAddr};

/// Bus addresses start here: far from any address the process can have.
const BUS_BASE: u64 = 0x4000_0000_0000_0000;
/// Gap between arenas on the bus, so that running off one end hits nothing.
const BUS_GAP: u64 = 1 << 30;
/// What freed DMA memory is filled with.
const POISON: u8 = 0xdf;

#[derive(Clone, Copy)]
struct Region {
    base: NonNull<u8>,
    len: usize,
    bus: u64,
}

// SAFETY: a region is leaked memory, valid on every thread; it is only copied to and from by value,
// as a device would, whichever thread the device's model runs on.
unsafe impl Send for Region {}

/// The machine's arenas, known to every thread that stands for a core or a device.
#[derive(Clone, Default)]
struct Regions(Arc<Mutex<Vec<Region>>>);

impl Regions {
    /// A thread that panicked cannot have left the list half changed.
    fn lock(&self) -> MutexGuard<'_, Vec<Region>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated machine's memory.
#[derive(Default)]
pub struct Machine {
    regions: Regions,
}

impl Machine {
    /// A machine without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an arena of `len` bytes and makes a pool of it.
    ///
    /// The memory lives until the process ends: buffers may outlast the machine.
    pub fn pool(&self, len: usize) -> DmaPool {
        let mut regions = self.regions.lock();
        let bus = regions.last().map_or(BUS_BASE, |last| {
            (last.bus + last.len as u64 + BUS_GAP).next_multiple_of(DmaArena::ALIGN as u64)
        });
        let base = leak(len);
        regions.push(Region { base, len, bus });
        // SAFETY: `leak` gives zeroed memory, aligned, never freed, and only this arena and the
        // bus (which stands for devices) know of it.
        let arena = unsafe { DmaArena::new(base, len, PhysAddr::new(bus)) };
        DmaPool::poisoning(arena, POISON)
    }

    /// The machine's bus, for a device model.
    pub fn bus(&self) -> Bus {
        Bus { regions: self.regions.clone() }
    }
}

fn leak(len: usize) -> NonNull<u8> {
    let Ok(layout) = Layout::from_size_align(len.max(1), DmaArena::ALIGN) else {
        panic!("an arena of {len} bytes is larger than the address space");
    };
    // SAFETY: the layout's size is at least 1.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// A device touched an address where there is no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusError {
    /// First byte of the access.
    pub address: PhysAddr,
    /// Its length in bytes.
    pub len: usize,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device access to {} bytes at {:?}: no memory there", self.len, self.address)
    }
}

impl std::error::Error for BusError {}

/// How a device model reaches memory.
#[derive(Clone)]
pub struct Bus {
    regions: Regions,
}

impl Bus {
    /// DMA read: memory to device.
    pub fn read(&self, address: PhysAddr, bytes: &mut [u8]) -> Result<(), BusError> {
        let from = self.resolve(address, bytes.len())?;
        // SAFETY: `resolve` checked the range; arenas live until the process ends. The driver holds
        // no slice of memory that it told the device to use, whichever thread the model runs on.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// DMA write: device to memory.
    pub fn write(&self, address: PhysAddr, bytes: &[u8]) -> Result<(), BusError> {
        let to = self.resolve(address, bytes.len())?;
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Reads a little-endian `u64`.
    pub fn read_u64(&self, address: PhysAddr) -> Result<u64, BusError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn resolve(&self, address: PhysAddr, len: usize) -> Result<*mut u8, BusError> {
        let error = BusError { address, len };
        let start = address.as_u64();
        let end = start.checked_add(len as u64).ok_or(error)?;
        let regions = self.regions.lock();
        let inside = |r: &&Region| start >= r.bus && end <= r.bus + r.len as u64;
        let region = regions.iter().find(inside).ok_or(error)?;
        // SAFETY: the offset was just checked to lie inside the region.
        Ok(unsafe { region.base.as_ptr().add((start - region.bus) as usize) })
    }
}
