//! What machines trace: taken over into a file for chrome://tracing, and printed when they fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::rpc_client::{Raw, SpdkRpc};
use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin};
use basalt_runner::DebugExit;
use basalt_runner::trace::{self, TraceArguments};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

const START: Duration = Duration::from_secs(120);
const FILE_BYTES: u64 = 16 << 20;

fn file() -> NamedTempFile {
    let made = NamedTempFile::new().and_then(|file| {
        file.as_file().set_len(FILE_BYTES)?;
        Ok(file)
    });
    made.unwrap_or_else(|error| panic!("no file: {error}"))
}

/// Reads by NVMe/TCP for as long as it lives.
struct Load {
    stop: Arc<AtomicBool>,
    reader: thread::JoinHandle<anyhow::Result<u64>>,
}

impl Load {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let reader = thread::spawn(move || {
            let mut initiator = Initiator::connect(port)?;
            let disk = initiator.namespaces()?[0];
            let mut reads = 0;
            while !asked.load(Ordering::Relaxed) {
                assert!(!initiator.read(disk, reads % 64 * 8, 8)?.data.is_empty());
                reads += 1;
            }
            Ok(reads)
        });
        Self { stop, reader }
    }

    /// Ends it; how many reads that were.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        match self.reader.join() {
            Ok(Ok(reads)) => reads,
            failed => panic!("the reads failed: {failed:?}"),
        }
    }
}

/// Of the machine at that port, for a second, into nothing.
fn arguments(port: u16) -> TraceArguments {
    TraceArguments {
        address: format!("127.0.0.1:{port}"),
        groups: Vec::new(),
        seconds: 1.0,
        from: Vec::new(),
        output: "/dev/null".into(),
    }
}

/// Makes a file and reads it.
fn made(arguments: TraceArguments) -> anyhow::Result<Value> {
    let directory = TempDir::new()?;
    let output = directory.path().join("trace.json");
    trace::run(&TraceArguments { output: output.clone(), ..arguments })?;
    Ok(serde_json::from_slice(&fs::read(output)?)?)
}

/// Captures for a second and reads the file.
fn captured(port: u16, groups: &[&str]) -> anyhow::Result<Value> {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    made(TraceArguments { groups, ..arguments(port) })
}

/// The same of answers that are saved as they come.
fn saved(port: u16) -> anyhow::Result<Value> {
    let file = NamedTempFile::new()?;
    let mut client = Raw::connect(port);
    for core in 0..2 {
        let params = json!({"core": core, "max": 1000});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "trace_get_events",
            "params": params});
        client.send(call.to_string().as_bytes());
        writeln!(file.as_file(), "{}", client.receive())?;
    }
    made(TraceArguments { from: vec![file.path().to_owned()], ..arguments(port) })
}

fn events(trace: &Value) -> &[Value] {
    trace["traceEvents"].as_array().map_or(&[], Vec::as_slice)
}

fn ns(event: &Value, field: &str) -> u64 {
    let us = event[field].as_f64();
    let us = us.unwrap_or_else(|| panic!("{event} has no {field}"));
    (us * 1000.0).round() as u64
}

/// Well-formed: times ascend, spans of a core nest, pairs have two ends.
fn assert_sound(trace: &Value) {
    let timed: Vec<&Value> = events(trace).iter().filter(|event| event["ph"] != "M").collect();
    assert!(!timed.is_empty());
    assert!(timed.windows(2).all(|pair| ns(pair[0], "ts") <= ns(pair[1], "ts")));
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut pairs: BTreeMap<&str, i32> = BTreeMap::new();
    for event in timed {
        let (begins, core) = (ns(event, "ts"), event["tid"].as_u64().unwrap_or(u64::MAX));
        match event["ph"].as_str().unwrap_or_default() {
            "X" => {
                let (ends, around) = (begins + ns(event, "dur"), open.entry(core).or_default());
                while around.last().is_some_and(|end| *end <= begins) {
                    around.pop();
                }
                assert!(around.last().is_none_or(|end| ends <= *end), "{event} sticks out");
                around.push(ends);
            }
            "b" => *pairs.entry(event["id"].as_str().unwrap_or_default()).or_default() += 1,
            "e" => *pairs.entry(event["id"].as_str().unwrap_or_default()).or_default() -= 1,
            "i" => assert_eq!(event["s"], "t"),
            other => panic!("no such phase here: {other}"),
        }
    }
    assert!(pairs.values().all(|balance| *balance == 0));
}

fn has(trace: &Value, field: &str, value: &str) -> bool {
    events(trace).iter().any(|event| event[field] == value)
}

fn assert_has(trace: &Value, field: &str, values: &[&str]) {
    for value in values {
        assert!(has(trace, field, value), "no event whose {field} is {value}");
    }
}

const TARGET: [&str; 9] = [
    "BDEV_IO_START",
    "BDEV_IO_DONE",
    "TCP_REQ_NEW",
    "TCP_REQ_COMPLETED",
    "TCP_PDU_RECEIVED",
    "TCP_PDU_SENT",
    "SOCK_RECEIVED",
    "SOCK_SENT",
    "THREAD_POLLER",
];

fn masks(rpc: &SpdkRpc) -> Value {
    rpc.call("trace_get_tpoint_group_mask")["tpoint_group_mask"].clone()
}

#[test]
fn a_trace_of_the_twin_under_load_has_every_step_of_its_reads() {
    let file = file();
    let twin = HostedTwin::new("traced").file(file.path());
    let (nvmf, rpc_port) = (twin.nvmf, twin.rpc);
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    let rpc = SpdkRpc::new(rpc_port);
    rpc.call("trace_set_tpoint_mask sock 0x100000000");
    let load = Load::start(nvmf);
    let trace = captured(rpc_port, &[]).unwrap();
    assert!(load.end() > 0);
    assert_sound(&trace);
    assert_has(&trace, "cat", &TARGET);
    assert_has(&trace, "name", &["thread_name", "nvmf_tcp", "rpc", "round"]);
    let read = |event: &&Value| event["cat"] == "BDEV_IO_DONE" && event["ph"] == "b";
    let read = events(&trace).iter().find(read).unwrap();
    assert_eq!((&read["args"]["op"], &read["args"]["blocks"]), (&json!("read"), &json!(8)));
    // What was on before still is, and nothing else.
    assert_eq!(masks(&rpc), "0x8000");
    rpc.call("trace_clear_tpoint_mask sock 0x100000000");
    assert_eq!(masks(&rpc), "0x0");
    let one = captured(rpc_port, &["thread"]).unwrap();
    assert!(!has(&one, "cat", "SOCK_RECEIVED") && has(&one, "cat", "THREAD_POLLER"));
    rpc.call("trace_enable_tpoint_group bdev");
    let load = Load::start(nvmf);
    thread::sleep(Duration::from_millis(300));
    assert!(load.end() > 0);
    let later = saved(rpc_port).unwrap();
    rpc.call("trace_disable_tpoint_group bdev");
    assert_sound(&later);
    assert_has(&later, "cat", &["BDEV_IO_START", "BDEV_IO_DONE"]);
    assert_has(&later, "name", &["thread_name", "read Aio0"]);
    let refused = TraceArguments { groups: vec!["nvmf_rdma".to_owned()], ..arguments(rpc_port) };
    let refused = format!("{:#}", trace::run(&refused).unwrap_err());
    assert!(refused.contains("there are bdev, "), "{refused}");
    let wrong = format!("{:#}", trace::run(&arguments(nvmf)).unwrap_err());
    assert!(wrong.contains("4420 is NVMe/TCP"), "{wrong}");
    assert_silent(&guest);
}

fn assert_silent(guest: &Guest) {
    let bad = |line: &&String| line.contains("PANIC") || line.contains("ERROR");
    assert_eq!(guest.lines().iter().find(bad), None);
}

#[test]
fn the_image_is_traced_down_to_its_drive_and_prints_its_trace_when_it_fails() {
    let disk = file();
    let machine = BasaltGuest::new("traced").disk(disk.path());
    let (machine, [nvmf, rpc_port]) = machine.user_network_ports([4420, 5260]);
    let (machine, socket) = machine.monitor();
    let mut guest = machine.start();
    guest.wait_for_line("basalt: ready", START);
    let load = Load::start(nvmf);
    let trace = captured(rpc_port, &[]).unwrap();
    assert!(load.end() > 0);
    assert_sound(&trace);
    assert_has(&trace, "cat", &TARGET);
    assert_has(&trace, "cat", &["NVME_PCIE_SUBMIT", "NVME_PCIE_COMPLETE"]);
    assert_has(&trace, "name", &["read Nvme0n1", "net_nic", "bdev_nvme_poll"]);
    assert_silent(&guest);
    let rpc = SpdkRpc::new(rpc_port);
    rpc.call("trace_enable_tpoint_group thread");
    socket.connect().end_by("nmi");
    assert_eq!(guest.wait_for_exit(START), DebugExit::Value(1));
    let lines = guest.lines();
    let head = lines.iter().position(|line| line.starts_with("core 0 has traced "));
    let head = head.unwrap_or_else(|| panic!("nothing is told of what core 0 traced"));
    let told: Vec<_> =
        lines[head + 1..].iter().take_while(|line| line.starts_with("  [")).collect();
    assert!((1..=64).contains(&told.len()), "{} events are told", told.len());
    let poller =
        |line: &&&String| line.contains("THREAD_POLLER name=") && line.contains("took_ns=");
    assert!(told.iter().any(|line| poller(&line)), "{told:?}");
}
