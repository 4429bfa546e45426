//! Metrics as Prometheus meets them, and the HTTP server as those do who break its rules, while a
//! host goes on using its namespace.

use std::fmt::Debug;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::{BasaltGuest, HostedTwin, free_ports};
use basalt_runner::launch::tied;
use basalt_runner::{Workspace, packages};
use serde_json::{Value, json};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(120);
const NQN: &str = "nqn.2026-11.io.basalt:storage";

/// What a test fails without.
trait Must<T> {
    fn must(self) -> T;
}

impl<T, E: Debug> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self) -> T {
        self.unwrap_or_else(|error| panic!("{error:?}"))
    }
}

impl<T> Must<T> for Option<T> {
    #[track_caller]
    fn must(self) -> T {
        self.unwrap_or_else(|| panic!("it is not there"))
    }
}

/// A bdev in memory that every host may use.
fn memory(nvmf: u16) -> String {
    let listen = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0",
        "trsvcid": nvmf.to_string()});
    let nvmf = json!([
        {"method": "nvmf_create_transport", "params": {"trtype": "TCP"}},
        {"method": "nvmf_create_subsystem", "params": {"nqn": NQN, "allow_any_host": true}},
        {"method": "nvmf_subsystem_add_ns",
            "params": {"nqn": NQN, "namespace": {"bdev_name": "Ram0"}}},
        {"method": "nvmf_subsystem_add_listener", "params": {"nqn": NQN, "listen_address": listen}},
    ]);
    let bdev = json!([{"method": "bdev_malloc_create",
        "params": {"name": "Ram0", "num_blocks": 32768, "block_size": 512}}]);
    let all = json!({"subsystems": [
        {"subsystem": "bdev", "config": bdev}, {"subsystem": "nvmf", "config": nvmf}]});
    all.to_string()
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).must();
    stream.set_read_timeout(Some(START)).must();
    stream
}

/// The head and the content of what is answered to `request`, after which the server closes.
fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = connect(port);
    stream.write_all(request.as_bytes()).must();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).must();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, content) = answer.split_once("\r\n\r\n").must();
    (head.to_owned(), content.to_owned())
}

fn get(port: u16, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: basalt\r\nConnection: close\r\n\r\n");
    let (head, content) = ask(port, &request);
    assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
    content
}

/// Reads through an initiator until it is told to stop, and counts.
struct Load {
    stops: AtomicBool,
    reads: AtomicU64,
}

impl Load {
    const fn new() -> Self {
        Self { stops: AtomicBool::new(false), reads: AtomicU64::new(0) }
    }

    fn run(&self, port: u16) {
        let mut host = Initiator::connect(port).must();
        let on = host.namespaces().must()[0];
        while !self.stops.load(Ordering::Relaxed) {
            host.read(on, 0, 8).must();
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Waits until there were so many more.
    fn wait_for(&self, more: u64) {
        let (end, wanted) = (Instant::now() + START, self.reads() + more);
        while self.reads() < wanted {
            assert!(Instant::now() < end, "the host got no answers");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Ends the load however the test ends, for the thread's sake.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stops.store(true, Ordering::Relaxed);
    }
}

/// Debian's Prometheus, and its directory.
struct Prometheus {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Prometheus {
    /// One that scrapes `target` of 127.0.0.1 every second.
    fn start(target: u16) -> Self {
        let directory = TempDir::new().must();
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: basalt\n  static_configs:\n  - targets: ['127.0.0.1:{target}']\n"
        );
        fs::write(&config, text).must();
        let [port] = free_ports([9090]);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut command = tied(&command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: child.spawn().must(), port, _directory: directory }
    }

    /// The value of an expression, once it has one that `suits`.
    fn wait_for(&self, expression: &str, suits: impl Fn(f64) -> bool) -> f64 {
        let end = Instant::now() + START;
        loop {
            let value = self.query(expression);
            if let Some(value) = value.filter(|value| suits(*value)) {
                return value;
            }
            assert!(Instant::now() < end, "{expression} is {value:?}");
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn query(&self, expression: &str) -> Option<f64> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        let request =
            format!("GET /api/v1/query?query={expression} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, content) = answer.split_once("\r\n\r\n")?;
        let answer: Value = serde_json::from_str(content).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ensure_prometheus() {
    let workspace = Workspace::locate().must();
    packages::ensure(&workspace, "prometheus", &["prometheus"]).must();
}

/// What Prometheus' own checker says of the metrics.
fn promtool(metrics: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().must();
    child.stdin.take().must().write_all(metrics.as_bytes()).must();
    let output = child.wait_with_output().must();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    format!("{}: {said}", output.status)
}

#[test]
fn prometheus_scrapes_the_twin_while_a_host_reads_from_it() {
    ensure_prometheus();
    let twin = HostedTwin::new("twin");
    let (nvmf, http) = (twin.nvmf, twin.http);
    let guest = twin.config(&memory(nvmf)).start();
    guest.wait_for_line("basalt: ready", START);
    let load = Load::new();
    thread::scope(|scope| {
        let _stop = Stop(&load);
        scope.spawn(|| load.run(nvmf));
        load.wait_for(100);
        let plain = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n\
                     Connection: close\r\n\r\n";
        let (_, metrics) = ask(http, plain);
        let said = promtool(&metrics);
        assert!(said.starts_with("exit status: 0"), "{said}");
        let prometheus = Prometheus::start(http);
        prometheus.wait_for("up", |up| up == 1.0);
        let reads = "basalt_bdev_ios_total{bdev=\"Ram0\",op=\"read\"}";
        let first = prometheus.wait_for(reads, |reads| reads >= 100.0);
        load.wait_for(100);
        prometheus.wait_for(reads, |reads| reads >= first + 100.0);
        let bucket = "basalt_bdev_latency_seconds_bucket{op=\"read\",le=\"%2BInf\"}";
        prometheus.wait_for(bucket, |count| count >= first);
        prometheus.wait_for("scrape_samples_scraped", |samples| samples > 100.0);
    });
}

/// What nobody should send, and how it begins to be answered.
const ABUSE: [(&str, &str); 5] = [
    ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", "HTTP/1.1 505 "),
    ("GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
    ("\0\u{1}\u{2}\r\n\r\n", "HTTP/1.1 400 "),
    ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 "),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 413 "),
];

#[test]
fn who_breaks_the_rules_of_http_is_refused_and_disturbs_nobody() {
    let [nvmf_guest, http_guest] = [4420, 9090];
    let (machine, [nvmf, http]) = BasaltGuest::new("basalt")
        .config(&memory(4420))
        .user_network_ports([nvmf_guest, http_guest]);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let load = Load::new();
    thread::scope(|scope| {
        let _stop = Stop(&load);
        scope.spawn(|| load.run(nvmf));
        load.wait_for(20);
        for (request, begins) in ABUSE {
            let (head, _) = ask(http, request);
            assert!(head.starts_with(begins), "{request:?}: {head}");
        }
        let giant = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(100_000));
        assert!(
            refusal(http, giant.as_bytes()).is_none_or(|head| head.starts_with("HTTP/1.1 431"))
        );
        load.wait_for(20);
        // More than there is room for, of which some never read and others never finish.
        let crowd: Vec<_> = (0..150).map(|_| connect(http)).collect();
        for (at, mut stream) in crowd.iter().enumerate() {
            let request =
                if at % 2 == 0 { "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" } else { "GE" };
            // It may have been refused by now.
            let _ = stream.write_all(request.as_bytes());
        }
        load.wait_for(50);
        drop(crowd);
        let mut slow = connect(http);
        for byte in b"GET /api/state HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" {
            slow.write_all(&[*byte]).must();
            thread::sleep(Duration::from_millis(5));
        }
        let mut answer = String::new();
        slow.read_to_string(&mut answer).must();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with('}'), "{answer}");
        load.wait_for(20);
        let reads = load.reads();
        // Who asks gets what was made for another up to 200 ms before.
        thread::sleep(Duration::from_millis(300));
        check_queues(&get(http, "/api/state"), reads);
    });
    thread::sleep(Duration::from_millis(300));
    check_state(&get(http, "/api/state"), load.reads());
    let log: Value = serde_json::from_str(&get(http, "/api/log?since=0")).must();
    let lines = log["lines"].as_array().must();
    assert!(lines.iter().any(|line| line["message"] == "ready"), "{log}");
    let wrong = |line: &&String| line.contains("ERROR") || line.contains("PANIC");
    assert_eq!(guest.lines().iter().find(wrong), None);
}

/// What the server says to something too long before it ends the connection, if that arrives.
fn refusal(port: u16, bytes: &[u8]) -> Option<String> {
    let mut stream = connect(port);
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    for error in [sent.err(), read.err()].into_iter().flatten() {
        let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(ends.contains(&error.kind()), "{error}");
    }
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

/// The queue by which so much was read tells of it, and the admin queue of what it was asked.
fn check_queues(text: &str, reads: u64) {
    let state: Value = serde_json::from_str(text).must();
    let subsystems = state["subsystems"].as_array().must();
    let ours = subsystems.iter().find(|subsystem| subsystem["nqn"] == NQN).must();
    let queues = ours["hosts"][0]["queues"].as_array().must();
    let commands = |qid: u64| {
        let queue = queues.iter().find(|queue| queue["qid"] == qid).must();
        queue["commands"].as_u64().must()
    };
    assert!(commands(1) >= reads && commands(0) > 0, "{queues:?}");
}

fn check_state(text: &str, reads: u64) {
    let state: Value = serde_json::from_str(text).must();
    assert_eq!((&state["product"], &state["environment"]), (&json!("Basalt"), &json!("image")));
    let bdevs = state["bdevs"].as_array().must();
    let ram = bdevs.iter().find(|bdev| bdev["name"] == "Ram0").must();
    assert!(ram["read"]["ios"].as_u64().must() >= reads, "{ram}");
    let buckets = ram["latency"]["read"].as_array().must();
    let counted: u64 = buckets.iter().map(|bucket| bucket[1].as_u64().must()).sum();
    assert_eq!(counted, ram["read"]["ios"].as_u64().must());
    let network = &state["network"][0];
    assert!(network["rx_frames"].as_u64().must() > reads);
    assert_eq!((&network["link"], &network["tx_dropped"]), (&json!(true), &json!(0)));
    let heap = &state["memory"]["heap"];
    let [used, peak] = ["used", "peak"].map(|name| heap[name].as_u64().must());
    assert!(0 < used && used <= peak && peak < heap["size"].as_u64().must(), "{heap}");
    for name in ["retransmits", "out_of_order", "duplicates"] {
        assert!(state["tcp"][name].is_u64(), "{}", state["tcp"]);
    }
    assert!(state["unix_s"].as_u64().must() > 1_700_000_000);
}
