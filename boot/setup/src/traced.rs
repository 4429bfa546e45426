//! What a core has traced, for when the machine stops for a fault.

use core::fmt;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_reactor::Cores;

/// Entries printed of each core, and how long before the last they may be.
const ENTRIES: u64 = 64;
const AGE: Duration = Duration::from_secs(3);

/// Prints the last entries of `core`'s tracepoints, if any is on.
pub fn print_traced(cores: &Cores, core: CoreId, print: &dyn Fn(fmt::Arguments<'_>)) {
    let Some(ring) = cores.traced(core) else { return };
    print(format_args!("core {core} has traced {} events, at last:\n", ring.written()));
    for line in cores.last_traced(core, &ring, ENTRIES, AGE) {
        print(format_args!("  {line}\n"));
    }
    // To free it is nobody's concern any more.
    ::core::mem::forget(ring);
}
