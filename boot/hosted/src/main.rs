//! Basalt as a process of Linux: the hosted twin of the image.
//!
//! The same reactors, bdevs, target and control plane as on bare metal, on threads bound to
//! processors ([`core_loop`]), on the host's TCP ([`stack`]) and the host's files ([`files`]).
//! [`setup`] is the composition root, what `boot/image`'s is to the metal.

mod cli;
mod core_loop;
mod ending;
mod files;
mod logger;
mod setup;
mod stack;

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context as _;
use basalt_env::{DmaArena, DmaPool, Ticks as _};
use basalt_hosted::{Bells, Clock, CountingAllocator, Machine, Readiness, cores};
use basalt_net::NetHandle;
use basalt_reactor::{Options, mesh};
use clap::Parser as _;

use cli::Arguments;
use ending::Ending;
use setup::Parts;
use stack::{HostStack, Network, WAKE_ONLY};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// What freed DMA memory is filled with in builds with debug assertions.
const POISON: u8 = 0xdf;

/// What each core is given to begin with.
struct Seed {
    reactor: basalt_reactor::Seed,
    arena: DmaArena,
    readiness: Readiness,
    network: Network,
    clock: Clock,
    ending: Ending,
    /// On the boot core, what to bring up.
    parts: Option<Parts>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let clock = Clock::start();
    logger::init(clock)?;
    let processors = cores::processors().context("cannot tell which processors there are")?;
    let checked = arguments.check(processors.len())?;
    let bells = Bells::new(arguments.cpus).context("cannot wake threads")?;
    let ending = Ending::new(bells.clone());
    let stop = ending.clone();
    ctrlc::set_handler(move || stop.ask()).context("cannot watch for Ctrl-C")?;
    let machine = Machine::new();
    let mut parts = Some(Parts {
        clock,
        config: checked.config,
        files: arguments.files,
        ports: checked.ports,
        address: arguments.address,
        waits: arguments.wait_for_rpc,
        ending: ending.clone(),
    });
    let network = Network::new(arguments.address);
    let mut seeds = Vec::new();
    for reactor in mesh(arguments.cpus, Options::default()) {
        let ringer = bells.clone();
        reactor.cores().set_ringer(move |core| ringer.ring(core));
        reactor.cores().set_trace_clock(move || clock.ticks(), move || clock.hz());
        let readiness = Readiness::new().context("cannot wait for sockets")?;
        bells.add_to(&readiness, reactor.core(), WAKE_ONLY).context("cannot wake threads")?;
        seeds.push(Seed {
            reactor,
            arena: machine.arena(checked.dma_bytes)?,
            readiness,
            network: network.clone(),
            clock,
            ending: ending.clone(),
            parts: parts.take(),
        });
    }
    cores::run(seeds, &processors, core_main).context("cannot start the cores")?;
    Ok(if ending.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn core_main(seed: Seed) {
    let Seed { reactor, arena, readiness, network, clock, ending, parts } = seed;
    let mut reactor = reactor.build();
    let local = reactor.local();
    if let Some(watchdog) = local.watch_next_core() {
        watchdog.detach();
    }
    let pool = match cfg!(debug_assertions) {
        true => DmaPool::poisoning(arena, POISON),
        false => DmaPool::new(arena),
    };
    local.provide(Rc::new(pool));
    let readiness = Rc::new(readiness);
    local.provide(Rc::clone(&readiness));
    let stack = HostStack::start(&local, network, Rc::clone(&readiness));
    local.provide(Rc::new(NetHandle::new(stack)));
    files::start_core(&local);
    if let Some(parts) = parts {
        local.spawn("setup", setup::run(local.clone(), parts));
    }
    core_loop::run(clock, &mut reactor, &readiness, &ending);
}
