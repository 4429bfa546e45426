#![expect(unsafe_code, reason = "port input and output")]

//! The serial port: a 16550 UART at COM1, 115,200 baud, 8N1, written by polling.

use x86_64::instructions::port::Port;

/// The first of COM1's eight ports.
const COM1: u16 = 0x3f8;
/// Line status: the transmitter takes another byte.
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Polls before a byte is given up: longer than a byte takes at 115,200 baud on any machine.
const POLLS_MAX: u32 = 1 << 20;

/// The UART's ports.
struct Uart;

impl Uart {
    fn set(register: u16, value: u8) {
        // SAFETY: COM1's ports belong to this module alone and cannot affect memory.
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

/// Sets the line to 115,200 baud, 8N1, with FIFOs and without interrupts.
pub(crate) fn init() {
    // Interrupts off; divisor latch; divisor 1; 8N1; FIFOs on and cleared; DTR, RTS.
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
        Uart::set(register, value);
    }
}

/// Writes `text`. Whoever calls it has the console.
pub(crate) fn write(text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            Uart::put(b'\r');
        }
        Uart::put(byte);
    }
}
