#![expect(unsafe_code, reason = "device registers are raw memory; DESIGN §5 places them here")]

use core::ptr::NonNull;

use volatile::VolatilePtr;

/// A block of device registers, addressed by byte offset.
///
/// As on a real bus, a read outside the block gives all ones and a write outside it is lost. All
/// accesses are little-endian, of exactly the named width, and in program order.
pub trait Registers: Clone + 'static {
    /// Size of the block in bytes.
    fn len(&self) -> usize;

    /// Whether the block has no registers.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `len` bytes at `offset` as a block of their own, if they lie inside.
    fn window(&self, offset: usize, len: usize) -> Option<Self>;

    /// Reads 1 byte.
    fn read8(&self, offset: usize) -> u8;
    /// Reads 2 bytes.
    fn read16(&self, offset: usize) -> u16;
    /// Reads 4 bytes.
    fn read32(&self, offset: usize) -> u32;
    /// Reads 8 bytes.
    fn read64(&self, offset: usize) -> u64;
    /// Writes 1 byte.
    fn write8(&self, offset: usize, value: u8);
    /// Writes 2 bytes.
    fn write16(&self, offset: usize, value: u16);
    /// Writes 4 bytes.
    fn write32(&self, offset: usize, value: u32);
    /// Writes 8 bytes.
    fn write64(&self, offset: usize, value: u64);
}

/// Memory-mapped registers of a real device.
#[derive(Clone, Debug)]
pub struct Mmio {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the block is device memory valid for the whole run (see `new`); every access is a single
// volatile instruction, which a device sees as one transaction whichever core issues it.
unsafe impl Send for Mmio {}
// SAFETY: as for `Send`; shared access adds no data race, as no access goes through a reference.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// Wraps `len` bytes of device memory at `base`.
    ///
    /// # Safety
    /// The range must stay mapped as uncached device memory for the rest of the run, and no Rust
    /// object may live in it.
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// The register at `offset`, if it lies inside and is aligned.
    #[inline(always)]
    fn register<T: Copy>(&self, offset: usize) -> Option<VolatilePtr<'_, T>> {
        let size = size_of::<T>();
        if offset.checked_add(size)? > self.len || !offset.is_multiple_of(size) {
            return None;
        }
        // SAFETY: `new` promises `len` mapped bytes that stay; the register was just checked to
        // lie inside them and to be aligned (BARs are at least 16-byte aligned).
        Some(unsafe { VolatilePtr::new(self.base.add(offset).cast::<T>()) })
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize, ones: T) -> T {
        self.register(offset).map_or(ones, |register| register.read())
    }

    #[inline(always)]
    fn write<T: Copy>(&self, offset: usize, value: T) {
        if let Some(register) = self.register(offset) {
            register.write(value);
        }
    }
}

impl Registers for Mmio {
    fn len(&self) -> usize {
        self.len
    }

    fn window(&self, offset: usize, len: usize) -> Option<Self> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: the window lies inside a block that `new` promised.
        Some(Self { base: unsafe { self.base.add(offset) }, len })
    }

    #[inline(always)]
    fn read8(&self, offset: usize) -> u8 {
        self.read(offset, u8::MAX)
    }

    #[inline(always)]
    fn read16(&self, offset: usize) -> u16 {
        self.read(offset, u16::MAX)
    }

    #[inline(always)]
    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, u32::MAX)
    }

    #[inline(always)]
    fn read64(&self, offset: usize) -> u64 {
        self.read(offset, u64::MAX)
    }

    #[inline(always)]
    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, value);
    }

    #[inline(always)]
    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, value);
    }

    #[inline(always)]
    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, value);
    }

    #[inline(always)]
    fn write64(&self, offset: usize, value: u64) {
        self.write(offset, value);
    }
}
