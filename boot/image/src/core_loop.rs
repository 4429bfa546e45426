//! What every core does for ever: poll its reactor, and rest when there has been nothing to do.

use core::time::Duration;

use basalt_bare::{Clock, cpu_relax, rest};
use basalt_env::Instant;
use basalt_reactor::Reactor;

/// A core that found nothing for this long begins to rest between rounds.
const IDLE_BEFORE_REST: Duration = Duration::from_millis(1);

/// How long a rest lasts at most: nothing but the clock ends it, as no device interrupts. It bounds
/// the delay of the first request after a quiet time.
const REST_MAX: Duration = Duration::from_micros(100);

/// Polls `reactor` for ever.
pub fn run(clock: Clock, reactor: &mut Reactor) -> ! {
    let mut busy_at = clock.now();
    loop {
        let now = clock.now();
        if reactor.poll(now).is_busy() {
            busy_at = now;
        } else if now.since(busy_at) < IDLE_BEFORE_REST {
            cpu_relax();
        } else {
            rest(rest_for(reactor, now));
        }
    }
}

/// Up to the next timer, within [`REST_MAX`].
fn rest_for(reactor: &Reactor, now: Instant) -> Duration {
    reactor.next_deadline().map_or(REST_MAX, |at| at.since(now).min(REST_MAX))
}
