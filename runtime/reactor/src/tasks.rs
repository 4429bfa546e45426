use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use basalt_env::Work;
use basalt_metrics::Tpoint;

use crate::Local;
use crate::activity::Activity;
use crate::rest::Bedside;
use crate::stats::CoreCounters;
use crate::task::{Batch, Progress, Ready, Runner, Task};

/// A core's tasks, by key.
pub(crate) struct Tasks {
    runner: Runner,
    background: Runner,
    /// Tasks of the background that were woken and have not run yet.
    waiting: RefCell<Batch>,
    counters: Arc<CoreCounters>,
    table: RefCell<Table>,
}

struct Named {
    name: &'static str,
    activity: Activity,
    /// Dropped where it waits if it is forgotten.
    _task: Task,
}

#[derive(Default)]
struct Table {
    /// `None` where a key is free.
    tasks: Vec<Option<Named>>,
    free_keys: Vec<usize>,
}

impl Tasks {
    pub fn new(counters: Arc<CoreCounters>, bedside: &'static Bedside) -> Self {
        let [runner, background] = [(); 2].map(|()| Runner::new(Some(bedside)));
        let (waiting, table) = (RefCell::default(), RefCell::default());
        Self { runner, background, waiting, counters, table }
    }

    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        self.add(name, |key| self.runner.spawn(key, future));
    }

    pub fn spawn_background(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        self.add(name, |key| self.background.spawn(key, future));
    }

    fn add(&self, name: &'static str, spawn: impl FnOnce(usize) -> Task) {
        let mut table = self.table.borrow_mut();
        let key = table.free_keys.pop().unwrap_or(table.tasks.len());
        let activity = self.counters.running.activity(name);
        let task = Some(Named { name, activity, _task: spawn(key) });
        match table.tasks.get_mut(key) {
            Some(free) => *free = task,
            None => table.tasks.push(task),
        }
        self.count(&table);
    }

    /// Runs each task that was woken, once. What they wake runs in the next round.
    pub fn run(&self, local: &Local) -> Work {
        let mut count = 0;
        for ready in self.runner.take() {
            count += 1;
            self.run_one(local, &ready);
        }
        Work(count)
    }

    /// Runs tasks of the background that were woken, each once, for as long as `may_go_on` says;
    /// the others are the first next time.
    pub fn run_background(&self, local: &Local, may_go_on: impl Fn() -> bool) -> Work {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            *waiting = self.background.take();
        }
        drop(waiting);
        let mut count = 0;
        while let Some(ready) = self.next_waiting() {
            count += 1;
            self.run_one(local, &ready);
            if !may_go_on() {
                break;
            }
        }
        Work(count)
    }

    fn next_waiting(&self) -> Option<Ready> {
        self.waiting.borrow_mut().next()
    }

    fn run_one(&self, local: &Local, ready: &Ready) {
        let mut activity = Activity::NONE;
        if let Some(Some(named)) = self.table.borrow().tasks.get(ready.key()) {
            activity = named.activity;
            self.counters.running.set(activity);
            self.counters.recorder.task(local.now(), activity);
        }
        let began = local.trace_begin();
        let (key, progress) = (ready.key(), ready.run());
        local.trace_end(Tpoint::ThreadTask, began, activity, 1);
        if progress == Progress::Finished {
            self.forget(key);
        }
    }

    fn count(&self, table: &Table) {
        self.counters.tasks.set((table.tasks.len() - table.free_keys.len()) as u64);
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.table.borrow().tasks.iter().flatten().map(|named| named.name).collect()
    }

    /// Drops every task where it waits.
    pub fn clear(&self) {
        let (table, waiting) = (self.table.take(), self.waiting.take());
        drop((table, waiting));
    }

    fn forget(&self, key: usize) {
        let mut table = self.table.borrow_mut();
        let Some(finished) = table.tasks.get_mut(key).and_then(Option::take) else {
            return;
        };
        table.free_keys.push(key);
        self.count(&table);
        drop(table);
        drop(finished);
    }
}

/// Lets everything else on the core run; resumes in the next round. See [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Lets everything else on the core run; resumes in the next round.
pub const fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}
