//! A machine of one or more cores with the control plane on it, and tests by subject.

mod bdev;
pub(crate) mod config;
mod config_check;
mod documentation;
mod framework;
mod framing;
mod gate;
mod modules;
mod nvme_discovery;
mod nvme_local;
mod nvme_manage;
mod nvme_options;
mod nvme_remote;
mod nvmf;
mod nvmf_ana;
mod nvmf_discovery;
mod nvmf_masking;
mod protocol;
mod server;
mod trace;
mod vbdev;
mod virtio;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::Registry;
use basalt_env::Instant;
use basalt_reactor::{Local, Options, Reactor, mesh};
use serde_json::Value;

use crate::{Outcome, Router, Rpc, State, methods};

/// Longer than any method here may take.
const ROUNDS_MAX: usize = 100_000;

pub(crate) struct Machine {
    pub reactors: Vec<Reactor>,
    pub rpc: Rc<Rpc>,
    now: Instant,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_cores(1)
    }

    pub fn with_cores(cores: usize) -> Self {
        Self::in_state(cores, State::Runtime)
    }

    pub fn in_state(cores: usize, state: State) -> Self {
        let seeds = mesh(cores, Options::default());
        let reactors: Vec<Reactor> = seeds.into_iter().map(|seed| seed.build()).collect();
        let boot = reactors[0].local();
        boot.provide(Rc::new(Registry::new(cores, 1)));
        let mut router = Router::new();
        methods::register_all(&mut router);
        let rpc = Rpc::start(&boot, router, state);
        Self { reactors, rpc, now: Instant::ZERO }
    }

    pub fn boot(&self) -> Local {
        self.reactors[0].local()
    }

    /// One round of every core, 100 µs after the last.
    pub fn round(&mut self) {
        self.now = self.now + Duration::from_micros(100);
        for reactor in &mut self.reactors {
            let _ = reactor.poll(self.now);
        }
    }

    /// Runs a task on the boot core to its end.
    pub fn run<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.boot().spawn("test", async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        });
        for _ in 0..ROUNDS_MAX {
            self.round();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
        }
        panic!("the task did not end");
    }

    pub fn call(&mut self, method: &str, params: impl Into<Option<Value>>) -> Outcome {
        let (rpc, method, params) = (Rc::clone(&self.rpc), String::from(method), params.into());
        self.run(async move { rpc.call(&method, params).await })
    }

    pub fn answer(&mut self, message: Value) -> Option<Value> {
        let rpc = Rc::clone(&self.rpc);
        let reply = self.run(async move { rpc.answer(message).await });
        reply.map(|text| serde_json::from_slice(&text).expect("a reply is JSON"))
    }

    pub fn code(&mut self, method: &str, params: impl Into<Option<Value>>) -> i64 {
        self.call(method, params).expect_err("the call must fail").code
    }
}
