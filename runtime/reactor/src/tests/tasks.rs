use alloc::boxed::Box;
use core::future::Future;
use std::task::Waker;

use super::*;

#[test]
fn a_task_that_keeps_yielding_does_not_starve_the_others() {
    let mut lone = Lone::new();
    let log = log();
    for name in ["greedy", "modest"] {
        let log = log.clone();
        lone.local().spawn(name, async move {
            for _ in 0..3 {
                log.borrow_mut().push(name);
                yield_now().await;
            }
        });
    }
    assert_eq!(lone.round_after(1), Work(2));
    assert_eq!(*log.borrow(), ["greedy", "modest"]);
    lone.rounds(3);
    assert_eq!(*log.borrow(), ["greedy", "modest", "greedy", "modest", "greedy", "modest"]);
    assert_eq!(lone.round_after(1), Work::IDLE);
}

#[test]
fn a_finished_task_frees_its_memory_and_is_no_longer_counted() {
    let mut lone = Lone::new();
    let dropped = Dropped::default();
    for _ in 0..100 {
        let guard = dropped.on_drop();
        lone.local().spawn("short", async move {
            yield_now().await;
            drop(guard);
        });
    }
    lone.rounds(1);
    assert_eq!(lone.reactor.stats().tasks, 100);
    lone.rounds(2);
    assert_eq!((dropped.count(), lone.reactor.stats().tasks), (100, 0));
}

#[test]
fn tasks_that_wait_are_dropped_with_the_reactor() {
    let mut lone = Lone::new();
    let dropped = Dropped::default();
    let (guard, local) = (dropped.on_drop(), lone.local());
    lone.local().spawn("stuck", async move {
        let _guard = guard;
        local.sleep(Duration::from_secs(1)).await;
    });
    let unpolled = dropped.on_drop();
    lone.rounds(1);
    lone.local().spawn("unpolled", async move { drop(unpolled) });
    drop(lone);
    assert_eq!(dropped.count(), 2);
}

#[test]
fn a_waker_may_outlive_its_task_and_its_reactor() {
    let mut lone = Lone::new();
    let kept = Rc::new(RefCell::new(None::<Waker>));
    let slot = kept.clone();
    lone.local().spawn(
        "leaker",
        core::future::poll_fn(move |context| {
            *slot.borrow_mut() = Some(context.waker().clone());
            core::task::Poll::Ready(())
        }),
    );
    lone.rounds(1);
    let waker = kept.take().expect("it ran");
    waker.wake_by_ref();
    lone.rounds(2);
    drop(lone);
    waker.wake_by_ref();
    let other = waker.clone();
    thread::spawn(move || other.wake()).join().expect("no panic");
    drop(waker);
}

#[test]
fn a_wake_from_another_thread_reaches_the_task() {
    let mut lone = Lone::new();
    for round in 0..200u32 {
        let (sender, receiver) = oneshot::channel();
        let got = Rc::new(Cell::new(None));
        let slot = got.clone();
        lone.local().spawn("waiter", async move { slot.set(Some(receiver.await)) });
        let thread = thread::spawn(move || sender.send(round));
        while got.get().is_none() {
            let _ = lone.round_after(1);
        }
        assert_eq!(got.get(), Some(Ok(round)));
        thread.join().expect("no panic");
    }
    lone.rounds(1);
    assert_eq!(lone.reactor.stats().tasks, 0);
}

#[test]
fn many_threads_may_wake_one_task_at_once_and_no_wake_is_lost() {
    const THREADS: u32 = 4;
    const WAKES: u32 = 2_000;
    let mut lone = Lone::new();
    let shared = std::sync::Arc::new(std::sync::Mutex::new((0u32, None::<Waker>)));
    let (seen, counter) = (Rc::new(Cell::new(0)), shared.clone());
    let slot = seen.clone();
    lone.local().spawn(
        "counter",
        core::future::poll_fn(move |context| {
            let mut state = counter.lock().expect("not poisoned");
            state.1 = Some(context.waker().clone());
            slot.set(state.0);
            if state.0 == THREADS * WAKES {
                core::task::Poll::Ready(())
            } else {
                core::task::Poll::Pending
            }
        }),
    );
    lone.rounds(1);
    let wake = move |shared: std::sync::Arc<std::sync::Mutex<(u32, Option<Waker>)>>| {
        for _ in 0..WAKES {
            let waker = {
                let mut state = shared.lock().expect("not poisoned");
                state.0 += 1;
                state.1.clone()
            };
            waker.expect("it was polled").wake();
        }
    };
    let threads: Vec<_> =
        (0..THREADS).map(|_| shared.clone()).map(|s| thread::spawn(move || wake(s))).collect();
    while seen.get() != THREADS * WAKES {
        let _ = lone.round_after(1);
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    lone.rounds(1);
    assert_eq!(lone.local().tasks().len(), 0);
}

#[test]
fn a_task_may_spawn_tasks_and_pollers() {
    let mut lone = Lone::new();
    let log = log();
    let (outer, local) = (log.clone(), lone.local());
    lone.local().spawn("parent", async move {
        for i in 0..3 {
            let log = outer.clone();
            local.spawn("child", async move { log.borrow_mut().push(i) });
        }
        local.poller("poller", |_| Work::IDLE).detach();
    });
    lone.rounds(2);
    assert_eq!(*log.borrow(), [0, 1, 2]);
    assert_eq!(lone.local().pollers().len(), 1);
}

#[test]
fn a_notification_wakes_the_one_that_waited_longest_or_is_kept_for_the_next() {
    let mut lone = Lone::new();
    let (notify, log) = (Rc::new(Notify::new()), log());
    for name in ["first", "second"] {
        let (notify, log) = (notify.clone(), log.clone());
        lone.local().spawn(name, async move {
            notify.notified().await;
            log.borrow_mut().push(name);
        });
    }
    lone.rounds(2);
    notify.notify_one();
    lone.rounds(2);
    assert_eq!(*log.borrow(), ["first"]);
    notify.notify_all();
    lone.rounds(2);
    assert_eq!(*log.borrow(), ["first", "second"]);
    notify.notify_one();
    notify.notify_one();
    let (late, log2) = (notify.clone(), log.clone());
    lone.local().spawn("late", async move {
        late.notified().await;
        log2.borrow_mut().push("late");
        late.notified().await;
        log2.borrow_mut().push("never");
    });
    lone.rounds(5);
    assert_eq!(*log.borrow(), ["first", "second", "late"]);
}

#[test]
fn a_notification_picked_by_a_task_that_goes_away_passes_to_the_next() {
    let notify = Notify::new();
    let mut context = core::task::Context::from_waker(Waker::noop());
    let (mut a, mut b) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
    assert!(a.as_mut().poll(&mut context).is_pending());
    assert!(b.as_mut().poll(&mut context).is_pending());
    notify.notify_one();
    drop(a);
    assert!(b.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_panicking_task_drops_its_future_and_leaves_the_executor_sound() {
    let mut lone = Lone::new();
    let dropped = Dropped::default();
    let guard = dropped.on_drop();
    lone.local().spawn("panics", async move {
        let _guard = guard;
        panic!("on purpose");
    });
    let caught = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| lone.round_after(1)));
    assert!(caught.is_err());
    assert_eq!(dropped.count(), 1);
    lone.rounds(2);
}
