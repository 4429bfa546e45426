#![expect(unsafe_code, reason = "makes arenas of raw memory; DESIGN §5 allows it here")]

use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use basalt_env::{DmaArena, DmaPool, PhysAddr};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};

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

    /// Adds an arena of `len` bytes.
    ///
    /// Its memory is the process's until that ends: buffers may outlast the machine.
    ///
    /// # Errors
    /// The host has no such memory.
    pub fn arena(&self, len: usize) -> Result<DmaArena, OutOfMemory> {
        let base = map(len).map_err(|errno| OutOfMemory { len, errno })?;
        let mut regions = self.regions.lock();
        let bus = regions.last().map_or(BUS_BASE, |last| {
            (last.bus + last.len as u64 + BUS_GAP).next_multiple_of(DmaArena::ALIGN as u64)
        });
        regions.push(Region { base, len, bus });
        // SAFETY: `map` gives zeroed memory, aligned, never unmapped, and only this arena and the
        // bus (which stands for devices) know of it.
        Ok(unsafe { DmaArena::new(base, len, PhysAddr::new(bus)) })
    }

    /// A pool over an arena of `len` bytes of its own, which fills what is freed with a pattern.
    ///
    /// # Panics
    /// The host has no such memory.
    pub fn pool(&self, len: usize) -> DmaPool {
        match self.arena(len) {
            Ok(arena) => DmaPool::poisoning(arena, POISON),
            Err(error) => panic!("{error}"),
        }
    }

    /// The machine's bus, for a device model.
    pub fn bus(&self) -> Bus {
        Bus { regions: self.regions.clone() }
    }
}

/// Zeroed memory for good, aligned for an arena. It takes up room only once it is touched.
fn map(len: usize) -> Result<NonNull<u8>, Errno> {
    let whole = len.checked_add(DmaArena::ALIGN).and_then(NonZeroUsize::new);
    let whole = whole.ok_or(Errno::ENOMEM)?;
    let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice, which is never unmapped.
    let start = unsafe { mmap_anonymous(None, whole, access, flags) }?.cast::<u8>();
    // SAFETY: the gap is below ALIGN, by which the mapping is longer than `len`.
    let base = unsafe { start.add(start.align_offset(DmaArena::ALIGN)) };
    // SAFETY: the range lies in the mapping just made. A refusal only costs speed.
    let _ = unsafe { madvise(base.cast(), len, MmapAdvise::MADV_HUGEPAGE) };
    Ok(base)
}

/// The host has no memory for an arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub len: usize,
    /// What the host says.
    pub errno: Errno,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host gives no {} MiB of memory: {}", self.len >> 20, self.errno.desc())
    }
}

impl std::error::Error for OutOfMemory {}

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
