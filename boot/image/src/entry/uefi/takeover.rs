#![expect(unsafe_code, reason = "leaves firmware's stack, page tables and segments")]

//! From firmware's processor state to the one that the PVH entry leaves as well: own page tables
//! that map the first 4 GiB where they are, own segments, own stack.
//!
//! Firmware's page tables lie in memory that is now free and may forbid what the kernel does.

use core::arch::asm;
use core::cell::UnsafeCell;

use bootloader_api::BootInfo;
use uefi_raw::Status;

use super::firmware::Refusal;
use crate::entry::handover::{self, _start};

/// CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: LME, NXE. CR0: PG, WP, NE, ET, MP, PE. As in the PVH entry.
const CR4: u64 = 0x620;
const EFER_BITS: u32 = 0x900;
const CR0: u64 = 0x8001_0033;
/// CR4's bit of page tables with five levels; it cannot be changed in 64-bit mode.
const CR4_LA57: u64 = 1 << 12;

/// Present and writable; with the third, a page of 2 MiB.
const TABLE: u64 = 0b11;
const PAGE: u64 = 0x80 | TABLE;
const PAGE_LEN: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A root, and for the first 4 GiB one level 3 and four level 2 tables; for the image, if it lies
/// above, two of each, as it may lie across a boundary.
const TABLES: usize = 1 + 1 + 4 + 4;

#[repr(C, align(4096))]
struct Table([u64; 512]);

struct Tables {
    tables: [Table; TABLES],
    /// How many there are besides the first, the root.
    used: usize,
}

struct BootTables(UnsafeCell<Tables>);

// SAFETY: only `run` touches it, once, on the only core that runs.
unsafe impl Sync for BootTables {}

static TABLES_OF_BOOT: BootTables =
    BootTables(UnsafeCell::new(Tables { tables: [const { Table([0; 512]) }; TABLES], used: 0 }));

impl Tables {
    /// Maps the GiB that holds `address` where it is.
    fn map_gib(&mut self, address: u64) {
        let start = address & !(GIB - 1);
        let level3 = self.below(0, (start >> 39) as usize % 512);
        let level2 = self.below(level3, (start >> 30) as usize % 512);
        for (page, entry) in (0..).zip(&mut self.tables[level2].0) {
            *entry = (start + page * PAGE_LEN) | PAGE;
        }
    }

    /// The table that entry `index` of `table` points at, a new one if it points nowhere.
    fn below(&mut self, table: usize, index: usize) -> usize {
        let first = self.address(0);
        let entry = self.tables[table].0[index] & ADDRESS;
        if entry != 0 {
            return ((entry - first) / size_of::<Table>() as u64) as usize;
        }
        self.used += 1;
        self.tables[table].0[index] = self.address(self.used) | TABLE;
        self.used
    }

    /// Firmware runs with addresses that are physical ones.
    fn address(&self, table: usize) -> u64 {
        (&raw const self.tables[table]) as u64
    }
}

/// Whether [`run`] will be able to do its work.
pub(super) fn check() -> Result<(), Refusal> {
    let cr4: u64;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    if cr4 & CR4_LA57 != 0 {
        let reason = "firmware uses five-level page tables; turn them off in its setup";
        return Err(Refusal::new(reason, Status::UNSUPPORTED));
    }
    Ok(())
}

/// Leaves firmware's world and calls the kernel.
pub(super) fn run(info: &'static mut BootInfo) -> ! {
    // SAFETY: called once, on the only core that runs.
    let tables = unsafe { &mut *TABLES_OF_BOOT.0.get() };
    for gib in 0..4 {
        tables.map_gib(gib * GIB);
    }
    // The image is far smaller than a GiB.
    for address in [handover::image_base(), handover::image_base() + GIB] {
        if address >= 4 * GIB {
            tables.map_gib(address);
        }
    }
    // SAFETY: the tables map the image, with its stack, its segments and this code, where it is,
    // and the stack is unused. Nothing of firmware's is needed any more, interrupts included.
    unsafe {
        asm!(
            "cli",
            "cld",
            "mov cr4, r8",
            "mov ecx, 0xc0000080",
            "rdmsr",
            "or eax, {efer}",
            "wrmsr",
            "mov cr3, rsi",
            "mov cr0, r9",
            "lea rsp, [rip + boot_stack_top]",
            "lea rax, [rip + boot_gdt]",
            "push rax",
            "sub rsp, 2",
            "mov word ptr [rsp], 23",
            "lgdt [rsp]",
            "lea rsp, [rip + boot_stack_top]",
            "lea rax, [rip + 2f]",
            "push 8",
            "push rax",
            "retfq",
            "2:",
            "mov eax, 16",
            "mov ds, eax",
            "mov es, eax",
            "mov ss, eax",
            "xor eax, eax",
            "mov fs, eax",
            "mov gs, eax",
            "xor ebp, ebp",
            "call {start}",
            "ud2",
            efer = const EFER_BITS,
            start = sym _start,
            in("rdi") info,
            in("rsi") tables.address(0),
            in("r8") CR4,
            in("r9") CR0,
            options(noreturn),
        )
    }
}
