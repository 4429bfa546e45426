#![expect(unsafe_code, reason = "starts other cores")]

//! Starting the other cores (SDM volume 3 §9.4): INIT, then a start-up message that names a page
//! below 1 MiB, where the core begins in real mode.
//!
//! Cores are started one after another. The trampoline in that page takes a core to 64-bit mode
//! and to [`core_entry`](self) in the image, where it *claims* its start: it swaps its own APIC
//! identifier in [`Mailbox::expected`] for nobody's. A core that was given up on cannot claim any
//! more, however late it arrives, and halts without having touched a stack.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use crate::clock::{Clock, ticks};
use crate::paging::ADDRESS_SPACE;
use crate::stack::{self, CORES_MAX, Kind};
use crate::{apic, cpu, gdt, idt};

/// How long a core may take to arrive, and then to be ready.
const START_TIMEOUT: Duration = Duration::from_millis(500);
/// Between INIT and the start-up message, and between the two start-up messages.
const INIT_DELAY: Duration = Duration::from_millis(10);
const STARTUP_DELAY: Duration = Duration::from_micros(200);
/// Counters further apart than this would make time jump between cores.
const SKEW_MAX: Duration = Duration::from_micros(100);

const NOBODY: u32 = u32::MAX;

/// What a starting core reads.
#[repr(C)]
struct Mailbox {
    /// The APIC identifier of the core that may start, or [`NOBODY`].
    expected: AtomicU32,
    /// Its index.
    core: AtomicU32,
    /// Where its stack ends.
    stack_top: AtomicU64,
    /// Its time-stamp counter when it was ready; zero until then.
    ready_at: AtomicU64,
}

static MAILBOX: Mailbox = Mailbox {
    expected: AtomicU32::new(NOBODY),
    core: AtomicU32::new(0),
    stack_top: AtomicU64::new(0),
    ready_at: AtomicU64::new(0),
};

/// What each core is to run, once it is known. Points at a [`Job`].
static JOBS: [AtomicPtr<Job>; CORES_MAX] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; CORES_MAX];

/// What a core runs for the rest of the run: `call(data)`.
pub(crate) struct Job {
    /// Called once, on the core it is for.
    pub(crate) call: unsafe extern "C" fn(*mut u8) -> !,
    /// Owned by the call.
    pub(crate) data: *mut u8,
}

// The trampoline, in AT&T syntax for its 16-bit half. Copied to a page below 1 MiB; all addresses
// are relative to its start, except the parameters that `Parameters` fills in.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\", @progbits",
    ".balign 16",
    "basalt_trampoline:",
    ".code16",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "lgdtl basalt_trampoline_gdt_pointer - basalt_trampoline",
    // CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: LME, NXE. CR0: PG, WP, NE, ET, MP, PE; caches on.
    "movl $0x620, %eax",
    "movl %eax, %cr4",
    "movl basalt_trampoline_parameters - basalt_trampoline, %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    "movl $0x80010033, %eax",
    "movl %eax, %cr0",
    "ljmpl *(basalt_trampoline_far - basalt_trampoline)",
    ".code64",
    "basalt_trampoline_64:",
    "movl $16, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    "xorl %eax, %eax",
    "movl %eax, %fs",
    "movl %eax, %gs",
    "jmpq *basalt_trampoline_entry(%rip)",
    ".balign 8",
    // Marked as accessed, as the processor could not mark them in a read-only page.
    "basalt_trampoline_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "basalt_trampoline_parameters: .long 0",
    "basalt_trampoline_far: .long 0",
    ".word 8",
    "basalt_trampoline_gdt_pointer: .word 23",
    ".long 0",
    "basalt_trampoline_entry: .quad 0",
    "basalt_trampoline_end:",
    ".popsection",
    options(att_syntax),
);

// Claims the start, then takes the stack. Leaf 0xb of CPUID has the whole APIC identifier, where
// it exists.
global_asm!(
    ".pushsection .text.core_entry, \"ax\", @progbits",
    ".balign 16",
    "basalt_core_entry:",
    "xor eax, eax",
    "cpuid",
    "cmp eax, 11",
    "jb 2f",
    "mov eax, 11",
    "xor ecx, ecx",
    "cpuid",
    "test ebx, ebx",
    "jnz 3f",
    "2: mov eax, 1",
    "cpuid",
    "shr ebx, 24",
    "mov edx, ebx",
    "3: mov eax, edx",
    "mov edx, {nobody}",
    "lea rsi, [rip + {mailbox}]",
    "lock cmpxchg [rsi + {expected}], edx",
    "jne 4f",
    "mov rsp, [rsi + {stack_top}]",
    "mov edi, [rsi + {core}]",
    "xor ebp, ebp",
    "call {main}",
    "4: cli",
    "hlt",
    "jmp 4b",
    ".popsection",
    nobody = const NOBODY as i32,
    mailbox = sym MAILBOX,
    expected = const offset_of!(Mailbox, expected),
    stack_top = const offset_of!(Mailbox, stack_top),
    core = const offset_of!(Mailbox, core),
    main = sym core_main,
);

unsafe extern "C" {
    static basalt_trampoline: u8;
    static basalt_trampoline_64: u8;
    static basalt_trampoline_gdt: u8;
    static basalt_trampoline_parameters: u8;
    static basalt_trampoline_end: u8;
    static basalt_core_entry: u8;
}

/// What the copied trampoline has to know, as laid out behind its code.
#[repr(C, packed)]
struct Parameters {
    root: u32,
    far_offset: u32,
    far_selector: u16,
    gdt_limit: u16,
    gdt_base: u32,
    entry: u64,
}

/// Copies the trampoline to the free page at `page` and makes it executable.
///
/// `None` if the page tables lie too high for a core that begins with 32-bit addresses.
pub(crate) fn prepare(page: u64) -> Option<()> {
    let start = (&raw const basalt_trampoline).addr();
    let offset = |label: *const u8| (label.addr() - start) as u64;
    let mut space = ADDRESS_SPACE.lock();
    let space = space.as_mut()?;
    let parameters = Parameters {
        root: u32::try_from(space.root()).ok()?,
        far_offset: (page + offset(&raw const basalt_trampoline_64)) as u32,
        far_selector: 8,
        gdt_limit: 23,
        gdt_base: (page + offset(&raw const basalt_trampoline_gdt)) as u32,
        entry: (&raw const basalt_core_entry).addr() as u64,
    };
    let len = offset(&raw const basalt_trampoline_end) as usize;
    let parameters_at = page + offset(&raw const basalt_trampoline_parameters);
    // SAFETY: the page is free, mapped and writable; the trampoline is shorter than a page, and
    // the parameters are the last part of it.
    unsafe {
        core::ptr::copy_nonoverlapping(&raw const basalt_trampoline, page as *mut u8, len);
        (parameters_at as *mut Parameters).write_unaligned(parameters);
    }
    space.make_executable(page);
    Some(())
}

/// Starts the core with this APIC identifier as `core`, whose stacks and TSS are set up.
pub(crate) fn start(
    core: usize,
    apic_id: u32,
    page: u64,
    clock: &Clock,
    message: Message,
) -> Result<(), NoStart> {
    MAILBOX.core.store(core as u32, Ordering::Relaxed);
    MAILBOX.stack_top.store(stack::span(core, Kind::Main).end, Ordering::Relaxed);
    MAILBOX.ready_at.store(0, Ordering::Relaxed);
    MAILBOX.expected.store(apic_id, Ordering::Release);
    let sent_at = ticks();
    apic::send_init(apic_id);
    clock.delay(INIT_DELAY);
    if message == Message::Sent {
        apic::send_startup(apic_id, page);
        if !is_claimed_within(clock, STARTUP_DELAY) {
            apic::send_startup(apic_id, page);
        }
    }
    if !is_claimed_within(clock, START_TIMEOUT) {
        let expected = &MAILBOX.expected;
        let given_up =
            expected.compare_exchange(apic_id, NOBODY, Ordering::AcqRel, Ordering::Acquire);
        if given_up.is_ok() {
            return Err(NoStart::Silent);
        }
    }
    let ready_at = wait_until_ready(clock).ok_or(NoStart::Stuck)?;
    warn_of_skew(core, clock, sent_at, ready_at);
    Ok(())
}

/// What becomes of the start-up message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Sent,
    /// For a drill: the core will never hear of it.
    Withheld,
}

/// Why a core was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoStart {
    /// It did not react to the start-up messages.
    Silent,
    /// It reacted but did not become ready; its stack cannot be used again.
    Stuck,
}

fn is_claimed_within(clock: &Clock, timeout: Duration) -> bool {
    wait(clock, timeout, || (MAILBOX.expected.load(Ordering::Acquire) == NOBODY).then_some(()))
        .is_some()
}

fn wait_until_ready(clock: &Clock) -> Option<u64> {
    wait(clock, START_TIMEOUT, || {
        Some(MAILBOX.ready_at.load(Ordering::Acquire)).filter(|&ticks| ticks != 0)
    })
}

fn wait<T>(clock: &Clock, timeout: Duration, ready: impl Fn() -> Option<T>) -> Option<T> {
    let end = clock.now() + timeout;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if clock.now() > end {
            return None;
        }
        core::hint::spin_loop();
    }
}

/// The core was ready after it was sent for and before now, by the clock's own reckoning.
fn warn_of_skew(core: usize, clock: &Clock, sent_at: u64, ready_at: u64) {
    let (sent, ready, now) = (clock.at(sent_at), clock.at(ready_at), clock.now());
    let skew = sent.since(ready).max(ready.since(now));
    if skew > SKEW_MAX {
        log::warn!("the clock of core {core} is out of step by {} us", skew.as_micros());
    }
}

/// The first Rust on a started core: sets it up, says that it is ready and waits for its job.
unsafe extern "C" fn core_main(core: u32) -> ! {
    let core = core as usize;
    cpu::init_core();
    gdt::load(core);
    idt::load();
    apic::init_core();
    MAILBOX.ready_at.store(ticks().max(1), Ordering::Release);
    loop {
        let job = JOBS[core].load(Ordering::Acquire);
        if !job.is_null() {
            // SAFETY: `set_job` published a job that lives for good, for this core alone.
            unsafe { ((*job).call)((*job).data) }
        }
        core::hint::spin_loop();
    }
}

/// Lets the waiting `core` run `job`.
pub(crate) fn set_job(core: usize, job: &'static mut Job) {
    JOBS[core].store(job, Ordering::Release);
}

/// Leaves the boot stack for the boot core's main stack and runs `job` there.
pub(crate) fn run_on_boot_core(job: Job) -> ! {
    let top = stack::span(0, Kind::Main).end;
    // SAFETY: the stack is mapped, aligned and unused; nothing on the old one is needed again as
    // the call does not return. The call pushes a return address of its own.
    unsafe {
        core::arch::asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {call}",
            "ud2",
            top = in(reg) top,
            call = in(reg) job.call,
            in("rdi") job.data,
            options(noreturn),
        )
    }
}
