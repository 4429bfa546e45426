//! A look at the only core every 500 ms, whatever it does: the real-time clock's signal as a
//! non-maskable interrupt. Where there are several cores they look at each other, and there are no
//! ticks.

use spin::Once;

use crate::ioapic::{self, IoApic, Signal};
use crate::rtc;

static LOOK: Once<fn()> = Once::new();

/// Has `look` called every 500 ms on the core with this APIC identifier, in the middle of whatever
/// it does. `None` if the machine has no such signal.
pub(crate) fn start(
    io_apics: &[IoApic],
    signal: Option<Signal>,
    apic_id: u32,
    look: fn(),
) -> Option<()> {
    LOOK.call_once(|| look);
    ioapic::deliver_as_nmi(io_apics, signal?, apic_id)?;
    rtc::start_ticks();
    Some(())
}

/// Whether the non-maskable interrupt that has just come is a tick. If so, it was seen to.
pub(crate) fn take() -> bool {
    let Some(look) = LOOK.get().filter(|_| rtc::take_tick()) else {
        return false;
    };
    look();
    true
}
