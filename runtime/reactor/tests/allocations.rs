//! A round allocates nothing: not for pollers, timers, events, wakes or notifications.
#![expect(unsafe_code, reason = "a test's allocator counts what passes through it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use basalt_env::{CoreId, Instant, Work};
use basalt_reactor::sync::Notify;
use basalt_reactor::{Local, Options, mesh, yield_now};

struct Counting;

thread_local! {
    /// By thread: the test harness has threads of its own, which allocate when they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn bounce(local: &Local) {
    let next = CoreId((local.core().0 + 1) % 2);
    assert_eq!(local.send(next, bounce), Ok(()));
    assert_eq!(local.send(local.core(), |_| ()), Ok(()));
}

fn start(local: &Local, notify: &Rc<Notify>, rounds: &Rc<Cell<u64>>) {
    let count = rounds.clone();
    let poll = move |_: &Local| {
        count.set(count.get() + 1);
        Work(1)
    };
    local.poller("every round", poll).detach();
    for period in 1..40 {
        local.timed_poller("now and then", Duration::from_nanos(period), |_| Work(1)).detach();
    }
    let sleeper = local.clone();
    local.spawn("sleeper", async move {
        loop {
            sleeper.sleep(Duration::from_nanos(5)).await;
        }
    });
    let waiting = notify.clone();
    local.spawn("waiter", async move {
        loop {
            waiting.notified().await;
        }
    });
    let notify = notify.clone();
    local.spawn("notifier", async move {
        loop {
            notify.notify_one();
            yield_now().await;
        }
    });
}

#[test]
fn rounds_allocate_nothing_once_everything_has_run() {
    let mut reactors: Vec<_> =
        mesh(2, Options::default()).into_iter().map(basalt_reactor::Seed::build).collect();
    let rounds = Rc::new(Cell::new(0));
    for reactor in &reactors {
        start(&reactor.local(), &Rc::new(Notify::new()), &rounds);
    }
    bounce(&reactors[0].local());
    let mut run = |from: u64, count: u64| {
        for now in from..from + count {
            for reactor in &mut reactors {
                assert!(reactor.poll(Instant::from_ns(now)).is_busy());
            }
        }
    };
    run(0, 100);
    let before = allocations();
    run(100, 1_000);
    assert_eq!(allocations(), before);
    assert_eq!(rounds.get(), 2_200);
}
