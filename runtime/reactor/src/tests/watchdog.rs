use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::STALL;
use crate::watchdog::{Report, Watch};

/// What a watcher tells that looks every 100 ms while `body` goes on.
struct Watcher {
    watch: Watch,
    cores: Cores,
    now: Instant,
    reports: Vec<Report>,
}

impl Watcher {
    fn look(&mut self, times: usize) {
        for _ in 0..times {
            self.now = self.now + Duration::from_millis(100);
            self.reports.extend(self.watch.look(self.now, &self.cores));
        }
    }
}

fn watched() -> (Lone, Rc<RefCell<Watcher>>) {
    let lone = Lone::new();
    let cores = lone.local().mesh().clone();
    let watch = Watch::new(CoreId::BOOT);
    let watcher = Watcher { watch, cores, now: Instant::ZERO, reports: Vec::new() };
    (lone, Rc::new(RefCell::new(watcher)))
}

fn names(watcher: &Rc<RefCell<Watcher>>) -> Vec<(&'static str, &'static str)> {
    let name = |report: &Report| match report {
        Report::Stuck(name, time) => {
            assert!(*time >= STALL);
            ("stuck", *name)
        }
        Report::Back(name, _) => ("back", *name),
        Report::Overslept(_) => ("overslept", ""),
    };
    watcher.borrow().reports.iter().map(name).collect()
}

#[test]
fn a_poller_that_does_not_return_is_told_of_once_and_when_it_does() {
    let (mut lone, watcher) = watched();
    let inside = watcher.clone();
    let _quick = lone.local().poller("quick", |_| Work::IDLE);
    let slow = lone.local().poller("slow", move |_| {
        inside.borrow_mut().look(30);
        Work::IDLE
    });
    lone.rounds(1);
    assert_eq!(names(&watcher), [("stuck", "slow")]);
    drop(slow);
    lone.rounds(1);
    watcher.borrow_mut().look(1);
    assert_eq!(names(&watcher), [("stuck", "slow"), ("back", "slow")]);
    let last = watcher.borrow().reports[1];
    assert!(matches!(last, Report::Back(_, time) if time >= Duration::from_millis(2_900)));
}

/// Looks on, from whatever runs on the core.
fn look_on(local: &Local) {
    let watcher = local.service::<RefCell<Watcher>>().expect("provided");
    watcher.borrow_mut().look(20);
}

#[test]
fn tasks_timers_and_events_are_told_of_by_name() {
    let (mut lone, watcher) = watched();
    let local = lone.local();
    local.provide(watcher.clone());
    let here = local.clone();
    local.spawn("a task", async move { look_on(&here) });
    lone.rounds(1);
    let timer = local.timed_poller("a timer", Duration::from_nanos(1), |local| {
        look_on(local);
        Work::IDLE
    });
    lone.rounds(1);
    drop(timer);
    assert_eq!(local.send(CoreId::BOOT, look_on), Ok(()));
    lone.rounds(1);
    let told = names(&watcher);
    let stuck: Vec<_> = told.iter().filter(|(what, _)| *what == "stuck").collect();
    assert_eq!(stuck, [&("stuck", "a task"), &("stuck", "a timer"), &("stuck", "an event")]);
}

#[test]
fn a_core_that_rests_or_works_on_is_not_told_of() {
    let (mut lone, watcher) = watched();
    let _poller = lone.local().poller("quick", |_| Work(1));
    for _ in 0..50 {
        lone.rounds(1);
        watcher.borrow_mut().look(1);
    }
    watcher.borrow_mut().look(12);
    assert_eq!(names(&watcher), []);
}

#[test]
fn a_core_that_does_not_wake_by_itself_is_told_of_until_it_does() {
    let (mut lone, watcher) = watched();
    lone.rounds(1);
    watcher.borrow_mut().look(32);
    assert_eq!(names(&watcher), [("overslept", ""); 2]);
    lone.rounds(1);
    watcher.borrow_mut().look(12);
    assert_eq!(names(&watcher), [("overslept", ""); 2]);
}

#[test]
fn a_core_wakes_the_next_one_if_that_sleeps_on() {
    let mut seeds = mesh(2, Options::default());
    let (far, near) = (seeds.pop().unwrap(), seeds.pop().unwrap());
    let rung = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&rung);
    near.cores().set_ringer(move |core| {
        assert_eq!(core, CoreId(1));
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let (mut near, mut far) = (near.build(), far.build());
    near.local().watch_next_core().unwrap().detach();
    let mut rings = |wakes: bool| {
        let before = rung.load(Ordering::Relaxed);
        for ms in (0..5000).step_by(100) {
            let now = near.local().now() + Duration::from_millis(100);
            let _ = near.poll(now);
            if wakes && ms % 1000 == 0 {
                let _ = far.poll(now);
            }
        }
        rung.load(Ordering::Relaxed) - before
    };
    assert_eq!(rings(true), 0, "it rests for a second at a time");
    assert_eq!(rings(false), 4, "it has slept for nine tenths of a second already");
}
