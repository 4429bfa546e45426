//! An image under attack, with a bystander whose I/O must go on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use basalt_qemu_tests::initiator::{Initiator, Namespace, PATIENCE};
use basalt_qemu_tests::{BasaltGuest, Guest, HostedTwin, free_ports};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// NVMe/TCP, discovery, JSON-RPC, and one that nobody listens on.
pub const GUEST_PORTS: [u16; 4] = [4420, 8009, 5260, 1234];

const BOOT: Duration = Duration::from_secs(60);
const DISK_BYTES: u64 = 64 << 20;
/// The longest any I/O of the bystander may take; a busy host that emulates two cores needs time.
const UNNOTICED: Duration = Duration::from_secs(4);
/// How long the image may take to have everything back: connections of clients that vanished
/// linger for half a minute.
const RECOVERY: Duration = Duration::from_secs(50);
/// What may stay in use for good: tables that have grown to a hundred connections. One connection
/// takes 256 KiB.
const HEAP_SLACK: u64 = 768 << 10;

/// What [`queues`] gives while the bystander alone is connected and rests.
const BYSTANDER: [u64; 4] = [1, 1, 0, 0];

/// What is attacked, the ports of 127.0.0.1 that lead to it, and the bystander.
pub struct Siege {
    pub nvmf: u16,
    pub discovery: u16,
    pub rpc: u16,
    /// Leads to a port nobody listens on.
    pub closed: u16,
    pub guest: Guest,
    bystander: Bystander,
    before: Memory,
    _disk: NamedTempFile,
}

/// Runs `attack` on the image on its machine and then on its hosted twin.
pub fn on_both(attack: impl Fn(&Siege)) {
    for begin in [Siege::of_the_image, Siege::of_the_twin] {
        let siege = begin();
        attack(&siege);
        siege.end();
    }
}

/// Runs `attack` on the hosted twin alone: for what takes many connections rather than time.
pub fn on_the_twin(attack: impl Fn(&Siege)) {
    let siege = Siege::of_the_twin();
    attack(&siege);
    siege.end();
}

impl Siege {
    /// Boots an image with one drive; from now on the bystander does I/O.
    fn of_the_image() -> Self {
        println!("on bare metal");
        let (machine, ports) = BasaltGuest::new("basalt").user_network_ports(GUEST_PORTS);
        Self::begin_on(machine, ports)
    }

    /// The same on a machine of the caller's with a network card on which these ports of 127.0.0.1
    /// lead to the [`GUEST_PORTS`].
    pub fn begin_on(machine: BasaltGuest, ports: [u16; 4]) -> Self {
        let disk = disk();
        let guest = machine.disk(disk.path()).start();
        Self::begin(guest, disk, ports)
    }

    /// The same with the hosted twin, which serves a file.
    fn of_the_twin() -> Self {
        println!("hosted");
        let disk = disk();
        // The initiator counts in blocks of 512 bytes.
        let params = json!({"name": "Aio0", "filename": disk.path(), "block_size": 512});
        let call = json!({"method": "bdev_aio_create", "params": params});
        let config = json!({"subsystems": [{"subsystem": "bdev", "config": [call]}]});
        let twin = HostedTwin::new("twin").config(&config.to_string());
        let [closed] = free_ports([1234]);
        let ports = [twin.nvmf, twin.discovery, twin.rpc, closed];
        Self::begin(twin.start(), disk, ports)
    }

    fn begin(guest: Guest, disk: NamedTempFile, ports: [u16; 4]) -> Self {
        let [nvmf, discovery, rpc, closed] = ports;
        guest.wait_for_line("connect with: nvme connect", BOOT);
        let host = Initiator::connect(nvmf).unwrap();
        let before = Memory::now(rpc).unwrap();
        let bystander = Bystander::start(host);
        Self { nvmf, discovery, rpc, closed, guest, bystander, before, _disk: disk }
    }

    /// Checks that nobody but the attackers was hurt, and nothing is left of them.
    pub fn end(self) {
        let (rounds, slowest, host) = self.bystander.finish();
        println!("the bystander did {rounds} rounds, the slowest in {slowest:?}");
        assert!(slowest < UNNOTICED, "the bystander waited for {slowest:?}");
        let deadline = Instant::now() + RECOVERY;
        loop {
            let now = Memory::now(self.rpc).unwrap();
            let queues = queues(self.rpc).unwrap();
            if now.is_like(&self.before) && queues == BYSTANDER {
                break;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "before {:?}, afterwards {now:?} and queues {queues:?}", self.before);
            thread::sleep(Duration::from_millis(250));
        }
        drop(host);
        let mut host = Initiator::connect(self.nvmf).expect("a new client is not served");
        let on = host.namespaces().unwrap()[0];
        host.verify(on, 0, 128 << 10, 99).unwrap();
        let panicked = self.guest.lines().iter().any(|line| line.contains("PANIC"));
        assert!(!panicked, "Basalt panicked");
    }
}

/// Where the bystander's blocks end, but for a few.
const BYSTANDERS_BLOCKS: u64 = 60_000;

/// Rounds that a bystander does at least.
const ROUNDS_MIN: u64 = 8;

/// A client that writes, reads and compares all the time.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Duration, Initiator)>,
}

impl Bystander {
    fn start(mut host: Initiator) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let on = host.namespaces().unwrap()[0];
            let (mut rounds, mut slowest) = (0, Duration::ZERO);
            // An attack may be over before the first round: then it is what follows that counts.
            while rounds < ROUNDS_MIN || !stopped.load(Ordering::Acquire) {
                let began = Instant::now();
                round(&mut host, on, rounds).expect("the bystander was disturbed");
                slowest = slowest.max(began.elapsed());
                rounds += 1;
                thread::sleep(Duration::from_millis(5));
            }
            (rounds, slowest, host)
        });
        Self { stop, thread }
    }

    fn finish(self) -> (u64, Duration, Initiator) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the bystander was disturbed")
    }
}

/// One write and read, small or large by turns.
fn round(host: &mut Initiator, on: Namespace, count: u64) -> anyhow::Result<()> {
    let len = [4096, 65536, 512][(count % 3) as usize];
    host.verify(on, count * 129 % BYSTANDERS_BLOCKS, len, count)
}

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK_BYTES).unwrap();
    disk
}

/// What there is free, bytes.
#[derive(Debug)]
struct Memory {
    /// 0 where the heap is the host's.
    heap: u64,
    dma: Vec<u64>,
}

impl Memory {
    fn now(rpc: u16) -> anyhow::Result<Self> {
        let reply = json_rpc(rpc, r#"{"jsonrpc":"2.0","id":1,"method":"env_get_mem_stats"}"#)?;
        let reply: Value = serde_json::from_str(&reply)?;
        let heap = &reply["result"]["heap"];
        let heap = if heap.is_null() { Some(0) } else { heap["bytes_free"].as_u64() };
        let pools = reply["result"]["dma"].as_array().context("no pools in the reply")?;
        let dma: Vec<u64> = pools.iter().filter_map(|pool| pool["bytes_free"].as_u64()).collect();
        ensure!(!dma.is_empty(), "no pools in the reply");
        Ok(Self { heap: heap.context("no free heap")?, dma })
    }

    fn is_like(&self, before: &Self) -> bool {
        self.dma == before.dma && self.heap + HEAP_SLACK >= before.heap
    }
}

/// Admin queues, I/O queues, connections before their Connect, and Ios at drives.
fn queues(rpc: u16) -> anyhow::Result<[u64; 4]> {
    let reply = json_rpc(rpc, r#"{"jsonrpc":"2.0","id":1,"method":"nvmf_get_stats"}"#)?;
    let sum = |name| numbers(&reply, name).iter().sum();
    let kinds = ["current_admin_qpairs", "current_io_qpairs", "current_unassociated_qpairs"];
    let [admin, io, unassociated] = kinds.map(sum);
    Ok([admin, io, unassociated, sum("pending_bdev_io")])
}

/// The values of all fields called `name`.
fn numbers(text: &str, name: &str) -> Vec<u64> {
    let field = format!("\"{name}\":");
    let values = text.split(&field).skip(1);
    let digits = |value: &str| value.chars().take_while(char::is_ascii_digit).collect::<String>();
    values.filter_map(|value| digits(value.trim_start()).parse().ok()).collect()
}

/// Opens a plain TCP connection with a limit to every wait.
pub fn tcp(port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends one request on a connection of its own; gives the reply's line.
pub fn json_rpc(port: u16, request: &str) -> anyhow::Result<String> {
    let mut stream = tcp(port)?;
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).context("no reply")?;
    ensure!(!reply.is_empty(), "the connection ended without a reply");
    Ok(reply)
}
