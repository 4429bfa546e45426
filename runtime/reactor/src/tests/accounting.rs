use super::*;
use crate::{Poller, TraceEvent};

#[test]
fn rounds_with_work_count_as_busy_and_others_as_idle() {
    let mut lone = Lone::new();
    let cores = lone.local().mesh().clone();
    let busy = Rc::new(Cell::new(true));
    let switch = busy.clone();
    let _poller = lone.local().poller("p", move |_| Work(u32::from(switch.get())));
    let _ = lone.round_after(1);
    let _ = lone.round_after(10);
    busy.set(false);
    let _ = lone.round_after(20);
    let _ = lone.round_after(40);
    let stats = cores.stats(CoreId::BOOT).expect("core 0 exists");
    // Each gap belongs to the round before it.
    assert_eq!((stats.busy_ns, stats.idle_ns), (30_000, 40_000));
    assert_eq!((stats.rounds, stats.pollers, stats.tasks), (4, 1, 0));
    assert_eq!(lone.reactor.stats(), stats);
    assert_eq!(cores.stats(CoreId(1)), None);
}

#[test]
fn events_and_the_runs_of_each_poller_are_counted() {
    let mut lone = Lone::new();
    let local = lone.local();
    let _idle = local.poller("idle", |_| Work::IDLE);
    let _busy = local.timed_poller("busy", Duration::from_micros(2), |_| Work(1));
    for _ in 0..3 {
        assert_eq!(local.send(CoreId::BOOT, |_| ()), Ok(()));
    }
    lone.rounds(4);
    assert_eq!(lone.reactor.stats().events, 3);
    let pollers = local.pollers();
    let summary: Vec<_> = pollers.iter().map(|p| (p.name, p.runs, p.busy)).collect();
    assert_eq!(summary, [("idle", 4, 0), ("busy", 2, 2)]);
    assert_eq!(pollers[1].period, Some(Duration::from_micros(2)));
}

/// A clock that a poller advances when it runs.
fn poller_that_takes(
    local: &Local,
    clock: &Rc<Cell<u64>>,
    name: &'static str,
    busy_and_idle_ns: [u64; 2],
) -> Poller {
    let (clock, turn) = (Rc::clone(clock), Cell::new(0));
    local.poller(name, move |_| {
        turn.set(turn.get() + 1);
        // Busy every fourth time.
        let busy = turn.get() % 4 == 0;
        clock.set(clock.get() + busy_and_idle_ns[usize::from(!busy)]);
        Work(u32::from(busy))
    })
}

#[test]
fn the_time_of_each_poller_is_estimated_from_some_rounds() {
    let mut lone = Lone::new();
    let clock = Rc::new(Cell::new(0));
    let local = lone.local();
    let _heavy = poller_that_takes(&local, &clock, "heavy", [900, 20]);
    let _light = poller_that_takes(&local, &clock, "light", [0, 3]);
    let ticking = Rc::clone(&clock);
    let _timed = local.timed_poller("timed", Duration::from_micros(50), move |_| {
        ticking.set(ticking.get() + 700);
        Work::IDLE
    });
    // Reading the clock takes 11 ns, which are nobody's.
    let read = || {
        clock.set(clock.get() + 11);
        Instant::from_ns(clock.get())
    };
    for _ in 0..40_000 {
        lone.reactor.turn(read, |_| unreachable!("it is never idle for long"));
    }
    let pollers = local.pollers();
    let near = |estimate: u64, truth: u64| estimate.abs_diff(truth) * 10 <= truth;
    assert!(near(pollers[0].busy_ns, 10_000 * 900), "{:?}", pollers[0]);
    assert!(near(pollers[0].idle_ns, 30_000 * 20), "{:?}", pollers[0]);
    assert_eq!(pollers[1].busy_ns, 0);
    assert!(near(pollers[1].idle_ns, 30_000 * 3), "{:?}", pollers[1]);
    assert_eq!(pollers[2].idle_ns, pollers[2].runs * 700, "timed ones are timed always");
    let all: u64 = pollers.iter().map(|poller| poller.busy_ns + poller.idle_ns).sum();
    let core = lone.reactor.stats();
    assert!(near(all, core.busy_ns + core.idle_ns), "{all} of {core:?}");
}

#[test]
fn what_a_core_did_last_is_there_for_others_to_read() {
    let mut reactors: Vec<Reactor> =
        mesh(2, Options::default()).into_iter().map(|seed| seed.build()).collect();
    let local = reactors[0].local();
    let busy = local.poller("busy", |_| Work(3));
    let idle = local.poller("idle", |_| Work::IDLE);
    local.spawn("task", async {});
    local.send(CoreId(0), |_| {}).unwrap();
    let _ = reactors[0].poll(Instant::from_ns(5_000));
    let events = |cores: &Cores| -> Vec<_> {
        cores.trace(CoreId(0)).map(|line| (line.at.as_ns(), line.event)).collect()
    };
    let cores = reactors[1].local().mesh().clone();
    let seen = [
        (5_000, TraceEvent::Events(1)),
        (5_000, TraceEvent::Poller("busy", 3)),
        (5_000, TraceEvent::Task("task")),
    ];
    assert_eq!(events(&cores), seen);
    assert_eq!(cores.running(CoreId(0)), None);
    for round in 0..100 {
        let _ = reactors[0].poll(Instant::from_ns(6_000 + round));
    }
    let all = events(&cores);
    assert_eq!(all.len(), 64);
    assert_eq!(all[63], (6_099, TraceEvent::Poller("busy", 3)));
    assert_eq!(cores.trace(CoreId(9)).count(), 0);
    drop((busy, idle));
}
