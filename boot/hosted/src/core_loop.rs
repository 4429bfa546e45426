//! What every core does: turns of its reactor, which sleeps when there is nothing to do.

use basalt_hosted::{Clock, Readiness};
use basalt_reactor::Reactor;

use crate::ending::Ending;

/// Turns `reactor` until the program is to end.
pub fn run(clock: Clock, reactor: &mut Reactor, readiness: &Readiness, ending: &Ending) {
    while !ending.asked() {
        reactor.turn(|| clock.now(), |at_most| readiness.sleep(at_most));
    }
}
