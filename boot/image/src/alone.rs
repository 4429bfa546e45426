//! A machine with one core, which nobody else looks at: the clock does, by interrupting it.

use basalt_bare::{Clock, Machine, console_is_free};
use basalt_env::CoreId;
use basalt_reactor::{Cores, Watch};
use spin::{Mutex, Once};

static ALONE: Once<Mutex<Alone>> = Once::new();

struct Alone {
    watch: Watch,
    cores: Cores,
    clock: Clock,
}

/// Tells of a poller, task or event that takes too long, if the machine's core is alone.
pub fn look_after(machine: &Machine, cores: Cores) {
    let (watch, clock) = (Watch::new(CoreId::BOOT), machine.clock());
    ALONE.call_once(|| Mutex::new(Alone { watch, cores, clock }));
    machine.look_at_only_core(look);
}

/// In the middle of whatever the core does.
fn look() {
    // What it does may be to print; the next look is soon enough.
    if !console_is_free() {
        return;
    }
    let Some(mut alone) = ALONE.get().and_then(Mutex::try_lock) else { return };
    let Alone { watch, cores, clock } = &mut *alone;
    if let Some(report) = watch.look(clock.now(), cores) {
        report.log(CoreId::BOOT);
    }
}
