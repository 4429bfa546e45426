//! Counts the initiator's instructions per read of 4 KiB, so many at a time (32 unless the first
//! argument says otherwise), of a null bdev that a target on another machine exports.
//!
//! ```text
//! cargo build --release -p basalt-nvmf-initiator --example instructions
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*host_works' \
//!     --callgrind-out-file=host.out target/release/examples/instructions 32
//! callgrind_annotate --threshold=100 host.out
//! ```
//!
//! All that the initiator's core does counts: reactor, TCP/IP, queue, bdev. What the target does is
//! no part of it. Divide the total that valgrind prints ("Collected") by the number of reads; the
//! functions of `basalt_nvmf_host`, `_pdu` and `_initiator` in the list are the initiator alone.
//! With `digests` as a second argument headers and data have digests.
//!
//! `--config 'profile.release.package.basalt-nvmf-initiator.opt-level="z"'` builds the crate as the
//! image has it, and this example with it, whose network is slower then. At depth 32 the initiator
//! alone takes some 1,540 instructions per read, of which `basalt_nvmf_initiator` has 27. Built for
//! size as a whole it would take some 1,790.
#![expect(clippy::unwrap_used, reason = "an example that cannot be set up has failed")]

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use basalt_bdev::null::{self, NullOptions};
use basalt_bdev::{Access, Channel, Io, Op, Registry, SgList};
use basalt_env::{DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_net::{
    Address, Endpoint, InterfaceConfig, Ipv4Cidr, MemoryPort, NetConfig, NetHandle, StackOptions,
};
use basalt_nvmf::{
    DEFAULT_NQN, HostPolicy, NamespaceOptions, PollGroup, SubsystemOptions, Target, TransportConfig,
};
use basalt_nvmf_initiator::{Digests, Multipath, RemoteOptions, Remotes, TransportId};
use basalt_reactor::{Options, Reactor, mesh};

const READS: usize = 20_000;
const BLOCK: u32 = 4096;
const BLOCKS: u64 = 1 << 20;
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 4420;

/// A machine of one core.
struct Side {
    reactor: Reactor,
    pool: DmaPool,
    registry: Rc<Registry>,
}

impl Side {
    fn new(address: Ipv4Addr, port: MemoryPort) -> Self {
        let pool = Machine::new().pool(24 << 20);
        let reactor = mesh(1, Options::default()).remove(0).build();
        let local = reactor.local();
        local.provide(Rc::new(pool.clone()));
        let registry = Rc::new(Registry::new(1, address.to_bits().into()));
        local.provide(Rc::clone(&registry));
        let cidr = Ipv4Cidr::new(address, 24).unwrap();
        let config = NetConfig {
            interface: InterfaceConfig::Static(Address { cidr, gateway: None }.into()),
            cores: Vec::new(),
            seed: address.to_bits().into(),
            options: StackOptions::default(),
        };
        basalt_net::start(&local, port, config).unwrap();
        Self { reactor, pool, registry }
    }
}

/// The initiator's round: takes what has ended, and has as many reads under way as before.
#[inline(never)]
fn host_works(host: &mut Side, channel: &mut Channel, spare: &mut Vec<Io>, now: Instant) -> usize {
    let _ = host.reactor.poll(now);
    let before = spare.len();
    let _ = channel.poll(|io| spare.push(io));
    let ended = spare.len() - before;
    while let Some(io) = spare.pop() {
        let again = Io::with_data(Op::Read, (io.lba + 1) % BLOCKS, 1, io.data, io.tag);
        if let Err(rejected) = channel.submit(again) {
            spare.push(rejected.io);
            break;
        }
    }
    ended
}

/// Runs both machines until `task`, which is the boot core's of one of them, has ended.
fn wait<T: 'static>(
    sides: &mut [&mut Side; 2],
    (of, now): (usize, &mut Instant),
    task: impl Future<Output = T> + 'static,
) -> T {
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    sides[of].reactor.local().spawn("example", async move {
        let value = task.await;
        *place.borrow_mut() = Some(value);
    });
    loop {
        *now = *now + Duration::from_micros(20);
        for side in sides.iter_mut() {
            let _ = side.reactor.poll(*now);
        }
        if let Some(value) = result.borrow_mut().take() {
            return value;
        }
    }
}

fn export(far: &mut Side) -> (Rc<Target>, Rc<PollGroup>) {
    let options = NullOptions { num_blocks: BLOCKS, block_size: BLOCK, ..NullOptions::default() };
    let name = null::create(&far.registry, options).unwrap().info().name.clone();
    let (local, config) = (far.reactor.local(), TransportConfig::default());
    let target = Target::start(&local, config);
    let stack = local.service::<NetHandle>().unwrap().stack();
    let group = PollGroup::start(&local, stack, far.pool.clone(), config);
    target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
    target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    let opened = far.registry.open(&name, Access::ReadWrite).unwrap();
    target.add_ns(DEFAULT_NQN, opened, NamespaceOptions::default()).unwrap();
    (target, group)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let depth: u64 = args.next().and_then(|depth| depth.parse().ok()).unwrap_or(32);
    let on = args.next().as_deref() == Some("digests");
    let (near, far) = MemoryPort::pair();
    let (mut host, mut far) = (Side::new(HOST, near), Side::new(TARGET, far));
    let (target, _group) = export(&mut far);
    let mut now = Instant::ZERO;
    let listens = async move { target.add_listener(DEFAULT_NQN, PORT).await.unwrap() };
    wait(&mut [&mut host, &mut far], (1, &mut now), listens);
    let local = host.reactor.local();
    let digests = Digests { header: on, data: on };
    let options = RemoteOptions { digests, ..RemoteOptions::new(&local, "Far", DEFAULT_NQN) };
    let transport = TransportId { peer: Endpoint::from((TARGET, PORT)) };
    let remotes = Remotes::of(&local);
    let attaches = async move { remotes.attach(options, transport, Multipath::Disable).await };
    wait(&mut [&mut host, &mut far], (0, &mut now), attaches).unwrap();

    let opened = host.registry.open("Farn1", Access::ReadWrite).unwrap();
    let mut channel = opened.channel(&local).unwrap();
    let buffer = || SgList::One(host.pool.alloc(BLOCK as usize).unwrap());
    let mut spare: Vec<Io> =
        (0..depth).map(|tag| Io::with_data(Op::Read, tag, 1, buffer(), tag)).collect();
    let (mut done, mut rounds) = (0, 0);
    while done < READS {
        now = now + Duration::from_micros(50);
        let _ = far.reactor.poll(now);
        done += host_works(&mut host, &mut channel, &mut spare, now);
        rounds += 1;
    }
    println!("{done} reads in {rounds} rounds");
}
