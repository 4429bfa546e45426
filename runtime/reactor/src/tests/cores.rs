use alloc::boxed::Box;
use core::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant as HostInstant;

use super::*;

/// How long a threaded test may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// Threads as cores: each builds its reactor, is set up, and polls until told to stop.
struct Threads {
    cores: Cores,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    fn start(cores: usize, options: Options, setup: fn(&Local)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seeds = mesh(cores, options);
        let handle = seeds[0].cores();
        let run = |seed: crate::Seed| {
            let stop = stop.clone();
            thread::spawn(move || {
                let start = HostInstant::now();
                let mut reactor = seed.build();
                setup(&reactor.local());
                while !stop.load(Ordering::Relaxed) {
                    let now = u64::try_from(start.elapsed().as_nanos()).expect("short");
                    if !reactor.poll(Instant::from_ns(now)).is_busy() {
                        thread::yield_now();
                    }
                }
            })
        };
        let threads = seeds.into_iter().map(run).collect();
        Self { cores: handle, stop, threads }
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let start = HostInstant::now();
        while !done() {
            assert!(start.elapsed() < LIMIT, "not done in time");
            thread::yield_now();
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

/// Runs an async body on core 0 of a mesh of threads, and waits for it.
fn on_core_0<F, Fut>(cores: usize, options: Options, body: F)
where
    F: FnOnce(Local) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let threads = Threads::start(cores, options, |_| ());
    let done = Arc::new(AtomicBool::new(false));
    let flag = done.clone();
    let body = Box::new(body);
    let start = move |local: &Local| {
        let future = body(local.clone());
        local.spawn("test", async move {
            future.await;
            flag.store(true, Ordering::Release);
        });
    };
    assert_eq!(threads.cores.send(CoreId::BOOT, start), Ok(()));
    threads.wait(|| done.load(Ordering::Acquire));
    threads.stop();
}

#[test]
fn every_core_answers_an_event_from_every_other() {
    const CORES: u16 = 4;
    let threads = Threads::start(usize::from(CORES), Options::default(), |_| ());
    let answers = Arc::new(AtomicUsize::new(0));
    for (from, to) in (0..CORES).flat_map(|from| (0..CORES).map(move |to| (from, to))) {
        let answers = answers.clone();
        let ask = move |local: &Local| {
            assert_eq!(local.core(), CoreId(from));
            let sent = local.send(CoreId(to), move |local: &Local| {
                assert_eq!(local.core(), CoreId(to));
                let answer = local.send(CoreId(from), move |local: &Local| {
                    assert_eq!(local.core(), CoreId(from));
                    answers.fetch_add(1, Ordering::Release);
                });
                assert_eq!(answer, Ok(()));
            });
            assert_eq!(sent, Ok(()));
        };
        assert_eq!(threads.cores.send(CoreId(from), ask), Ok(()));
    }
    let all = usize::from(CORES) * usize::from(CORES);
    threads.wait(|| answers.load(Ordering::Acquire) == all);
    threads.stop();
}

#[test]
fn a_call_gives_the_result_of_the_core_it_ran_on() {
    on_core_0(3, Options::default(), |local| async move {
        for round in 0..300u16 {
            let core = CoreId(round % 3);
            assert_eq!(
                local.call(core, move |there| (there.core(), round)).await,
                Ok((core, round))
            );
        }
        assert_eq!(local.call(CoreId(3), |_| ()).await, Err(CallError::NoSuchCore));
    });
}

#[test]
fn run_on_runs_an_async_body_there_to_its_end() {
    on_core_0(2, Options::default(), |local| async move {
        let body = |there: Local| async move {
            yield_now().await;
            there.sleep(Duration::from_micros(50)).await;
            let back = there.call(CoreId::BOOT, Local::core).await;
            (there.core(), back)
        };
        for _ in 0..50 {
            let there = local.run_on(CoreId(1), body).await;
            assert_eq!(there, Ok((CoreId(1), Ok(CoreId::BOOT))));
        }
    });
}

#[test]
fn calls_wait_for_room_when_the_mailbox_is_small() {
    let tiny = Options { mailbox_depth: 2, event_budget: 1, ..Options::default() };
    on_core_0(2, tiny, |local| async move {
        let finished = Rc::new(Cell::new(0));
        for i in 0..200u32 {
            let (local, finished) = (local.clone(), finished.clone());
            local.clone().spawn("caller", async move {
                assert_eq!(local.call(CoreId(1), move |_| i).await, Ok(i));
                finished.set(finished.get() + 1);
            });
        }
        while finished.get() != 200 {
            yield_now().await;
        }
    });
}

#[test]
fn a_full_mailbox_refuses_and_takes_again_once_drained() {
    let options = Options { mailbox_depth: 4, event_budget: 64, ..Options::default() };
    let mut reactors: Vec<_> = mesh(2, options).into_iter().map(crate::Seed::build).collect();
    let sender = reactors[0].local();
    for _ in 0..4 {
        assert_eq!(sender.send(CoreId(1), |_| ()), Ok(()));
    }
    assert_eq!(sender.send(CoreId(1), |_| ()), Err(SendError::Full));
    assert_eq!(reactors[1].poll(Instant::ZERO), Work(4));
    assert_eq!(sender.send(CoreId(1), |_| ()), Ok(()));
    assert_eq!(sender.send(CoreId(2), |_| ()), Err(SendError::NoSuchCore));
    for _ in 0..4 {
        assert_eq!(sender.send(CoreId(0), |_| ()), Ok(()));
    }
    assert_eq!(sender.send(CoreId(0), |_| ()), Err(SendError::Full));
    assert_eq!(reactors[0].poll(Instant::ZERO), Work(4));
}

#[test]
fn a_call_to_a_mailbox_that_stays_full_gives_up_after_its_patience() {
    let options = Options { mailbox_depth: 2, event_budget: 1, ..Options::default() };
    let mut reactors: Vec<_> = mesh(2, options).into_iter().map(crate::Seed::build).collect();
    let local = reactors[0].local();
    while local.send(CoreId(1), |_| ()).is_ok() {}
    let outcome = Rc::new(Cell::new(None));
    let slot = outcome.clone();
    local
        .clone()
        .spawn("caller", async move { slot.set(Some(local.call(CoreId(1), |_| ()).await)) });
    for ms in 0..999 {
        let _ = reactors[0].poll(Instant::from_ns(ms * 1_000_000));
    }
    assert_eq!(outcome.get(), None);
    let _ = reactors[0].poll(Instant::from_ns(1_000_000_000));
    assert_eq!(outcome.get(), Some(Err(CallError::Busy)));
}

#[test]
fn a_call_to_a_reactor_that_ends_is_lost_and_later_ones_find_no_core() {
    let mut reactors: Vec<_> =
        mesh(2, Options::default()).into_iter().map(crate::Seed::build).collect();
    let local = reactors[0].local();
    let outcomes = log();
    let slot = outcomes.clone();
    local.clone().spawn("caller", async move {
        for _ in 0..2 {
            let outcome = local.call(CoreId(1), |_| ()).await;
            slot.borrow_mut().push(outcome);
        }
    });
    let _ = reactors[0].poll(Instant::from_ns(1));
    drop(reactors.pop());
    let _ = reactors[0].poll(Instant::from_ns(2));
    assert_eq!(*outcomes.borrow(), [Err(CallError::Lost), Err(CallError::NoSuchCore)]);
}

#[test]
fn events_between_two_cores_keep_their_order() {
    let mut reactors: Vec<_> =
        mesh(2, Options::default()).into_iter().map(crate::Seed::build).collect();
    let seen: Rc<RefCell<Vec<u32>>> = log();
    reactors[1].local().provide(seen.clone());
    for i in 0..100u32 {
        let sent = reactors[0].local().send(CoreId(1), move |local: &Local| {
            let seen = local.service::<RefCell<Vec<u32>>>().expect("provided");
            seen.borrow_mut().push(i);
        });
        assert_eq!(sent, Ok(()));
    }
    // The budget holds back what exceeds it.
    assert_eq!(reactors[1].poll(Instant::from_ns(1)), Work(64));
    assert_eq!(reactors[1].poll(Instant::from_ns(2)), Work(36));
    assert_eq!(*seen.borrow(), (0..100).collect::<Vec<_>>());
}

#[test]
fn an_event_that_sends_itself_on_does_not_hold_up_the_round() {
    fn again(local: &Local) {
        assert_eq!(local.send(local.core(), again), Ok(()));
    }
    let mut lone = Lone::with(Options { mailbox_depth: 16, event_budget: 8, ..Options::default() });
    again(&lone.local());
    assert_eq!(lone.round_after(1), Work(1));
    (0..9).for_each(|_| again(&lone.local()));
    assert_eq!(lone.round_after(1), Work(8));
    assert_eq!(lone.round_after(1), Work(8));
}
