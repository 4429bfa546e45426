use super::*;

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

#[test]
fn a_timed_poller_runs_once_per_period_and_does_not_drift() {
    let mut lone = Lone::new();
    let log = log();
    let times = log.clone();
    let _poller = lone.local().timed_poller("tick", us(10), move |local| {
        times.borrow_mut().push(local.now().as_us());
        Work(1)
    });
    // Rounds every 3 µs: runs come late by up to 2 µs, yet stay on the grid of 10.
    for _ in 0..14 {
        let _ = lone.round_after(3);
    }
    assert_eq!(*log.borrow(), [12, 21, 30, 42]);
}

#[test]
fn missed_periods_are_not_made_up_for() {
    let mut lone = Lone::new();
    let runs = Rc::new(Cell::new(0));
    let count = runs.clone();
    let _poller = lone.local().timed_poller("tick", us(10), move |_| {
        count.set(count.get() + 1);
        Work(1)
    });
    let _ = lone.round_after(1_000);
    assert_eq!(runs.get(), 1);
    let _ = lone.round_after(9);
    assert_eq!(runs.get(), 1);
    let _ = lone.round_after(1);
    assert_eq!(runs.get(), 2);
}

#[test]
fn a_period_of_zero_runs_every_round_and_no_more() {
    let mut lone = Lone::new();
    let poller = lone.local().timed_poller("zero", Duration::ZERO, |_| Work(1));
    lone.rounds(5);
    assert_eq!(poller.stats().runs, 5);
}

#[test]
fn timers_fire_in_order_of_deadline_then_of_start() {
    let mut lone = Lone::new();
    let log = log();
    for (name, delay) in [("c", 30), ("a", 10), ("b1", 20), ("b2", 20)] {
        let (local, log) = (lone.local(), log.clone());
        lone.local().spawn("sleeper", async move {
            local.sleep(us(delay)).await;
            log.borrow_mut().push(name);
        });
    }
    let _ = lone.round_after(1);
    let _ = lone.round_after(100);
    assert_eq!(*log.borrow(), ["a", "b1", "b2", "c"]);
}

#[test]
fn a_sleep_ends_in_the_first_round_at_its_deadline_and_not_before() {
    let mut lone = Lone::new();
    let woke = Rc::new(Cell::new(None));
    let (local, slot) = (lone.local(), woke.clone());
    lone.local().spawn("sleeper", async move {
        local.sleep_until(Instant::from_ns(10_000)).await;
        slot.set(Some(local.now()));
    });
    let _ = lone.round_after(1);
    assert_eq!(lone.reactor.next_deadline(), Some(Instant::from_ns(10_000)));
    lone.now = Instant::from_ns(9_999);
    assert_eq!(lone.round_after(0), Work::IDLE);
    lone.now = Instant::from_ns(10_000);
    assert!(lone.round_after(0).is_busy());
    assert_eq!(woke.get(), Some(Instant::from_ns(10_000)));
    assert_eq!(lone.reactor.next_deadline(), None);
}

#[test]
fn a_dropped_sleep_or_timed_poller_leaves_no_timer() {
    let mut lone = Lone::new();
    let poller = lone.local().timed_poller("tick", us(5), |_| Work(1));
    let local = lone.local();
    lone.local().spawn("impatient", async move {
        let slow = local.clone();
        let outcome = local.timeout(us(5), async move { slow.sleep(us(1_000_000)).await }).await;
        assert_eq!(outcome, Err(Elapsed));
    });
    let _ = lone.round_after(1);
    drop(poller);
    assert!(lone.reactor.next_deadline().is_some());
    let _ = lone.round_after(10);
    assert_eq!(lone.reactor.next_deadline(), None);
    assert_eq!(lone.local().tasks().len(), 0);
}

#[test]
fn a_timeout_gives_what_is_ready_in_time() {
    let mut lone = Lone::new();
    let local = lone.local();
    let got = Rc::new(Cell::new(None));
    let slot = got.clone();
    lone.local().spawn("quick", async move {
        slot.set(Some(local.timeout(us(5), async { 7 }).await));
    });
    lone.until(|| got.get().is_some());
    assert_eq!(got.get(), Some(Ok(7)));
}

#[test]
fn a_timed_poller_may_drop_itself_while_it_runs() {
    let mut lone = Lone::new();
    let own = Rc::new(RefCell::new(None));
    let (handle, runs) = (own.clone(), Rc::new(Cell::new(0)));
    let count = runs.clone();
    *own.borrow_mut() = Some(lone.local().timed_poller("once", us(1), move |_| {
        count.set(count.get() + 1);
        drop(handle.borrow_mut().take());
        Work(1)
    }));
    lone.rounds(5);
    assert_eq!(runs.get(), 1);
    assert_eq!(lone.reactor.next_deadline(), None);
}

#[test]
fn time_never_goes_backwards_for_those_who_look() {
    let mut lone = Lone::new();
    let _ = lone.reactor.poll(Instant::from_ns(100));
    let _ = lone.reactor.poll(Instant::from_ns(50));
    assert_eq!(lone.local().now(), Instant::from_ns(100));
}
