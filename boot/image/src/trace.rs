//! What every core did last, printed when the machine stops for a fault.

use core::fmt;

use basalt_env::CoreId;
use basalt_reactor::Cores;
use spin::Once;

/// Lines printed of each core.
const LINES: usize = 12;

static CORES: Once<Cores> = Once::new();

/// Has it printed for these cores from now on.
pub fn print_on_failure(cores: Cores) {
    CORES.call_once(|| cores);
    basalt_bare::on_failure(print_all);
}

fn print_all(print: &dyn Fn(fmt::Arguments<'_>)) {
    let Some(cores) = CORES.get() else { return };
    for core in (0..cores.len()).map(|core| CoreId(core as u16)) {
        let now = cores.running(core).unwrap_or("no poller, task or event");
        print(format_args!("core {core} was in {now}; before that:\n"));
        let count = cores.trace(core).count();
        for line in cores.trace(core).skip(count.saturating_sub(LINES)) {
            print(format_args!("  {line}\n"));
        }
        basalt_setup::print_traced(cores, core, print);
    }
}
