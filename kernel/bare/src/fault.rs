//! The end: a panic or an exception prints what it can and stops the machine.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;
use x86_64::registers::control::{Cr2, Cr3};

use crate::console::{self, print_in_emergency as print};
use crate::exit::{EXIT_FAILURE, exit, halt};
use crate::{apic, backtrace, gdt, machine_check, stack, ticks};

const NOBODY: u32 = u32::MAX;
/// The core that reports the end, once there is one.
static REPORTER: AtomicU32 = AtomicU32::new(NOBODY);

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// The registers as `idt`'s assembly saves them, the last pushed first.
#[repr(C)]
pub(crate) struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Takes over the console and stops the other cores. Returns on the first core that comes here,
/// once.
///
/// A core that comes again, having failed while reporting, stops the machine without another word
/// than that; any other core halts.
fn begin_report() {
    let core = u32::from(gdt::current_core().0);
    match REPORTER.compare_exchange(NOBODY, core, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            console::seize();
            apic::send_nmi_to_others();
        }
        Err(reporter) if reporter == core => {
            print(format_args!("\nfailed again while reporting; stopping\n"));
            exit(EXIT_FAILURE);
        }
        Err(_) => halt(),
    }
}

/// Prints the panic's message, core and backtrace and stops the machine with [`EXIT_FAILURE`].
///
/// For the image's panic handler. A panic while this prints does not recurse.
pub fn report_panic(info: &PanicInfo<'_>) -> ! {
    let frame = backtrace::frame_pointer();
    begin_report();
    print(format_args!("\nPANIC on core {}: {}\n", gdt::current_core(), info.message()));
    if let Some(location) = info.location() {
        print(format_args!("at {location}\n"));
    }
    backtrace::print_from(None, frame);
    print_more();
    print(format_args!("stopped\n"));
    exit(EXIT_FAILURE)
}

/// What prints more than this crate knows, by what it is given.
type Report = fn(print: &dyn Fn(fmt::Arguments<'_>));

static MORE: Once<Report> = Once::new();

/// Has `report` called when the machine stops for a fault or a panic, after the backtrace. It may
/// neither lock nor allocate: whatever failed may have been in the middle of that.
pub fn on_failure(report: Report) {
    MORE.call_once(|| report);
}

fn print_more() {
    if let Some(report) = MORE.get() {
        report(&|text| print(text));
    }
}

/// Every exception comes here, on its own stack. All but a tick are the end.
pub(crate) extern "C" fn exception(frame: &TrapFrame) {
    if frame.vector == NMI && REPORTER.load(Ordering::Acquire) != NOBODY {
        halt();
    }
    if frame.vector == NMI && ticks::take() {
        return;
    }
    begin_report();
    print_cause(frame);
    print_registers(frame);
    backtrace::print_from(Some(frame.rip), frame.rbp);
    print_more();
    print(format_args!("stopped\n"));
    exit(EXIT_FAILURE)
}

fn print_cause(frame: &TrapFrame) {
    let name = usize::try_from(frame.vector).ok().and_then(|vector| NAMES.get(vector));
    let name = name.copied().unwrap_or("unknown exception");
    let core = gdt::current_core();
    let error = frame.error;
    print(format_args!("\nFAULT on core {core}: {name}, error code {error:#x}\n"));
    let address = Cr2::read_raw();
    if frame.vector == DOUBLE_FAULT && stack::is_guard(address) {
        print(format_args!("address {address:#x}: the stack overflowed into its guard page\n"));
    }
    if frame.vector == MACHINE_CHECK {
        machine_check::print_errors();
    }
    if frame.vector != PAGE_FAULT {
        return;
    }
    let what = match error {
        _ if stack::is_guard(address) => "the stack overflowed into its guard page",
        _ if address < crate::memory::PAGE => "null pointer",
        _ if error & 1 == 0 => "nothing is mapped there",
        _ if error & 16 != 0 => "that memory is not executable",
        _ if error & 2 != 0 => "that memory is read-only",
        _ => "that access is not allowed",
    };
    let access = match error {
        _ if error & 16 != 0 => "execute",
        _ if error & 2 != 0 => "write",
        _ => "read",
    };
    print(format_args!("{access} of address {address:#x}: {what}\n"));
}

fn print_registers(f: &TrapFrame) {
    let cr3 = Cr3::read_raw().0.start_address().as_u64();
    print(format_args!("rip {:016x}  rsp {:016x}  rbp {:016x}\n", f.rip, f.rsp, f.rbp));
    print(format_args!("rax {:016x}  rbx {:016x}  rcx {:016x}\n", f.rax, f.rbx, f.rcx));
    print(format_args!("rdx {:016x}  rsi {:016x}  rdi {:016x}\n", f.rdx, f.rsi, f.rdi));
    print(format_args!("r8  {:016x}  r9  {:016x}  r10 {:016x}\n", f.r8, f.r9, f.r10));
    print(format_args!("r11 {:016x}  r12 {:016x}  r13 {:016x}\n", f.r11, f.r12, f.r13));
    print(format_args!("r14 {:016x}  r15 {:016x}  cr3 {:016x}\n", f.r14, f.r15, cr3));
    print(format_args!("rflags {:x}  cs {:x}  ss {:x}\n", f.rflags, f.cs, f.ss));
}

/// SDM volume 3 table 6-1, AMD volume 2 table 8-1.
const NAMES: [&str; 32] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved exception 15",
    "x87 floating point",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualization",
    "control protection",
    "reserved exception 22",
    "reserved exception 23",
    "reserved exception 24",
    "reserved exception 25",
    "reserved exception 26",
    "reserved exception 27",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved exception 31",
];
