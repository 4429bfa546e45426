//! `cargo run -- bench --nvmf --hammer`: what I/O feels of clients that call methods and read the
//! metrics without a pause.
//!
//! The image has one core, which serves all of them. It is measured in rounds, each with and
//! without those clients, so that both see the same of what else the host does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::report::{Peer, Report};
use super::{BOOT, Plan, ROUNDS, client, guest, medians, servers};
use crate::accel::Accel;
use crate::{Build, Workspace, ports};

/// What is measured.
const WORKLOAD: &str = "randread";

/// What each of the callers calls: all of them have long answers, or ask every core.
const CALLS: [&str; 4] = [
    r#"{"jsonrpc": "2.0", "id": 1, "method": "rpc_get_methods"}"#,
    r#"{"jsonrpc": "2.0", "id": 1, "method": "nvmf_get_subsystems"}"#,
    r#"{"jsonrpc": "2.0", "id": 1, "method": "thread_get_pollers"}"#,
    r#"{"jsonrpc": "2.0", "id": 1, "method": "bdev_get_iostat"}"#,
];

/// A connection for each request, as the metrics are few.
const SCRAPE: &str = "GET /metrics HTTP/1.0\r\n\r\n";

/// An answer that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures the image with and without callers.
///
/// # Errors
/// It does not come up, or the client cannot use it, or the callers get no answers.
pub(in super::super) fn run(
    workspace: &Workspace,
    plan: &Plan,
    accel: Accel,
) -> anyhow::Result<Report> {
    let program = workspace.build_hosted(Build::Fast)?;
    let (kernel, _) = workspace.build_image()?;
    let target = servers::target(servers::IMAGE_SUBSYSTEM)?;
    let (rpc, http) = (ports::pick_free()?, ports::pick_free()?);
    let machine = servers::managed_image(&kernel, accel, [target.port, rpc, http]);
    let _server = guest::start_until(&machine, servers::IMAGE_MARK, BOOT)?;
    let plan = Plan { time: plan.time / ROUNDS, ..plan.clone() };
    let measure = || client::measure(&program, &target, &plan, (1, WORKLOAD), client::Amount::Time);
    let (mut quiet, mut called, mut answers) = (Vec::new(), Vec::new(), 0);
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS} …");
        quiet.extend(measure()?);
        let callers = Callers::start(rpc, http);
        let figures = measure();
        answers += callers.stop();
        called.extend(figures?);
    }
    anyhow::ensure!(answers > 0, "the callers got no answers");
    eprintln!("{answers} answers");
    let (name, verdict) = ("called", "quiet is better by");
    let peer = Peer { name, key: name, verdict, figures: medians(&called) };
    Ok(Report { accel, basalt: medians(&quiet), peer: Some(peer), layers: BTreeMap::new() })
}

/// Clients that go on until they are told to stop.
struct Callers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Callers {
    fn start(rpc: u16, http: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |text: &'static str| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || count(&stop, || calls(rpc, text)))
        };
        let mut threads: Vec<_> = CALLS.map(call).into();
        let stopped = Arc::clone(&stop);
        threads.push(thread::spawn(move || count(&stopped, || scrape(http))));
        Self { stop, threads }
    }

    /// How many answers they got.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    }
}

/// How often `ask` gets answers, and how many.
fn count(stop: &AtomicBool, mut ask: impl FnMut() -> Result<u64>) -> u64 {
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        answers += ask().unwrap_or_default();
    }
    answers
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A connection's worth of calls.
fn calls(port: u16, text: &str) -> Result<u64> {
    const CALLS_PER_CONNECTION: u64 = 64;
    let mut stream = BufReader::new(connect(port)?);
    let mut answer = Vec::new();
    for _ in 0..CALLS_PER_CONNECTION {
        stream.get_mut().write_all(text.as_bytes())?;
        answer.clear();
        if stream.read_until(b'\n', &mut answer)? == 0 {
            return Ok(0);
        }
    }
    Ok(CALLS_PER_CONNECTION)
}

fn scrape(port: u16) -> Result<u64> {
    let mut stream = connect(port)?;
    stream.write_all(SCRAPE.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(u64::from(answer.starts_with(b"HTTP/1.") && answer.ends_with(b"# EOF\n")))
}
