//! The unikernel image: boot entries, the panic handler and the composition root.
//!
//! [`entry`] is what a loader jumps to: it brings the boot core into 64-bit mode, fills a
//! [`BootInfo`] and calls the kernel main below, which starts the machine (`kernel/bare`) and hands
//! every core its part. Everything that chooses *what* Basalt runs is in this crate; *how* the
//! metal works is in `kernel/bare`.
#![no_std]
#![no_main]

extern crate alloc;

mod entry;

use alloc::vec::Vec;
use core::panic::PanicInfo;
use core::time::Duration;

use basalt_bare::drill::{self, Drill};
use basalt_bare::{CoreContext, Ecam, Machine};
use basalt_env::{ConfigSpace, CoreId, PciAddress};
use bootloader_api::BootInfo;

bootloader_api::entry_point!(kernel_main);

/// What each core is given to begin with.
struct Seed {
    config_space: Ecam,
    /// How to fail, if this core is to.
    drill: Option<Drill>,
}

fn kernel_main(boot_info: &'static mut BootInfo) -> ! {
    let machine = match Machine::start(boot_info) {
        Ok(machine) => machine,
        Err(error) => panic!("the machine does not start: {error}"),
    };
    if let Some(config) = machine.config_blob() {
        log::info!(target: "basalt", "configuration: {} bytes", config.len());
    }
    let drill = drill::requested();
    let last = machine.core_count() - 1;
    let seed =
        |core| Seed { config_space: machine.config_space(), drill: drill.filter(|_| core == last) };
    let seeds: Vec<Seed> = (0..=last).map(seed).collect();
    machine.run(seeds, core_main)
}

fn core_main(context: CoreContext, seed: Seed) -> ! {
    log::info!(target: "basalt", "core {} is up, APIC {}", context.core, context.apic_id);
    if let Some(drill) = seed.drill {
        drill::provoke(drill);
    }
    if context.core == CoreId::BOOT {
        let found = (0..32).filter(|&device| is_present(&seed.config_space, device)).count();
        log::info!(target: "basalt", "{found} PCI devices on bus 0");
    }
    loop {
        context.rest(Duration::from_millis(10));
    }
}

fn is_present(config_space: &Ecam, device: u8) -> bool {
    config_space.read(PciAddress::new(0, 0, device, 0), 0) != u32::MAX
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    basalt_bare::report_panic(info)
}
