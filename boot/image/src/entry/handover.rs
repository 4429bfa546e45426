#![expect(unsafe_code, reason = "the memory the boot core starts with; DESIGN §5 places it here")]

//! What every entry needs: the boot core's stack, its first segments, and the [`BootInfo`] that it
//! hands to the kernel main.
//!
//! All of it is part of the image, so the kernel keeps it without being told.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::addr_of;

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, Optional};

/// Bytes of the stack that the boot core starts on.
const STACK_LEN: usize = 512 << 10;
/// Bytes below the stack, for the kernel to unmap.
const GUARD_LEN: usize = 4096;
/// More memory map entries than any machine reports.
pub(super) const REGIONS_MAX: usize = 1024;

// The boot core's stack above its guard page; a GDT with one code (8) and one data segment (16).
global_asm!(
    ".pushsection .bss.boot, \"aw\", @nobits",
    ".hidden boot_stack, boot_stack_top",
    ".globl boot_stack, boot_stack_top",
    ".balign 4096",
    ".skip {guard}",
    "boot_stack: .skip {stack}",
    "boot_stack_top:",
    ".popsection",
    ".pushsection .data.boot, \"aw\", @progbits",
    ".hidden boot_gdt",
    ".globl boot_gdt",
    ".balign 8",
    "boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    ".popsection",
    guard = const GUARD_LEN,
    stack = const STACK_LEN,
);

/// What is handed to the kernel: written once, before it runs.
struct Handover {
    info: UnsafeCell<MaybeUninit<BootInfo>>,
    regions: UnsafeCell<MaybeUninit<[MemoryRegion; REGIONS_MAX]>>,
}

// SAFETY: only `prepare` touches it, which runs once, on the only core that runs.
unsafe impl Sync for Handover {}

static HANDOVER: Handover = Handover {
    info: UnsafeCell::new(MaybeUninit::uninit()),
    regions: UnsafeCell::new(MaybeUninit::uninit()),
};

#[expect(improper_ctypes, reason = "the signature is bootloader_api's own")]
unsafe extern "C" {
    /// What `bootloader_api::entry_point!` defines around the kernel main.
    pub(super) safe fn _start(boot_info: &'static mut BootInfo) -> !;
}

unsafe extern "C" {
    /// The first byte of the loaded image, placed by the linker.
    #[link_name = "__ehdr_start"]
    static IMAGE: u8;
    /// The lowest byte of the stack.
    static boot_stack: u8;
}

/// The address that the image was loaded at.
pub(super) fn image_base() -> u64 {
    addr_of!(IMAGE) as u64
}

/// The [`BootInfo`] with the memory regions that `fill` wrote and counted, and with all that is the
/// same for every loader.
///
/// # Safety
/// To be called once, on the only core that runs.
pub(super) unsafe fn prepare(
    fill: impl FnOnce(&mut [MemoryRegion; REGIONS_MAX]) -> usize,
) -> &'static mut BootInfo {
    // SAFETY: called once on the only running core, so nothing else refers to the handover.
    let (slot, regions) = unsafe { (&mut *HANDOVER.info.get(), &mut *HANDOVER.regions.get()) };
    let regions = regions.write([MemoryRegion::empty(); REGIONS_MAX]);
    let used = fill(regions).min(REGIONS_MAX);
    let info = slot.write(BootInfo::new((&mut regions[..used]).into()));
    info.physical_memory_offset = Optional::Some(0);
    info.kernel_addr = image_base();
    info.kernel_stack_bottom = addr_of!(boot_stack) as u64;
    info.kernel_stack_len = STACK_LEN as u64;
    info
}
