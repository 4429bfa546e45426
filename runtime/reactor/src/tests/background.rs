use super::*;
use crate::{BACKGROUND_SHARE_DEFAULT, Poller};

/// A core whose clock only its pollers and tasks advance.
struct Core {
    reactor: Reactor,
    clock: Rc<Cell<u64>>,
}

impl Core {
    fn new() -> Self {
        let reactor = mesh(1, Options::default()).remove(0).build();
        Self { reactor, clock: Rc::default() }
    }

    fn local(&self) -> Local {
        self.reactor.local()
    }

    /// So many microseconds pass.
    fn passing(&self, us: u64) -> impl Fn() + use<> {
        let clock = Rc::clone(&self.clock);
        move || clock.set(clock.get() + us * 1000)
    }

    /// A poller that finds work, or none, in so many microseconds.
    fn poller(&self, us: u64, work: Work) -> Poller {
        let pass = self.passing(us);
        self.local().poller("io", move |_| {
            pass();
            work
        })
    }

    /// A task of the background that never ends; how often it has run, each time for so long.
    fn endless(&self, us: u64) -> Rc<Cell<u64>> {
        let (runs, pass) = (Rc::new(Cell::new(0)), self.passing(us));
        let count = Rc::clone(&runs);
        self.local().spawn_background("endless", async move {
            loop {
                pass();
                count.set(count.get() + 1);
                yield_now().await;
            }
        });
        runs
    }

    fn turn(&mut self) {
        let clock = Rc::clone(&self.clock);
        self.reactor.turn(|| Instant::from_ns(clock.get()), |_| panic!("there is work"));
    }

    fn turns_for(&mut self, ms: u64) {
        let end = self.clock.get() + ms * 1_000_000;
        while self.clock.get() < end {
            self.turn();
        }
    }
}

#[test]
fn the_background_gets_its_share_of_the_time_while_the_foreground_finds_work() {
    for (percent, shortest, longest) in [(10, 98, 101), (50, 490, 510), (100, 970, 1000)] {
        let mut core = Core::new();
        assert_eq!(core.local().mesh().background_share(), BACKGROUND_SHARE_DEFAULT);
        core.local().mesh().set_background_share(percent);
        let _io = core.poller(2, Work(1));
        let runs = core.endless(100);
        core.turns_for(1000);
        let ms = runs.get() / 10;
        assert!((shortest..=longest).contains(&ms), "{ms} ms of 1000 at {percent} %");
    }
}

#[test]
fn the_background_gets_all_the_time_that_the_foreground_has_no_use_for() {
    let mut core = Core::new();
    let _idle = core.poller(1, Work::IDLE);
    let pass = core.passing(1);
    let carries = core.local().poller("card", move |_| {
        pass();
        Work(1)
    });
    let _carries = carries.for_both();
    let runs = core.endless(98);
    core.turns_for(1000);
    assert!(runs.get() >= 9_900, "{} runs", runs.get());
}

#[test]
fn a_long_run_is_paid_for_afterwards() {
    let mut core = Core::new();
    let _io = core.poller(2, Work(1));
    core.turns_for(1);
    let runs = core.endless(8_000);
    core.turns_for(9);
    assert_eq!(runs.get(), 1);
    core.turns_for(69);
    assert_eq!(runs.get(), 1, "72 ms are owed");
    core.turns_for(3);
    assert_eq!(runs.get(), 2);
}

#[test]
fn the_foreground_is_missed_for_a_moment_only_before_the_background_has_all() {
    let mut core = Core::new();
    let io = core.poller(2, Work(1));
    core.turns_for(1);
    drop(io);
    let _idle = core.poller(2, Work::IDLE);
    let runs = core.endless(100);
    core.turns_for(4);
    assert!(runs.get() <= 5, "it may come back: {} runs", runs.get());
    let before = runs.get();
    core.turns_for(11);
    assert!(runs.get() >= before + 90, "{} runs", runs.get());
}

#[test]
fn tasks_of_the_background_take_turns_one_at_a_time_and_none_is_left_out() {
    let mut core = Core::new();
    let _io = core.poller(2, Work(1));
    let runs = [150, 300, 50].map(|us| core.endless(us));
    let poller = {
        let pass = core.passing(1);
        core.local().background_poller("calls", move |_| {
            pass();
            Work(1)
        })
    };
    let mut most = 0;
    for _ in 0..200_000 {
        let before: u64 = runs.iter().map(|runs| runs.get()).sum();
        core.turn();
        most = most.max(runs.iter().map(|runs| runs.get()).sum::<u64>() - before);
    }
    let counts = runs.map(|runs| runs.get());
    assert_eq!(most, 1, "none began after 20 µs");
    assert!(counts[0] > 50 && counts.iter().all(|count| count.abs_diff(counts[0]) <= 1));
    assert!(poller.stats().runs >= counts.iter().sum());
}

#[test]
fn short_tasks_run_together() {
    let mut core = Core::new();
    let _io = core.poller(2, Work(1));
    core.turn();
    let runs = [6, 6, 6, 6, 6].map(|us| core.endless(us));
    core.turn();
    assert_eq!(runs.map(|runs| runs.get()), [1, 1, 1, 1, 0], "up to 20 µs");
}

#[test]
fn a_core_rests_until_what_was_left_out_is_due_at_most() {
    let mut core = Core::new();
    core.local().mesh().settle();
    core.local().mesh().set_rest_after(Some(Duration::ZERO));
    let io = core.poller(2, Work(1));
    core.turn();
    let pass = core.passing(100);
    let done = Rc::new(Cell::new(false));
    let end = Rc::clone(&done);
    core.local().spawn_background("two steps", async move {
        pass();
        yield_now().await;
        end.set(true);
    });
    core.turn();
    drop(io);
    let mut rests = Vec::new();
    for _ in 0..10 {
        let clock = Rc::clone(&core.clock);
        core.reactor.turn(
            || Instant::from_ns(clock.get()),
            |rest| {
                rests.push(rest);
                clock.set(clock.get() + rest.as_nanos() as u64);
            },
        );
    }
    assert_eq!(rests[0], Duration::from_micros(900), "{rests:?}");
    assert!(done.get(), "and then it has run");
    assert_eq!(rests.last(), Some(&Duration::from_secs(1)), "{rests:?}");
}

#[test]
fn what_waits_in_the_background_is_dropped_with_its_core() {
    let dropped = Dropped::default();
    let mut core = Core::new();
    let _io = core.poller(2, Work(1));
    let busy = core.endless(500);
    for _ in 0..3 {
        let guard = dropped.on_drop();
        core.local().spawn_background("waits", async move {
            let _guard = guard;
            yield_now().await;
        });
    }
    core.turn();
    core.turn();
    assert_eq!((busy.get(), dropped.count()), (1, 0));
    drop(core.reactor);
    assert_eq!(dropped.count(), 3);
}

#[test]
fn without_a_clock_every_round_has_a_background() {
    let mut lone = Lone::new();
    let _io = lone.local().poller("io", |_| Work(1));
    let runs = Rc::new(Cell::new(0));
    let count = Rc::clone(&runs);
    let poller = lone.local().background_poller("calls", move |_| {
        count.set(count.get() + 1);
        Work::IDLE
    });
    lone.rounds(100);
    assert_eq!(runs.get(), 100);
    drop(poller);
    lone.rounds(10);
    assert_eq!(runs.get(), 100);
}
