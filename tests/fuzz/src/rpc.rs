//! A machine with the whole control plane: bdevs, virtual bdevs, the target, and JSON-RPC.

use std::cell::RefCell;
use std::rc::Rc;

use basalt_bdev::vbdev::gpt;
use basalt_models::pipes::TestStack;
use basalt_nvmf::{PollGroup, Target, TransportConfig};
use basalt_rpc::{Config, ConfigError, Router, Rpc, State, methods};
use serde_json::{Value, json};

use crate::machine::Machine;

/// The machine and its ways in.
pub struct Controlled {
    pub machine: Machine,
    pub stack: Rc<RefCell<TestStack>>,
    pub rpc: Rc<Rpc>,
}

impl Controlled {
    /// One core, on which everything runs.
    pub fn new() -> Self {
        let mut machine = Machine::new(1);
        let local = machine.local(0);
        let mut router = Router::new();
        methods::register_all(&mut router);
        let rpc = Rpc::start(&local, router, State::Runtime);
        gpt::Examiner::start(&local);
        let config = TransportConfig::default();
        Target::start(&local, config);
        let stack = Rc::new(RefCell::new(TestStack::new()));
        PollGroup::start(&local, stack.clone(), machine.pools[0].clone(), config);
        machine.rounds(8);
        Self { machine, stack, rpc }
    }

    /// Makes the calls of a configuration.
    pub fn apply(&mut self, config: Config) -> Result<(), ConfigError> {
        let rpc = Rc::clone(&self.rpc);
        self.machine.wait_for(async move { config.apply(&rpc).await }, || {})
    }

    /// What a client's `save_config` would write.
    pub fn save(&mut self) -> Value {
        let listed = self.call("framework_get_subsystems", Value::Null);
        let names = listed.as_array().unwrap().iter().map(|entry| entry["subsystem"].clone());
        let subsystems: Vec<Value> = names
            .map(|name| {
                let config = self.call("framework_get_config", json!({"name": name}));
                json!({"subsystem": name, "config": config})
            })
            .collect();
        json!({"subsystems": subsystems})
    }

    fn call(&mut self, method: &'static str, params: Value) -> Value {
        let rpc = Rc::clone(&self.rpc);
        let params = Some(params).filter(|params| !params.is_null());
        self.machine.wait_for(async move { rpc.call(method, params).await }, || {}).unwrap()
    }

    /// What has been configured must be told in a form that makes the same again elsewhere, and is
    /// told there alike.
    pub fn check_saved(mut self) {
        let saved = self.save();
        drop(self);
        let mut other = Self::new();
        let text = serde_json::to_vec(&saved).unwrap();
        let config = Config::parse(&text);
        if let Err(error) = other.apply(config) {
            panic!("{error}: {saved:#}");
        }
        assert_eq!(other.save(), saved, "saved, loaded and saved again");
    }
}
