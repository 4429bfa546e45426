#![expect(unsafe_code, reason = "interrupt descriptors and assembly entry points")]

//! Exception and interrupt entry points. Every one switches to a stack of its own, as compiled
//! code keeps data below its stack pointer (the red zone).

use core::arch::global_asm;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::idt::{Entry, InterruptDescriptorTable};

use crate::stack::Kind;
use crate::{fault, machine_check};

// 32 entry points of 16 bytes each: push a zero where the processor pushes no error code, then
// the vector. The common part saves all general registers as `fault::TrapFrame`, and what compiled
// code computes with besides: 176 bytes and 512, so that the stack stays aligned to 16. Bits of the
// mask: the vectors with an error code (SDM volume 3 table 6-1).
// Interrupts need no handling: that one arrived is all that `apic::rest` waits for.
global_asm!(
    ".pushsection .text.vectors, \"ax\", @progbits",
    ".balign 16",
    "basalt_vectors:",
    ".set basalt_vector, 0",
    ".rept 32",
    ".balign 16",
    ".if ((0x60227d00 >> basalt_vector) & 1) == 0",
    "push 0",
    ".endif",
    "push basalt_vector",
    "jmp basalt_exception",
    ".set basalt_vector, basalt_vector + 1",
    ".endr",
    ".balign 16",
    "basalt_exception:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "sub rsp, 512",
    "fxsave64 [rsp]",
    "call {exception}",
    "fxrstor64 [rsp]",
    "add rsp, 512",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    ".balign 16",
    "basalt_interrupt:",
    "iretq",
    ".popsection",
    exception = sym fault::exception,
);

unsafe extern "C" {
    static basalt_vectors: u8;
    static basalt_interrupt: u8;
}

const VECTOR_LEN: u64 = 16;

static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Loads the table on this core, which can then take machine checks too.
pub(crate) fn load() {
    IDT.call_once(build).load();
    machine_check::enable();
}

fn build() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    macro_rules! exceptions {
        ($($name:ident = $vector:literal on $kind:expr;)*) => {
            $(set(&mut idt.$name, exception_address($vector), $kind);)*
        };
    }
    exceptions! {
        divide_error = 0 on Kind::Fault;
        debug = 1 on Kind::Fault;
        non_maskable_interrupt = 2 on Kind::Nmi;
        breakpoint = 3 on Kind::Fault;
        overflow = 4 on Kind::Fault;
        bound_range_exceeded = 5 on Kind::Fault;
        invalid_opcode = 6 on Kind::Fault;
        device_not_available = 7 on Kind::Fault;
        double_fault = 8 on Kind::DoubleFault;
        invalid_tss = 10 on Kind::Fault;
        segment_not_present = 11 on Kind::Fault;
        stack_segment_fault = 12 on Kind::Fault;
        general_protection_fault = 13 on Kind::Fault;
        page_fault = 14 on Kind::Fault;
        x87_floating_point = 16 on Kind::Fault;
        alignment_check = 17 on Kind::Fault;
        machine_check = 18 on Kind::MachineCheck;
        simd_floating_point = 19 on Kind::Fault;
        virtualization = 20 on Kind::Fault;
        cp_protection_exception = 21 on Kind::Fault;
        hv_injection_exception = 28 on Kind::Fault;
        vmm_communication_exception = 29 on Kind::Fault;
        security_exception = 30 on Kind::Fault;
    }
    let interrupt = VirtAddr::from_ptr(&raw const basalt_interrupt);
    for entry in idt.slice_mut(32..) {
        set(entry, interrupt, Kind::Fault);
    }
    idt
}

fn exception_address(vector: u64) -> VirtAddr {
    VirtAddr::from_ptr(&raw const basalt_vectors) + vector * VECTOR_LEN
}

fn set<F>(entry: &mut Entry<F>, address: VirtAddr, kind: Kind) {
    // SAFETY: the address is an entry point that follows the exception calling convention, and
    // the stack is one that every core's TSS has.
    unsafe { entry.set_handler_addr(address).set_stack_index(kind.ist_index()) };
}
