#![cfg(loom)]

use core::future::poll_fn;

use loom::sync::atomic::AtomicU32;
use loom::thread;

use super::*;

/// A waker of `task`, as its future would get.
fn waker_of(task: &Task) -> Waker {
    let data = task.0.clone().into_raw().cast_const().cast();
    // SAFETY: the waker takes the reference just made.
    unsafe { Waker::from_raw(RawWaker::new(data, &WAKER)) }
}

/// A task that ends once `signals` reaches `wanted`.
fn task_until(runner: &Runner, signals: &Arc<AtomicU32>, wanted: u32) -> Task {
    let signals = signals.clone();
    runner.spawn(
        0,
        poll_fn(move |_| {
            let done = signals.load(Ordering::Relaxed) == wanted;
            if done { Poll::Ready(()) } else { Poll::Pending }
        }),
    )
}

fn run_to_end(runner: &Runner) {
    loop {
        if runner.take().any(|ready| ready.run() == Progress::Finished) {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn a_wake_is_never_lost_and_shows_what_was_written_before_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let runner = Runner::new(None);
        let signals = Arc::new(AtomicU32::new(0));
        let task = task_until(&runner, &signals, 2);
        let threads = [0, 1].map(|_| {
            let (waker, signals) = (waker_of(&task), signals.clone());
            thread::spawn(move || {
                // Relaxed on purpose: the wake itself must carry it over.
                signals.fetch_add(1, Ordering::Relaxed);
                waker.wake();
            })
        });
        run_to_end(&runner);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_wake_while_the_task_goes_away_neither_leaks_nor_touches_freed_memory() {
    loom::model(|| {
        let runner = Runner::new(None);
        let signals = Arc::new(AtomicU32::new(1));
        let task = task_until(&runner, &signals, 1);
        let waker = waker_of(&task);
        let thread = thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake();
        });
        run_to_end(&runner);
        drop(task);
        assert!(runner.take().all(|ready| ready.run() == Progress::Waiting));
        thread.join().unwrap();
        drop(runner);
    });
}

#[test]
fn a_wake_while_the_runner_goes_away_leaves_no_circle_behind() {
    loom::model(|| {
        let runner = Runner::new(None);
        let signals = Arc::new(AtomicU32::new(0));
        let task = task_until(&runner, &signals, 1);
        let waker = waker_of(&task);
        assert!(runner.take().all(|ready| ready.run() == Progress::Waiting));
        let thread = thread::spawn(move || waker.wake());
        drop(task);
        drop(runner);
        thread.join().unwrap();
        // Loom reports a queue or signal counter that is still referred to.
    });
}

#[test]
fn tasks_woken_by_different_cores_are_all_taken() {
    loom::model(|| {
        let runner = Runner::new(None);
        let never = Arc::new(AtomicU32::new(0));
        let tasks = [(); 2].map(|()| task_until(&runner, &never, 1));
        assert_eq!(runner.take().count(), 2);
        let [first, second] = tasks.each_ref().map(waker_of);
        let thread = thread::spawn(move || first.wake());
        second.wake();
        let early = runner.take().count();
        thread.join().unwrap();
        assert_eq!(early + runner.take().count(), 2);
    });
}
