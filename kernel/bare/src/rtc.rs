//! The real-time clock's registers (Motorola MC146818A), through its two ports.

use basalt_env::RtcRegisters;
use time::UtcDateTime;
use x86_64::instructions::port::Port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// Bit 7 of the index masks non-maskable interrupts; they stay on.
const INDEX_MASK: u8 = 0x7f;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
/// Status A: the time is about to change.
const UPDATING: u8 = 1 << 7;
/// Status A: the lowest rate of the periodic signal, every 500 ms.
const SLOWEST: u8 = 0x0f;
/// Status B: the periodic signal is on. Status C: it is what was signalled.
const PERIODIC: u8 = 1 << 6;
/// An update takes 2 ms, in which there is time for a good thousand reads; a clock that always
/// updates is broken.
const READS_MAX: u32 = 100_000;

/// The time of day, by register `century` too if the FADT names one; `None` if there is no clock
/// or it never shows the same time twice.
pub(crate) fn now(century: Option<u8>) -> Option<UtcDateTime> {
    let mut last = read_all(century)?;
    for _ in 0..8 {
        // Two equal readings: no update came in between.
        let again = read_all(century)?;
        if again == last {
            return again.decode();
        }
        last = again;
    }
    None
}

fn read_all(century: Option<u8>) -> Option<RtcRegisters> {
    (0..READS_MAX).find(|_| read(STATUS_A) & UPDATING == 0)?;
    Some(RtcRegisters {
        second: read(0x00),
        minute: read(0x02),
        hour: read(0x04),
        day: read(0x07),
        month: read(0x08),
        year: read(0x09),
        century: century.map(read),
        status_b: read(STATUS_B),
    })
}

/// Has the clock signal every 500 ms. From then on only what that signal calls may use the clock.
pub(crate) fn start_ticks() {
    write(STATUS_A, read(STATUS_A) & !SLOWEST | SLOWEST);
    write(STATUS_B, read(STATUS_B) | PERIODIC);
    take_tick();
}

/// Whether it was the clock that has signalled; it does so again only after this was asked.
pub(crate) fn take_tick() -> bool {
    read(STATUS_C) & PERIODIC != 0
}

#[expect(unsafe_code, reason = "I/O ports")]
fn write(register: u8, value: u8) {
    // SAFETY: the clock's ports on every PC, or nobody's; see `read`. The registers written do not
    // affect memory.
    unsafe {
        Port::<u8>::new(INDEX).write(register & INDEX_MASK);
        Port::<u8>::new(DATA).write(value);
    }
}

#[expect(unsafe_code, reason = "I/O ports")]
fn read(register: u8) -> u8 {
    // SAFETY: the clock's ports on every PC, or nobody's; only start-up on the boot core uses them,
    // and then what its signal calls. Reading a register changes no memory.
    unsafe {
        Port::<u8>::new(INDEX).write(register & INDEX_MASK);
        Port::<u8>::new(DATA).read()
    }
}
