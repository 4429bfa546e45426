//! The unikernel image: boot entries, the panic handler and the composition root.
//!
//! `entry` is what a loader jumps to: it brings the boot core into 64-bit mode, fills a
//! [`BootInfo`] and calls the kernel main, which [`application!`] defines and which is [`run`]: it
//! starts the machine (`kernel/bare`) and hands every core its part. Every core runs one reactor
//! (`core_loop`); the boot core's first task is [`basalt_setup`], which finds the devices and puts
//! everything else in place. Everything that chooses *what* Basalt runs is in these two crates;
//! *how* the metal works is in `kernel/bare`.
//!
//! The program of this crate is Basalt alone. A program of another crate can add an [`Application`]
//! to it; `boot/scrub` is one.
#![no_std]

extern crate alloc;

mod alone;
mod core_loop;
mod entry;
mod trace;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::panic::PanicInfo;
use core::time::Duration;

use basalt_bare::drill::{Drill, Setting};
use basalt_bare::{Clock, CoreContext, Machine, cpu_relax, drill, is_emulated};
use basalt_env::{DmaPool, Ticks as _, Work};
use basalt_reactor::{Local, Options, mesh};
use bootloader_api::BootInfo;

use basalt_setup::{DataPaths, Parts};

#[doc(hidden)]
pub use bootloader_api;

pub use basalt_app::{Application, NO_APPLICATION};

/// Makes a program the image, with this [`Application`] in it. Once, at the program's root, which
/// is `#![no_std]` and `#![no_main]`.
#[macro_export]
macro_rules! application {
    ($application:expr) => {
        fn kernel_main(boot_info: &'static mut $crate::bootloader_api::BootInfo) -> ! {
            $crate::run(boot_info, $application)
        }
        $crate::bootloader_api::entry_point!(kernel_main);
    };
}

/// What each core is given to begin with.
struct Seed {
    reactor: basalt_reactor::Seed,
    /// On the boot core, what to bring up.
    parts: Option<Parts>,
    /// A self-test of the fault handling, on the last core.
    fault: Option<(Drill, Setting)>,
}

/// Starts the machine that the entry has found, and runs `application` on it.
pub fn run(boot_info: &'static mut BootInfo, application: Application) -> ! {
    let mut machine = match Machine::start(boot_info) {
        Ok(machine) => machine,
        Err(error) => panic!("the machine does not start: {error}"),
    };
    let mut parts = Some(Parts {
        pci_config: machine.config_space(),
        map: machine.mmio(),
        ports: machine.io_ports(),
        dsdt: machine.dsdt(),
        nearness: machine.nearness(),
        iommu: machine.take_iommu(),
        clock: machine.clock(),
        config: machine.config_blob().unwrap_or_default(),
        paths: data_paths(),
        application,
    });
    let mut seeds = Vec::new();
    for reactor in mesh(machine.core_count(), options()) {
        trace::print_on_failure(reactor.cores());
        let waker = machine.waker();
        let (cores, clock) = (reactor.cores(), machine.clock());
        cores.set_ringer(move |core| waker.wake(core));
        cores.set_trace_clock(move || clock.ticks(), move || clock.hz());
        seeds.push(Seed { reactor, parts: parts.take(), fault: None });
    }
    if let [seed] = seeds.as_slice() {
        alone::look_after(&machine, seed.reactor.cores());
    }
    let elsewhere = [Drill::StrayDma, Drill::SilentCore];
    let fault = drill::requested().filter(|(drill, _)| !elsewhere.contains(drill));
    let place = match fault {
        Some((_, Setting::BootCore)) => seeds.first_mut(),
        _ => seeds.last_mut(),
    };
    if let Some(seed) = place {
        seed.fault = fault;
    }
    machine.run(seeds, core_main)
}

/// What data runs through, compiled with this crate.
fn data_paths() -> DataPaths {
    DataPaths {
        nvme: basalt_bdev_nvme::IoPath::new(),
        virtio: basalt_bdev_virtio::IoPath::new(),
        network: basalt_net::start,
        bench: basalt_app::bench::register,
    }
}

/// A processor that is a program competes with the devices and with who uses the machine for the
/// host's processors, and should not poll for long. Beside a client that polls, on a host of two,
/// resting soon makes a third more of reads at depth 32 and a sixth less of latency at depth 1;
/// beside one that sleeps it costs a twentieth of the latency.
fn options() -> Options {
    const REST_AFTER_EMULATED: Duration = Duration::from_micros(20);
    let options = Options::default();
    let rest_after = if is_emulated() { REST_AFTER_EMULATED } else { options.rest_after };
    Options { rest_after, ..options }
}

fn core_main(context: CoreContext, seed: Seed) -> ! {
    let CoreContext { core, apic_id, clock, arena, .. } = context;
    log::info!(target: "basalt", "core {core} is up, APIC {apic_id}");
    let mut reactor = seed.reactor.build();
    let local = reactor.local();
    match seed.fault {
        Some((Drill::Stall, _)) => stall(&local, clock),
        Some((drill, Setting::LastCore)) => drill::provoke(drill),
        Some((drill, Setting::Late | Setting::BootCore)) => provoke_later(&local, drill),
        None => {}
    }
    if let Some(watchdog) = local.watch_next_core() {
        watchdog.detach();
    }
    local.provide(Rc::new(DmaPool::new(arena)));
    if let Some(parts) = seed.parts {
        basalt_setup::start(&local, parts);
    }
    core_loop::run(clock, &mut reactor)
}

/// A drill while everything runs.
fn provoke_later(local: &Local, drill: Drill) {
    let sleeper = local.clone();
    local.spawn("drill", async move {
        sleeper.sleep(Duration::from_millis(300)).await;
        drill::provoke(drill)
    });
}

/// A drill: takes a core for three seconds, once.
fn stall(local: &Local, clock: Clock) {
    let mut stalled = false;
    let stall = move |_: &Local| {
        let end = clock.now() + Duration::from_secs(3);
        while !stalled && clock.now() < end {
            cpu_relax();
        }
        stalled = true;
        Work::IDLE
    };
    local.timed_poller("stall_drill", Duration::from_secs(1), stall).detach();
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    basalt_bare::report_panic(info)
}
