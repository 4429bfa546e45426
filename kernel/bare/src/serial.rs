#![expect(unsafe_code, reason = "port input and output")]

//! The serial console: a 16550 UART at COM1, 115,200 baud, 8N1, written by polling.

use core::fmt::{self, Write};

use spin::Mutex;
use x86_64::instructions::port::Port;

/// The first of COM1's eight ports.
const COM1: u16 = 0x3f8;
/// Line status: the transmitter takes another byte.
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Polls before a byte is given up: longer than a byte takes at 115,200 baud on any machine.
const POLLS_MAX: u32 = 1 << 20;

static CONSOLE: Mutex<Uart> = Mutex::new(Uart);

/// The UART's ports.
struct Uart;

impl Uart {
    fn set(register: u16, value: u8) {
        // SAFETY: COM1's ports belong to the console alone and cannot affect memory.
        unsafe { Port::<u8>::new(COM1 + register).write(value) }
    }

    fn status() -> u8 {
        // SAFETY: as in `set`; reading the line status has no effect on memory.
        unsafe { Port::<u8>::new(COM1 + 5).read() }
    }

    fn put(byte: u8) {
        for _ in 0..POLLS_MAX {
            if Self::status() & TRANSMITTER_EMPTY != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        Self::set(0, byte);
    }
}

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                Self::put(b'\r');
            }
            Self::put(byte);
        }
        Ok(())
    }
}

/// Sets the line to 115,200 baud, 8N1, with FIFOs and without interrupts.
pub(crate) fn init() {
    // Interrupts off; divisor latch; divisor 1; 8N1; FIFOs on and cleared; DTR, RTS.
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
        Uart::set(register, value);
    }
}

/// Prints one piece of text that no other core interrupts.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    // The UART cannot fail.
    let _ = CONSOLE.lock().write_fmt(text);
}

/// Takes the console for good, for the core that reports the end of the run. Waits for its owner
/// for a bounded time only, as that may be the very code that failed.
pub(crate) fn seize() {
    for _ in 0..POLLS_MAX {
        if let Some(guard) = CONSOLE.try_lock() {
            return core::mem::forget(guard);
        }
        core::hint::spin_loop();
    }
}

/// Prints on the core that called [`seize`].
pub(crate) fn print_in_emergency(text: fmt::Arguments<'_>) {
    let _ = Uart.write_fmt(text);
}
