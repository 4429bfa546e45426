//! Where text goes: to the serial port and, if there is one, to the screen.

use core::fmt::{self, Write};

use spin::Mutex;

use crate::{screen, serial};

/// Attempts before the console is taken by force: longer than any line takes to print.
const ATTEMPTS_MAX: u32 = 1 << 20;

static CONSOLE: Mutex<Console> = Mutex::new(Console);

/// The right to print.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::write(text);
        screen::write(text);
        Ok(())
    }
}

/// Prints one piece of text that no other core interrupts.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    // Neither can fail.
    let _ = CONSOLE.lock().write_fmt(text);
}

/// Whether nobody on this core is in the middle of printing, where there is no other core: for code
/// that may have interrupted whoever is.
pub fn console_is_free() -> bool {
    CONSOLE.try_lock().is_some()
}

/// Takes the console for good, for the core that reports the end of the run. Waits for its owner
/// for a bounded time only, as that may be the very code that failed.
pub(crate) fn seize() {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(guard) = CONSOLE.try_lock() {
            return core::mem::forget(guard);
        }
        core::hint::spin_loop();
    }
}

/// Prints on the core that called [`seize`].
pub(crate) fn print_in_emergency(text: fmt::Arguments<'_>) {
    let _ = Console.write_fmt(text);
}
