use super::*;

#[test]
fn pollers_run_every_round_in_order_of_registration() {
    let mut lone = Lone::new();
    let log = log();
    let _pollers: Vec<_> = (0..3)
        .map(|i| {
            let log = log.clone();
            lone.local().poller("p", move |_| {
                log.borrow_mut().push(i);
                Work::IDLE
            })
        })
        .collect();
    lone.rounds(2);
    assert_eq!(*log.borrow(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_round_reports_the_work_of_its_pollers() {
    let mut lone = Lone::new();
    let _a = lone.local().poller("a", |_| Work(2));
    let _b = lone.local().poller("b", |_| Work(3));
    assert_eq!(lone.round_after(1), Work(5));
}

#[test]
fn a_dropped_poller_does_not_run_and_frees_its_captures_at_once() {
    let mut lone = Lone::new();
    let (dropped, runs) = (Dropped::default(), Rc::new(Cell::new(0)));
    let (guard, count) = (dropped.on_drop(), runs.clone());
    let poller = lone.local().poller("p", move |_| {
        let _ = &guard;
        count.set(count.get() + 1);
        Work::IDLE
    });
    lone.rounds(2);
    drop(poller);
    assert_eq!(dropped.count(), 1);
    lone.rounds(2);
    assert_eq!(runs.get(), 2);
}

#[test]
fn a_poller_may_unregister_itself_while_it_runs() {
    let mut lone = Lone::new();
    let (dropped, runs) = (Dropped::default(), Rc::new(Cell::new(0)));
    let own = Rc::new(RefCell::new(None));
    let (guard, count, handle) = (dropped.on_drop(), runs.clone(), own.clone());
    let poller = lone.local().poller("suicidal", move |_| {
        count.set(count.get() + 1);
        drop(handle.borrow_mut().take());
        // Its captures are still there for the rest of the run.
        assert_eq!(guard.0.count(), 0);
        Work::IDLE
    });
    *own.borrow_mut() = Some(poller);
    lone.rounds(3);
    assert_eq!((runs.get(), dropped.count()), (1, 1));
    assert_eq!(lone.local().pollers().len(), 0);
}

#[test]
fn a_poller_may_unregister_one_that_has_yet_to_run_this_round() {
    let mut lone = Lone::new();
    let runs = Rc::new(Cell::new(0));
    let victim = Rc::new(RefCell::new(None));
    let handle = victim.clone();
    let _killer = lone.local().poller("killer", move |_| {
        drop(handle.borrow_mut().take());
        Work::IDLE
    });
    let count = runs.clone();
    *victim.borrow_mut() = Some(lone.local().poller("victim", move |_| {
        count.set(count.get() + 1);
        Work::IDLE
    }));
    lone.rounds(2);
    assert_eq!(runs.get(), 0);
}

#[test]
fn a_poller_registered_by_a_poller_runs_from_the_next_round() {
    let mut lone = Lone::new();
    let (log, held) = (log(), log());
    let (outer, inner) = (log.clone(), held.clone());
    let _parent = lone.local().poller("parent", move |local| {
        outer.borrow_mut().push("parent");
        if inner.borrow().is_empty() {
            let log = outer.clone();
            inner.borrow_mut().push(local.poller("child", move |_| {
                log.borrow_mut().push("child");
                Work::IDLE
            }));
        }
        Work::IDLE
    });
    lone.rounds(2);
    assert_eq!(*log.borrow(), ["parent", "parent", "child"]);
    drop(held);
}

#[test]
fn a_detached_poller_runs_until_the_reactor_ends() {
    let mut lone = Lone::new();
    let dropped = Dropped::default();
    let guard = dropped.on_drop();
    lone.local()
        .poller("forever", move |_| {
            let _ = &guard;
            Work(1)
        })
        .detach();
    assert_eq!(lone.round_after(1), Work(1));
    drop(lone);
    assert_eq!(dropped.count(), 1);
}

#[test]
fn nothing_runs_or_stays_once_the_reactor_has_ended() {
    let lone = Lone::new();
    let local = lone.local();
    let dropped = Dropped::default();
    drop(lone);
    let guards = [dropped.on_drop(), dropped.on_drop()];
    let [in_poller, in_task] = guards;
    let poller = local.poller("late", move |_| {
        let _ = &in_poller;
        Work::IDLE
    });
    local.spawn("late", async move { drop(in_task) });
    assert_eq!(dropped.count(), 2);
    assert_eq!(local.send(CoreId::BOOT, |_| ()), Err(SendError::NoSuchCore));
    local.provide(Rc::new(5u32));
    assert!(local.service::<u32>().is_none());
    drop(poller);
}

#[test]
fn a_service_is_found_by_its_type_and_replaced_by_the_next() {
    let lone = Lone::new();
    let local = lone.local();
    assert!(local.service::<u32>().is_none());
    local.provide(Rc::new(1u32));
    local.provide(Rc::new("text"));
    local.provide(Rc::new(2u32));
    assert_eq!(local.service::<u32>().as_deref(), Some(&2));
    assert_eq!(local.service::<&str>().as_deref(), Some(&"text"));
}

#[test]
fn late_pollers_run_after_everything_else_of_the_round() {
    let mut lone = Lone::new();
    let log = log();
    let write = |word: &'static str| {
        let log = log.clone();
        move |_: &Local| {
            log.borrow_mut().push(word);
            Work::IDLE
        }
    };
    let _late = [
        lone.local().late_poller("one", write("late 1")),
        lone.local().late_poller("two", write("late 2")),
    ];
    let _usual = lone.local().poller("usual", write("poller"));
    let _timed = lone.local().timed_poller("timed", Duration::from_micros(1), write("timer"));
    let task_log = log.clone();
    lone.local().spawn("task", async move { task_log.borrow_mut().push("task") });
    let event = |local: &Local| {
        if let Some(log) = local.service::<RefCell<Vec<&'static str>>>() {
            log.borrow_mut().push("event");
        }
    };
    lone.local().provide(log.clone());
    assert_eq!(lone.local().send(CoreId::BOOT, event), Ok(()));
    lone.rounds(1);
    assert_eq!(*log.borrow(), ["event", "timer", "poller", "task", "late 1", "late 2"]);
}

#[test]
fn a_late_poller_counts_and_ends_like_any_other() {
    let mut lone = Lone::new();
    let late = lone.local().late_poller("late", |_| Work(3));
    assert_eq!(lone.round_after(1), Work(3));
    let stats = late.stats();
    assert_eq!((stats.name, stats.period, stats.runs, stats.busy), ("late", None, 1, 1));
    assert_eq!(lone.local().pollers().len(), 1);
    drop(late);
    assert_eq!(lone.round_after(1), Work::IDLE);
}
