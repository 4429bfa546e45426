#![expect(unsafe_code, reason = "segment registers and descriptor tables")]

//! Segments: one GDT that all cores share, with one TSS each.
//!
//! The task register also tells a core which one it is ([`current_core`]): without a memory
//! access, in any state the core can be in.

use alloc::boxed::Box;
use core::arch::asm;

use basalt_env::CoreId;
use spin::Mutex;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::stack::{self, CORES_MAX, Kind};

/// Entries before the first TSS: null, code, data. A TSS takes two.
const FIRST_TSS: usize = 3;
const ENTRIES: usize = FIRST_TSS + 2 * CORES_MAX;
const CODE: SegmentSelector = SegmentSelector::new(1, x86_64::PrivilegeLevel::Ring0);
const DATA: SegmentSelector = SegmentSelector::new(2, x86_64::PrivilegeLevel::Ring0);

static GDT: Mutex<GlobalDescriptorTable<ENTRIES>> = Mutex::new(GlobalDescriptorTable::empty());

/// Adds the TSS of the next core, counted from 0, whose stacks are set up.
pub(crate) fn add_core(core: usize) {
    let mut tss = Box::new(TaskStateSegment::new());
    for kind in [Kind::Fault, Kind::DoubleFault, Kind::Nmi, Kind::MachineCheck] {
        let top = VirtAddr::new(stack::span(core, kind).end);
        tss.interrupt_stack_table[usize::from(kind.ist_index())] = top;
    }
    let mut gdt = GDT.lock();
    if core == 0 {
        gdt.append(Descriptor::kernel_code_segment());
        gdt.append(Descriptor::kernel_data_segment());
    }
    gdt.append(Descriptor::tss_segment(Box::leak(tss)));
}

/// Makes the calling core `core`.
pub(crate) fn load(core: usize) {
    let gdt = GDT.lock();
    let tss = (FIRST_TSS + 2 * core) as u16;
    // SAFETY: the table is static, in writable memory, and entries are only ever appended; the
    // code and data segments are the flat ones that are in use, the TSS is this core's alone.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(CODE);
        DS::set_reg(DATA);
        ES::set_reg(DATA);
        SS::set_reg(DATA);
        load_tss(SegmentSelector::new(tss, x86_64::PrivilegeLevel::Ring0));
    }
}

/// Which core this is; the boot core before [`load`].
pub(crate) fn current_core() -> CoreId {
    let selector: u16;
    // SAFETY: reads the task register.
    unsafe { asm!("str {:x}", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    let index = usize::from(selector >> 3);
    CoreId((index.saturating_sub(FIRST_TSS) / 2) as u16)
}
