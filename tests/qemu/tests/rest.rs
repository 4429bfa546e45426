//! A core with nothing to do rests, and what comes for it ends its rest: a frame, a completion,
//! another core, the clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::rpc_client::{Raw, SpdkRpc};
use basalt_qemu_tests::{BasaltGuest, HostedTwin, is_emulated};
use serde_json::Value;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(2);
/// Commands, of which every other one finds all cores at rest.
const COMMANDS: u64 = 50;

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    disk
}

/// A number of each core, the first being that of the network card.
fn counted(rpc: &SpdkRpc, what: &str) -> Vec<u64> {
    let answer: Value = rpc.call("framework_get_reactors");
    let reactors = answer["reactors"].as_array().unwrap();
    reactors.iter().map(|reactor| reactor[what].as_u64().unwrap()).collect()
}

fn since(before: &[u64], after: &[u64]) -> Vec<u64> {
    before.iter().zip(after).map(|(before, after)| after - before).collect()
}

/// Nobody speaks to the machine for a while: how many rounds each core runs in that time, and how
/// often each begins to rest.
fn left_alone(rpc: &SpdkRpc) -> [Vec<u64>; 2] {
    let counts = || ["rounds", "rests"].map(|what| counted(rpc, what));
    let before = counts();
    thread::sleep(IDLE);
    let after = counts();
    [since(&before[0], &after[0]), since(&before[1], &after[1])]
}

/// Writes and reads back now and then, and says how long that takes.
fn work_now_and_then(port: u16) {
    let mut host = Initiator::connect(port).unwrap();
    let on = host.namespaces().unwrap()[0];
    let mut took = Vec::new();
    for turn in 0..COMMANDS / 2 {
        thread::sleep(PAUSE);
        let began = Instant::now();
        host.verify(on, turn * 8, 4096, turn).unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("a write and a read after a rest: median {:?}", took[took.len() / 2]);
}

#[test]
fn an_idle_machine_rests_until_a_frame_or_a_completion_or_a_core_wakes_it() {
    let disk = disk();
    let machine = BasaltGuest::new("idle").cpus(2).disk(disk.path());
    let (machine, [nvme, rpc]) = machine.user_network_ports([4420, 5260]);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let options = Raw::connect(rpc).call("reactor_get_options");
    assert_eq!(options["result"]["rest_after_us"], if is_emulated() { 20 } else { 1000 });
    let rpc = SpdkRpc::new(rpc);

    // A core that polled, or looked every 100 µs, would run tens of thousands.
    let [rounds, rests] = left_alone(&rpc);
    assert!(rounds.iter().all(|&rounds| rounds < 10_000), "rounds of an idle time: {rounds:?}");
    assert!(rests.iter().all(|&rests| rests > 0), "rests of an idle time: {rests:?}");

    let before = counted(&rpc, "woken");
    work_now_and_then(nvme);
    let woken = since(&before, &counted(&rpc, "woken"));
    assert!(woken[0] >= COMMANDS / 2, "frames wake the card's core: {woken:?}");
    assert!(woken[1] > 0, "a core wakes another: {woken:?}");
}

#[test]
fn a_machine_that_is_told_not_to_rest_polls() {
    let disk = disk();
    let config = r#"{"subsystems": [{"subsystem": "scheduler", "config": [
        {"method": "reactor_set_options", "params": {"rest": false}}
    ]}]}"#;
    let machine = BasaltGuest::new("restless").cpus(1).disk(disk.path()).config(config);
    let (machine, rpc) = machine.user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let [rounds, rests] = left_alone(&SpdkRpc::new(rpc));
    assert_eq!(rests, [0]);
    assert!(rounds[0] > 10_000, "rounds: {rounds:?}");
}

#[test]
fn the_twin_sleeps_until_the_host_or_a_core_wakes_it() {
    let file = disk();
    let twin = HostedTwin::new("idle").file(file.path());
    let (nvme, rpc) = (twin.nvmf, SpdkRpc::new(twin.rpc));
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let [rounds, rests] = left_alone(&rpc);
    assert!(rounds.iter().all(|&rounds| rounds < 10_000), "rounds of an idle time: {rounds:?}");
    assert!(rests.iter().all(|&rests| rests > 0), "rests of an idle time: {rests:?}");
    let before = counted(&rpc, "woken");
    work_now_and_then(nvme);
    let woken: u64 = since(&before, &counted(&rpc, "woken")).iter().sum();
    assert!(woken >= COMMANDS / 2, "{woken}");
}
