#![expect(unsafe_code, reason = "port input and output")]

//! Stopping the machine.

use spin::Once;
use x86_64::instructions::port::Port;

/// The run ended as it should.
pub const EXIT_SUCCESS: u8 = 0;
/// The machine panicked or faulted.
pub const EXIT_FAILURE: u8 = 1;

/// QEMU's `isa-debug-exit`: ends QEMU with status `2 * value + 1`.
const DEBUG_EXIT: u16 = 0xf4;
/// PM1 control: enter the sleep state now (ACPI §4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;

/// How ACPI turns the machine off: PM1 control ports and the value that means S5.
#[derive(Clone, Copy)]
pub(crate) struct SoftOff {
    pub(crate) pm1a_control: u16,
    pub(crate) pm1b_control: Option<u16>,
    /// SLP_TYPa and SLP_TYPb of `\_S5`, 3 bits each.
    pub(crate) sleep_types: (u8, u8),
}

static SOFT_OFF: Once<SoftOff> = Once::new();

/// Tells [`exit`] how to turn the machine off.
pub(crate) fn set_soft_off(soft_off: SoftOff) {
    SOFT_OFF.call_once(|| soft_off);
}

/// Stops the machine with status `code`.
///
/// Under QEMU with `isa-debug-exit` at port 0xf4, QEMU ends with status `2 * code + 1`. Elsewhere
/// the machine is turned off, or if that fails this core halts for good.
pub fn exit(code: u8) -> ! {
    // SAFETY: the port is that device or nothing; where nothing answers it reads as all ones.
    unsafe {
        let mut port = Port::<u8>::new(DEBUG_EXIT);
        if port.read() != u8::MAX {
            port.write(code);
        }
    }
    power_off()
}

/// Turns the machine off by ACPI (S5); halts this core for good if that does not work.
pub fn power_off() -> ! {
    if let Some(soft_off) = SOFT_OFF.get() {
        sleep(soft_off.pm1a_control, soft_off.sleep_types.0);
        if let Some(port) = soft_off.pm1b_control {
            sleep(port, soft_off.sleep_types.1);
        }
    }
    halt()
}

fn sleep(port: u16, sleep_type: u8) {
    let value = u16::from(sleep_type & 7) << 10 | SLEEP_ENABLE;
    // SAFETY: the FADT names the port as PM1 control; the write turns the machine off.
    unsafe { Port::<u16>::new(port).write(value) }
}

/// Halts this core for good.
pub(crate) fn halt() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        x86_64::instructions::hlt();
    }
}
