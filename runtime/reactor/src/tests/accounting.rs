use super::*;
use crate::TraceEvent;

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
