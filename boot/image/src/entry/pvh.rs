#![expect(unsafe_code, reason = "the machine's first instructions; DESIGN §5 places them here")]

//! PVH direct boot (Xen `docs/misc/pvh.pandoc`, `public/arch-x86/hvm/start_info.h`).
//!
//! The loader finds the ELF note, loads the image and jumps to `pvh_start32` in 32-bit protected
//! mode without paging, with the address of an `hvm_start_info` in `ebx`. The assembly maps the
//! first 4 GiB, enters 64-bit mode, applies the image's own relocations if it was not loaded
//! where it was linked, turns on SSE (compiled code uses it anywhere) and calls [`pvh_main`].

use core::arch::global_asm;

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind, Optional};

use super::handover::{self, _start, REGIONS_MAX};

// The note; 4-byte alignment puts its 8-byte address where loaders look for it. It is writable as
// the address is subject to relocation.
global_asm!(
    ".pushsection .note.pvh, \"aw\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad pvh_start32",
    ".popsection",
);

// Boot page tables (one level 4, one level 3, four level 2 tables: 4 GiB in 2 MiB pages), and what
// loads the segments.
global_asm!(
    ".pushsection .bss.pvh, \"aw\", @nobits",
    ".hidden pvh_tables",
    ".globl pvh_tables",
    ".balign 4096",
    "pvh_tables: .skip 4096 * 6",
    ".popsection",
    ".pushsection .data.pvh, \"aw\", @progbits",
    ".hidden pvh_gdt_pointer, pvh_gdt_base, pvh_linked_at",
    ".globl pvh_gdt_pointer, pvh_gdt_base, pvh_linked_at",
    ".balign 8",
    "pvh_gdt_pointer: .word 23",
    "pvh_gdt_base: .long 0",
    ".balign 8",
    "pvh_linked_at: .quad __ehdr_start",
    ".popsection",
);

// The 32-bit half, in AT&T syntax as that can express the distance between two labels.
global_asm!(
    ".pushsection .text.pvh32, \"ax\", @progbits",
    ".code32",
    ".globl pvh_start32",
    ".hidden pvh_start32",
    ".type pvh_start32, @function",
    "pvh_start32:",
    "cli",
    "cld",
    // There is no stack yet and no way to learn our address without one: borrow the first word
    // of the start info for the return address and put it back.
    "movl (%ebx), %edx",
    "leal 4(%ebx), %esp",
    "call 2f",
    "2: popl %ebp",
    "movl %edx, (%ebx)",
    "leal boot_stack_top - 2b(%ebp), %esp",
    // Level 4 -> level 3 -> four level 2 tables -> 2,048 pages of 2 MiB.
    "leal pvh_tables - 2b(%ebp), %edi",
    "leal 0x1003(%edi), %eax",
    "movl %eax, (%edi)",
    "leal 0x2003(%edi), %eax",
    "movl $4, %ecx",
    "leal 0x1000(%edi), %edx",
    "3: movl %eax, (%edx)",
    "addl $0x1000, %eax",
    "addl $8, %edx",
    "loop 3b",
    "movl $0x83, %eax",
    "movl $2048, %ecx",
    "leal 0x2000(%edi), %edx",
    "4: movl %eax, (%edx)",
    "addl $0x200000, %eax",
    "addl $8, %edx",
    "loop 4b",
    "movl %edi, %cr3",
    // CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: LME, NXE. CR0: PG, WP, NE, ET, MP, PE.
    "movl $0x620, %eax",
    "movl %eax, %cr4",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    "movl $0x80010033, %eax",
    "movl %eax, %cr0",
    "leal boot_gdt - 2b(%ebp), %eax",
    "movl %eax, pvh_gdt_base - 2b(%ebp)",
    "lgdtl pvh_gdt_pointer - 2b(%ebp)",
    "leal pvh_start64 - 2b(%ebp), %eax",
    "pushl $8",
    "pushl %eax",
    "lretl",
    ".code64",
    ".size pvh_start32, . - pvh_start32",
    ".popsection",
    options(att_syntax),
);

global_asm!(
    ".pushsection .text.pvh64, \"ax\", @progbits",
    ".hidden __ehdr_start",
    ".hidden _DYNAMIC",
    ".globl pvh_start64",
    ".hidden pvh_start64",
    ".type pvh_start64, @function",
    "pvh_start64:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "lea rsp, [rip + boot_stack_top]",
    "mov ebx, ebx",
    // Where we are less where we were linked; nothing to relocate if that is zero.
    "lea r8, [rip + __ehdr_start]",
    "sub r8, [rip + pvh_linked_at]",
    "jz 9f",
    // DT_RELA (7) and DT_RELASZ (8), DT_RELR (36) and DT_RELRSZ (35) of the dynamic section.
    "lea rsi, [rip + _DYNAMIC]",
    "xor edi, edi",
    "xor ecx, ecx",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "5: mov rax, [rsi]",
    "test rax, rax",
    "jz 7f",
    "cmp rax, 7",
    "cmove rdi, [rsi + 8]",
    "cmp rax, 8",
    "cmove rcx, [rsi + 8]",
    "cmp rax, 36",
    "cmove r9, [rsi + 8]",
    "cmp rax, 35",
    "cmove r10, [rsi + 8]",
    "add rsi, 16",
    "jmp 5b",
    // Entries of 24 bytes: offset, type (R_X86_64_RELATIVE is 8), addend.
    "7: add rdi, r8",
    "add rcx, rdi",
    "8: cmp rdi, rcx",
    "jae 2f",
    "cmp dword ptr [rdi + 8], 8",
    "jne 6f",
    "mov rdx, [rdi]",
    "mov rax, [rdi + 16]",
    "add rax, r8",
    "mov [rdx + r8], rax",
    "6: add rdi, 24",
    "jmp 8b",
    // Packed entries of 8 bytes: an even one is where a word is; an odd one is a bitmap of the 63
    // words behind what came before, the next one in bit 1. The words hold their addends.
    "2: add r9, r8",
    "add r10, r9",
    "3: cmp r9, r10",
    "jae 9f",
    "mov rax, [r9]",
    "add r9, 8",
    "test al, 1",
    "jnz 4f",
    "lea rdx, [rax + r8]",
    "add [rdx], r8",
    "add rdx, 8",
    "jmp 3b",
    "4: mov rsi, rdx",
    "add rdx, 8 * 63",
    "5: shr rax, 1",
    "jz 3b",
    "test al, 1",
    "jz 6f",
    "add [rsi], r8",
    "6: add rsi, 8",
    "jmp 5b",
    "9: mov rdi, rbx",
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    ".size pvh_start64, . - pvh_start64",
    ".popsection",
    main = sym pvh_main,
);

const START_MAGIC: u32 = 0x336e_c578;

/// `hvm_start_info`, version 1.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    _flags: u32,
    module_count: u32,
    modules: u64,
    _command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_count: u32,
    _reserved: u32,
}

/// `hvm_modlist_entry`.
#[repr(C)]
struct Module {
    address: u64,
    len: u64,
    _command_line: u64,
    _reserved: u64,
}

/// `hvm_memmap_table_entry`.
#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    len: u64,
    kind: u32,
    _reserved: u32,
}

/// E820 type of memory free to use.
const E820_RAM: u32 = 1;

/// Fills the [`BootInfo`] from the start info and calls the kernel. Called once, by the assembly.
unsafe extern "C" fn pvh_main(start: *const StartInfo) -> ! {
    // SAFETY: the loader passes a start info in memory below 4 GiB, which is mapped.
    let start = unsafe { &*start };
    let valid = start.magic == START_MAGIC && start.version >= 1;
    let fill = |regions: &mut _| if valid { copy_memory_map(start, regions) } else { 0 };
    // SAFETY: called once on the only running core.
    let info = unsafe { handover::prepare(fill) };
    if valid {
        info.rsdp_addr = Some(start.rsdp).filter(|&rsdp| rsdp != 0).into();
        take_module(start, info);
    }
    _start(info)
}

fn copy_memory_map(start: &StartInfo, regions: &mut [MemoryRegion; REGIONS_MAX]) -> usize {
    let count = (start.memory_map_count as usize).min(regions.len());
    if start.memory_map == 0 {
        return 0;
    }
    // SAFETY: the loader describes an array of `memory_map_count` entries in mapped memory.
    let map =
        unsafe { core::slice::from_raw_parts(start.memory_map as *const MemoryMapEntry, count) };
    for (region, entry) in regions.iter_mut().zip(map) {
        region.start = entry.address;
        region.end = entry.address.saturating_add(entry.len);
        region.kind = match entry.kind {
            E820_RAM => MemoryRegionKind::Usable,
            kind => MemoryRegionKind::UnknownBios(kind),
        };
    }
    count
}

/// The first module (`-initrd`) becomes the RAM disk.
fn take_module(start: &StartInfo, info: &mut BootInfo) {
    if start.module_count == 0 || start.modules == 0 {
        return;
    }
    // SAFETY: the loader describes an array of at least one module in mapped memory.
    let module = unsafe { &*(start.modules as *const Module) };
    if module.len > 0 {
        info.ramdisk_addr = Optional::Some(module.address);
        info.ramdisk_len = module.len;
    }
}
