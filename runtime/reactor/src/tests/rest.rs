use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::{Doze, REST_AFTER_DEFAULT, Rest};

/// A core with a clock that stands still between turns; how long it rested in each.
struct Sleepy {
    reactor: Reactor,
    now: Instant,
}

impl Sleepy {
    fn new() -> Self {
        let core = Self::unsettled();
        core.reactor.local().mesh().settle();
        core
    }

    /// While its machine is being set up.
    fn unsettled() -> Self {
        Self { reactor: mesh(1, Options::default()).remove(0).build(), now: Instant::ZERO }
    }

    /// A turn `us` microseconds after the last.
    fn turn_after(&mut self, us: u64) -> Option<Duration> {
        self.now = self.now + Duration::from_micros(us);
        let (now, mut rested) = (self.now, None);
        self.reactor.turn(|| now, |duration| rested = Some(duration));
        rested
    }

    /// Turns until it rests; how long it may.
    fn rest(&mut self) -> Duration {
        (0..100).find_map(|_| self.turn_after(100)).expect("it does not rest")
    }
}

#[test]
fn a_core_rests_once_it_has_found_nothing_for_long_enough() {
    let mut core = Sleepy::new();
    let after = REST_AFTER_DEFAULT.as_micros() as u64;
    assert_eq!(core.turn_after(after - 1), None);
    assert_eq!(core.turn_after(1), None, "its sources are told first");
    assert_eq!(core.turn_after(1), Some(Duration::from_secs(1)));
    assert_eq!(core.turn_after(1), Some(Duration::from_secs(1)), "and it goes on");
    core.turn_after(1_000_000);
    let stats = core.reactor.stats();
    assert_eq!((stats.rests, stats.woken), (3, 1), "one ended after a microsecond");
}

#[test]
fn rests_are_short_and_nobody_is_told_until_all_is_set_up() {
    let mut core = Sleepy::unsettled();
    let told = Rc::new(Cell::new(0));
    let count = Rc::clone(&told);
    core.reactor.local().on_rest(move |_, _| {
        count.set(count.get() + 1);
        Doze::Signalled
    });
    assert_eq!(core.rest(), Duration::from_micros(100));
    assert_eq!(core.turn_after(100), Some(Duration::from_micros(100)));
    assert!(!core.reactor.bedside().bell.must_ring());
    assert_eq!(told.get(), 0);
    core.reactor.local().mesh().settle();
    assert_eq!(core.turn_after(100), None, "they are told now");
    assert_eq!(told.get(), 1);
    assert_eq!(core.turn_after(1), Some(Duration::from_secs(1)));
    core.reactor.local().mesh().unsettle();
    assert_eq!(core.turn_after(1), None);
    assert_eq!(told.get(), 2, "that rests are over");
    assert_eq!(core.turn_after(1), Some(Duration::from_micros(100)));
}

#[test]
fn work_ends_the_rest_and_the_count_begins_anew() {
    let mut core = Sleepy::new();
    core.rest();
    core.reactor.local().send(CoreId(0), |_| {}).unwrap();
    assert_eq!(core.turn_after(1), None);
    assert_eq!(core.turn_after(500), None);
    core.rest();
}

#[test]
fn work_that_the_clock_brings_does_not_keep_the_core_up() {
    let mut core = Sleepy::new();
    let local = core.reactor.local();
    let runs = Rc::new(Cell::new(0));
    let counted = Rc::clone(&runs);
    local
        .timed_poller("tick", Duration::from_millis(50), move |_| {
            counted.set(counted.get() + 1);
            Work(1)
        })
        .detach();
    let rest = core.rest();
    assert_eq!(core.turn_after(rest.as_micros() as u64), None, "the poller runs");
    assert!(core.turn_after(1).is_some(), "and the core rests on");
    assert_eq!(runs.get(), 1);
}

#[test]
fn a_time_that_a_source_has_named_and_that_has_passed_is_asked_for_anew() {
    let mut core = Sleepy::new();
    let named = Rc::new(Cell::new(Instant::from_ns(20_000_000)));
    let asked = Rc::clone(&named);
    core.reactor.local().on_rest(move |_, _| Doze::Until(asked.get()));
    let rest = core.rest();
    assert!(rest < Duration::from_millis(20), "{rest:?}");
    // Nothing is found then, but the source has another time to wait for.
    named.set(Instant::from_ns(60_000_000));
    assert_eq!(core.turn_after(rest.as_micros() as u64), None);
    let rest = core.turn_after(1).unwrap();
    assert!((30..60).contains(&rest.as_millis()), "{rest:?}");
}

#[test]
fn work_that_follows_what_the_clock_brought_does() {
    let mut core = Sleepy::new();
    let local = core.reactor.local();
    let later = local.clone();
    local.spawn("twice", async move {
        later.sleep(Duration::from_millis(50)).await;
        crate::yield_now().await;
    });
    let rest = (0..100).find_map(|_| core.turn_after(100)).unwrap();
    assert_eq!(core.turn_after(rest.as_micros() as u64), None, "the task wakes");
    assert_eq!(core.turn_after(1), None, "and goes on");
    assert_eq!(core.turn_after(1), None, "so the core polls for a while");
}

#[test]
fn work_that_comes_at_the_last_moment_is_found() {
    let mut core = Sleepy::new();
    core.rest();
    let local = core.reactor.local();
    let runs = Rc::new(Cell::new(0));
    // Its bell rings from the first moment of the round on.
    let (counted, bedside) = (Rc::clone(&runs), core.reactor.bedside());
    let poller = local.poller("late", move |_| {
        counted.set(counted.get() + 1);
        Work(u32::from(bedside.bell.must_ring()))
    });
    assert_eq!(core.turn_after(1), None);
    assert_eq!(core.turn_after(1), None, "it is awake");
    assert_eq!(runs.get(), 2);
    drop(poller);
}

#[test]
fn sources_are_told_once_and_decide_how_long_a_rest_lasts() {
    let mut core = Sleepy::new();
    let local = core.reactor.local();
    let told = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&told);
    let answer = Rc::new(Cell::new(Doze::Polled));
    let given = Rc::clone(&answer);
    local.on_rest(|_, _| Doze::Signalled);
    local.on_rest(move |_, rest| {
        noted.borrow_mut().push(rest);
        given.get()
    });
    assert_eq!(core.rest(), Duration::from_micros(100));
    core.rest();
    assert_eq!(*told.borrow(), [Rest::Begins]);
    local.send(CoreId(0), |_| {}).unwrap();
    core.turn_after(1);
    assert_eq!(*told.borrow(), [Rest::Begins, Rest::Ends]);
    answer.set(Doze::Until(core.now + Duration::from_micros(50_000)));
    let duration = core.rest();
    assert!((40_000..50_000).contains(&duration.as_micros()), "{duration:?}");
}

#[test]
fn a_rest_ends_with_the_next_timer() {
    let mut core = Sleepy::new();
    let local = core.reactor.local();
    local.timed_poller("tick", Duration::from_millis(7), |_| Work::IDLE).detach();
    let duration = core.rest();
    assert!((5_000..7_000).contains(&duration.as_micros()), "{duration:?}");
}

#[test]
fn how_long_is_set_for_all_cores_and_may_be_for_ever() {
    let mut core = Sleepy::new();
    let cores = core.reactor.local().mesh().clone();
    assert_eq!(cores.rest_after(), Some(REST_AFTER_DEFAULT));
    assert_eq!(cores.rest_after_by_default(), REST_AFTER_DEFAULT);
    cores.set_rest_after(None);
    assert_eq!(cores.rest_after(), None);
    assert_eq!((0..100).find_map(|_| core.turn_after(10_000)), None);
    cores.set_rest_after(Some(Duration::ZERO));
    assert_eq!(core.turn_after(1), None, "its sources are told");
    assert_eq!(core.turn_after(1), Some(Duration::from_secs(1)), "it was idle all the time");
}

#[test]
fn a_machine_has_a_time_of_its_own_to_go_back_to() {
    let rest_after = Duration::from_micros(20);
    let options = Options { rest_after, ..Options::default() };
    let cores = mesh(1, options).remove(0).cores();
    assert_eq!(cores.rest_after(), Some(rest_after));
    cores.set_rest_after(None);
    assert_eq!(cores.rest_after_by_default(), rest_after);
}

#[test]
fn another_core_rings_a_sleeper_once_for_an_event_a_wake_and_a_call() {
    let mut seeds = mesh(2, Options::default());
    let (far, near) = (seeds.pop().unwrap(), seeds.pop().unwrap());
    let rings = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&rings);
    near.cores().set_ringer(move |core| {
        assert_eq!(core, CoreId(0));
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let (mut near, mut other) = (near.build(), far.build());
    let (sender, receiver) = oneshot::channel();
    near.local().spawn("waits", async move {
        let _: Result<u32, _> = receiver.await;
    });
    let cores = near.local().mesh().clone();
    cores.settle();
    let mut sender = Some(sender);
    let mut now = Instant::ZERO;
    let mut rung_while_asleep = |leave: &mut dyn FnMut()| {
        let before = rings.load(Ordering::Relaxed);
        let mut rested = false;
        while !rested {
            now = now + Duration::from_millis(1);
            near.turn(
                || now,
                |_| {
                    leave();
                    rested = true;
                },
            );
        }
        rings.load(Ordering::Relaxed) - before
    };
    assert_eq!(rung_while_asleep(&mut || {}), 0);
    let send = || cores.send(CoreId(0), |_| {}).unwrap();
    assert_eq!(rung_while_asleep(&mut || (0..3).for_each(|_| send())), 1);
    assert_eq!(rung_while_asleep(&mut || cores.wake(CoreId(0))), 1);
    let mut answer = || sender.take().map_or((), |sender| sender.send(7));
    assert_eq!(rung_while_asleep(&mut answer), 1);
    // A reactor rings at the end of its round, whatever it has left and how.
    let local = other.local();
    let mut unheard = || local.send(CoreId(0), |_| {}).unwrap();
    assert_eq!(rung_while_asleep(&mut unheard), 0);
    let mut round = || {
        (0..3).for_each(|_| local.send(CoreId(0), |_| {}).unwrap());
        local.wake(CoreId(0));
        let _ = other.poll(Instant::ZERO);
    };
    assert_eq!(rung_while_asleep(&mut round), 1);
    cores.send(CoreId(0), |_| {}).unwrap();
    assert_eq!(rings.load(Ordering::Relaxed), 4, "nobody rings one who is awake");
}
