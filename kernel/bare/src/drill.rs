#![expect(unsafe_code, reason = "fails on purpose")]

//! Failing on purpose, to prove that failures are reported: the machine is asked to by the fw_cfg
//! file `opt/basalt/fault`, which names a [`Drill`].

use core::hint::black_box;

use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use crate::fw_cfg;

const FILE: &str = "opt/basalt/fault";

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drill {
    /// `panic`: a Rust panic.
    Panic,
    /// `page-fault`: reads memory that does not exist.
    PageFault,
    /// `null`: reads through a null pointer.
    Null,
    /// `write-code`: writes to the image's own code.
    WriteCode,
    /// `execute-data`: calls bytes on the heap.
    ExecuteData,
    /// `stack-overflow`: recurses without end.
    StackOverflow,
    /// `double-fault`: an exception that cannot be delivered.
    DoubleFault,
    /// `stall`: a poller that takes seconds; left to the reactor's owner.
    Stall,
    /// `stray-dma`: a device that writes where it must not; left to who has devices.
    StrayDma,
    /// `silent-core`: the second core is not told to start.
    SilentCore,
    /// `heap`: allocates more than there is.
    Heap,
}

/// Where and when a drill takes place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// On the last core, before it does anything else.
    LastCore,
    /// `late`: on the last core, from a task, once all cores run.
    Late,
    /// `boot`: on the boot core, from a task.
    BootCore,
}

/// The drill that was asked for, if any: its name, and one of its setting if it is not the usual.
pub fn requested() -> Option<(Drill, Setting)> {
    let text = fw_cfg::read(FILE)?;
    let mut words = text.split(u8::is_ascii_whitespace);
    let name = words.next().unwrap_or_default();
    let setting = match words.next().unwrap_or_default() {
        b"late" => Setting::Late,
        b"boot" => Setting::BootCore,
        _ => Setting::LastCore,
    };
    let drill = match name {
        b"panic" => Drill::Panic,
        b"page-fault" => Drill::PageFault,
        b"null" => Drill::Null,
        b"write-code" => Drill::WriteCode,
        b"execute-data" => Drill::ExecuteData,
        b"stack-overflow" => Drill::StackOverflow,
        b"double-fault" => Drill::DoubleFault,
        b"stall" => Drill::Stall,
        b"stray-dma" => Drill::StrayDma,
        b"silent-core" => Drill::SilentCore,
        b"heap" => Drill::Heap,
        _ => {
            log::warn!("{FILE} names no drill");
            return None;
        }
    };
    Some((drill, setting))
}

/// Fails in the way named.
pub fn provoke(drill: Drill) -> ! {
    log::warn!("drill: {drill:?}");
    match drill {
        Drill::Panic => panic!("a drill, as {FILE} asks"),
        Drill::PageFault => read(0x0000_7000_0000_0000),
        Drill::Null => read(8),
        Drill::WriteCode => write(provoke as *const () as u64),
        Drill::ExecuteData => execute(),
        Drill::StackOverflow => drop(black_box(recurse(1))),
        Drill::DoubleFault => fault_twice(),
        Drill::Stall | Drill::StrayDma | Drill::SilentCore => {
            panic!("not a drill of this core alone")
        }
        Drill::Heap => drop(black_box(alloc::vec![1_u8; 1 << 40])),
    }
    panic!("the drill {drill:?} did not fail")
}

#[inline(never)]
fn read(address: u64) {
    // SAFETY: not safe, on purpose: nothing is mapped there, and the machine stops.
    black_box(unsafe { (black_box(address) as *const u64).read_volatile() });
}

#[inline(never)]
fn write(address: u64) {
    // SAFETY: not safe, on purpose: code is read-only, and the machine stops.
    unsafe { (black_box(address) as *mut u8).write_volatile(0) };
}

#[inline(never)]
fn execute() {
    const RETURN: u8 = 0xc3;
    let code: &'static [u8] = black_box(alloc::vec![RETURN; 16]).leak();
    // SAFETY: not safe, on purpose: data is not executable, and the machine stops. If it were, the
    // code would return at once.
    let function: extern "C" fn() = unsafe { core::mem::transmute(code.as_ptr()) };
    function();
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the drill is to overflow the stack")]
fn recurse(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    recurse(here[63] + 1) + black_box(here)[0]
}

/// An invalid opcode, whose missing descriptor is an exception, which has none either.
fn fault_twice() {
    #[repr(C, align(16))]
    struct Table([u128; 9]);
    const LAST: usize = 8;
    let current = x86_64::instructions::tables::sidt();
    let mut table = Table([0; 9]);
    // SAFETY: the current table has 256 descriptors of 16 bytes. The new one, good for nothing
    // but a double fault, outlives its use: the machine stops.
    unsafe {
        table.0[LAST] = current.base.as_ptr::<u128>().add(LAST).read_unaligned();
        let limit = (size_of::<Table>() - 1) as u16;
        lidt(&DescriptorTablePointer {
            limit,
            base: x86_64::VirtAddr::from_ptr(black_box(&raw const table)),
        });
        core::arch::asm!("ud2");
    }
}
