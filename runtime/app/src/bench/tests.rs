use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::time::Duration;

use basalt_env::{DmaPool, Instant};
use basalt_hosted::{Clock, Machine};
use basalt_reactor::{Options, Reactor, mesh};
use basalt_rpc::{Config, Rpc, State};
use serde_json::{Value, json};

use super::*;

/// Longer than any run here may take.
const ROUNDS_MAX: usize = 1_000_000;

struct Rig {
    reactors: Vec<Reactor>,
    rpc: Rc<Rpc>,
    now: Instant,
    /// Rounds in which core 0 found work, during the last call.
    busy: usize,
    _machine: Machine,
}

impl Rig {
    /// A machine of two cores with a RAM disk and a null bdev.
    fn new() -> Self {
        let machine = Machine::new();
        let seeds = mesh(2, Options::default());
        let reactors: Vec<_> = seeds.into_iter().map(|seed| seed.build()).collect();
        for reactor in &reactors {
            let arena = machine.arena(16 << 20).unwrap();
            reactor.local().provide(Rc::new(DmaPool::new(arena)));
        }
        let boot = reactors[0].local();
        boot.provide(Rc::new(Registry::new(2, 1)));
        let mut router = Router::new();
        basalt_rpc::methods::register_all(&mut router);
        let with = Instruments { ticks: Clock::start(), allocations: || 7 };
        register(&mut router, with, || {});
        let rpc = Rpc::start(&boot, router, State::Runtime);
        let mut rig = Self { reactors, rpc, now: Instant::ZERO, busy: 0, _machine: machine };
        for (kind, name) in [("malloc", "M"), ("null", "N")] {
            let params = json!({"name": name, "num_blocks": 4096, "block_size": 512});
            rig.call(&std::format!("bdev_{kind}_create"), params).unwrap();
        }
        rig
    }

    fn call(&mut self, method: &str, params: Value) -> Outcome {
        let answer = Rc::new(RefCell::new(None));
        let (slot, rpc, method) = (Rc::clone(&answer), Rc::clone(&self.rpc), String::from(method));
        self.reactors[0].local().spawn("test", async move {
            let outcome = rpc.call(&method, Some(params)).await;
            *slot.borrow_mut() = Some(outcome);
        });
        self.busy = 0;
        for _ in 0..ROUNDS_MAX {
            self.now = self.now + Duration::from_micros(10);
            let now = self.now;
            let found = self.reactors.iter_mut().map(|reactor| reactor.poll(now).is_busy());
            self.busy += usize::from(found.collect::<Vec<_>>()[0]);
            if let Some(outcome) = answer.borrow_mut().take() {
                return outcome;
            }
        }
        panic!("the call does not come to its end");
    }

    fn bench(&mut self, params: Value) -> Value {
        let result = self.call("bench_run", params.clone());
        result.unwrap_or_else(|error| panic!("{params}: {error}"))
    }

    /// What the bdev has counted of the operation.
    fn ops(&mut self, bdev: &str, op: &str) -> u64 {
        let stat = self.call("bdev_get_iostat", json!({"name": bdev})).unwrap();
        stat["bdevs"][0][std::format!("num_{op}_ops")].as_u64().unwrap()
    }
}

#[test]
fn every_workload_runs_at_each_depth_and_does_what_it_is_called() {
    let mut rig = Rig::new();
    for (workload, ops) in [
        ("randread", &["read"][..]),
        ("read", &["read"]),
        ("randwrite", &["write"]),
        ("write", &["write"]),
        ("randrw", &["read", "write"]),
        ("rw", &["read", "write"]),
        ("verify", &["read", "write"]),
        ("unmap", &["unmap"]),
        ("flush", &[]),
        ("write_zeroes", &[]),
    ] {
        assert_eq!(rig.call("bdev_reset_iostat", json!({"name": "M"})).unwrap(), true);
        let params = json!({
            "bdev": "M", "workload": workload, "ios": 200, "depths": [1, 32], "io_size": 1024,
        });
        let results = rig.bench(params);
        for (result, depth) in results.as_array().unwrap().iter().zip([1, 32]) {
            assert_eq!(result["ios"], 200, "{workload}");
            assert_eq!(result["depth"], depth);
            assert_eq!(result["allocations_per_io"], 0.0);
        }
        for op in ["read", "write", "unmap"] {
            assert_eq!(rig.ops("M", op) > 0, ops.contains(&op), "{op} of {workload}");
        }
    }
}

#[test]
fn a_mix_reads_as_often_as_it_is_told_to() {
    let mut rig = Rig::new();
    let params = json!({"bdev": "N", "workload": "randrw", "rwmixread": 90, "ios": 2000});
    rig.bench(params);
    let reads = rig.ops("N", "read");
    // Two runs of 2,000 Ios; ten standard deviations.
    assert!((3_400..=3_800).contains(&reads), "{reads} reads of 4,000");
}

#[test]
fn what_does_not_keep_data_is_found_by_verify() {
    let mut rig = Rig::new();
    let params = json!({"bdev": "N", "workload": "verify", "ios": 100, "depths": [4]});
    let error = rig.call("bench_run", params).unwrap_err();
    assert!(std::format!("{error}").contains("differs from byte 0"), "{error}");
}

#[test]
fn all_cores_take_part_each_on_its_own_blocks() {
    let mut rig = Rig::new();
    let params = json!({
        "bdev": "M", "workload": "verify", "ios": 96, "depths": [8], "cores": 2, "time_ms": null,
    });
    let result = rig.bench(params);
    assert_eq!((&result[0]["ios"], &result[0]["cores"]), (&json!(192), &json!(2)));
    let stat = rig.call("bdev_get_iostat", json!({"name": "M", "per_channel": true})).unwrap();
    let channels = stat["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 2);
    for channel in channels {
        assert_eq!((&channel["num_read_ops"], &channel["num_write_ops"]), (&json!(48), &json!(48)));
    }
}

#[test]
fn a_run_that_makes_no_sense_is_refused_with_the_reason() {
    let mut rig = Rig::new();
    for (params, says) in [
        (json!({"bdev": "none"}), "none"),
        (json!({"bdev": "M", "workload": "crunch"}), "randread, randwrite"),
        (json!({"bdev": "M", "rwmixread": 101}), "rwmixread"),
        (json!({"bdev": "M", "cores": 3}), "from 1 to 2"),
        (json!({"bdev": "M", "io_size": 700}), "multiple of 512"),
        (json!({"bdev": "M", "io_size": 1048576, "depths": [3]}), "too small"),
        (json!({"bdev": "M", "ios": 0}), "at least 1"),
        (json!({"bdev": "M", "ios": 1, "time_ms": 1}), "not both"),
    ] {
        let error = rig.call("bench_run", params.clone()).unwrap_err();
        assert!(std::format!("{error}").contains(says), "{params}: {error}");
    }
}

#[test]
fn a_run_over_time_ends_by_the_clock() {
    let mut rig = Rig::new();
    let result = rig.bench(json!({"bdev": "N", "time_ms": 5, "warmup_ms": 1, "depths": [16]}));
    assert!(result[0]["ios"].as_u64().unwrap() > 0);
    assert!(result[0]["p50_ns"].as_u64().unwrap() <= result[0]["max_ns"].as_u64().unwrap());
}

#[test]
fn a_configuration_may_be_a_whole_benchmark() {
    let calls = json!([
        {"method": "bench_run", "params": {"bdev": "N", "ios": 10}}, {"method": "bench_exit"},
    ]);
    let config = json!({"subsystems": [{"subsystem": "bench", "config": calls}]});
    let config = Config::parse(std::format!("{config}").as_bytes());
    assert_eq!(config.check(&Rig::new().rpc), []);
}

#[test]
fn what_takes_too_long_is_aborted_and_counted() {
    let mut rig = Rig::new();
    rig.call("bdev_error_create", json!({"base_name": "M"})).unwrap();
    let hang = json!({"name": "EE_M", "io_type": "read", "error_type": "pending", "num": 3});
    rig.call("bdev_error_inject_error", hang).unwrap();
    let params = json!({
        "bdev": "EE_M", "workload": "randread", "depths": [4], "ios": 40, "io_timeout_ms": 2,
    });
    let result = &rig.bench(params)[0];
    assert_eq!((&result["timed_out"], &result["ios"]), (&json!(3), &json!(40)));
    let refused = rig.call("bench_run", json!({"bdev": "M", "io_timeout_ms": 0})).unwrap_err();
    assert!(std::format!("{refused}").contains("io_timeout_ms"));
}

#[test]
fn a_core_that_may_rest_is_busy_only_when_an_io_begins_or_ends() {
    let mut rig = Rig::new();
    let times = json!({"name": "D", "base_bdev_name": "M", "avg_read_latency": 1000,
        "p99_read_latency": 1000, "avg_write_latency": 1000, "p99_write_latency": 1000});
    rig.call("bdev_delay_create", times).unwrap();
    let mut rounds = |rest: bool| {
        let params = json!({"bdev": "D", "depths": [1], "ios": 20, "rest": rest});
        assert_eq!(rig.bench(params)[0]["ios"], 20);
        rig.busy
    };
    let (polling, resting) = (rounds(false), rounds(true));
    assert!(polling > 2000, "20 times a hundred rounds: {polling}");
    assert!(resting < 200, "{resting}");
}
