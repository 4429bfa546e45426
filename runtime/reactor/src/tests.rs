// Under loom only the models run: see `task/loom_tests.rs`.
#![cfg(not(loom))]

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::thread;

use basalt_env::{CoreId, Instant, Work};

use crate::sync::{Notify, oneshot};
use crate::{CallError, Cores, Elapsed, Local, Options, Reactor, SendError, mesh, yield_now};

mod accounting;
mod background;
mod cores;
mod pollers;
mod rest;
mod tasks;
mod timers;
mod tracing;
mod watchdog;

/// A reactor alone in the world, and a clock for it.
struct Lone {
    reactor: Reactor,
    now: Instant,
}

impl Lone {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let reactor = mesh(1, options).remove(0).build();
        Self { reactor, now: Instant::ZERO }
    }

    fn local(&self) -> Local {
        self.reactor.local()
    }

    /// One round, `us` microseconds after the last.
    fn round_after(&mut self, us: u64) -> Work {
        self.now = self.now + Duration::from_micros(us);
        self.reactor.poll(self.now)
    }

    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            let _ = self.round_after(1);
        }
    }

    /// Rounds until `done`; fails the test after 10,000.
    fn until(&mut self, done: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if done() {
                return;
            }
            let _ = self.round_after(1);
        }
        panic!("not done within 10,000 rounds");
    }
}

/// A log that closures share.
type Log<T> = Rc<RefCell<Vec<T>>>;

fn log<T>() -> Log<T> {
    Rc::default()
}

/// Counts its drops.
#[derive(Clone, Default)]
struct Dropped(Rc<Cell<usize>>);

impl Dropped {
    fn count(&self) -> usize {
        self.0.get()
    }

    fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }
}

struct OnDrop(Dropped);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}
