//! What every core does: poll its reactor, and sleep when there has been nothing to do.

use std::time::Duration;

use basalt_env::Instant;
use basalt_hosted::{Clock, Readiness};
use basalt_reactor::Reactor;

use crate::ending::Ending;

/// A core that found nothing for this long begins to sleep between rounds.
const IDLE_BEFORE_REST: Duration = Duration::from_millis(1);

/// How long a sleep lasts at most: sockets and files end it at once, events of other cores do not.
const REST_MAX: Duration = Duration::from_micros(500);

/// Polls `reactor` until the program is to end.
pub fn run(clock: Clock, reactor: &mut Reactor, readiness: &Readiness, ending: &Ending) {
    let mut busy_at = clock.now();
    while !ending.asked() {
        let now = clock.now();
        if reactor.poll(now).is_busy() {
            busy_at = now;
        } else if now.since(busy_at) < IDLE_BEFORE_REST {
            std::hint::spin_loop();
        } else {
            readiness.sleep(rest_for(reactor, now));
        }
    }
}

/// Up to the next timer, within [`REST_MAX`].
fn rest_for(reactor: &Reactor, now: Instant) -> Duration {
    reactor.next_deadline().map_or(REST_MAX, |at| at.since(now).min(REST_MAX))
}
