//! What every core does for ever: turns of its reactor, which rests when there is nothing to do.

use basalt_bare::{Clock, rest};
use basalt_reactor::Reactor;

/// Turns `reactor` for ever.
pub fn run(clock: Clock, reactor: &mut Reactor) -> ! {
    loop {
        reactor.turn(|| clock.now(), rest);
    }
}
