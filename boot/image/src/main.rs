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

use alloc::vec;

use basalt_bare::{CoreContext, Machine, drill};
use basalt_env::{ConfigSpace, PciAddress};
use bootloader_api::BootInfo;
use core::panic::PanicInfo;
use core::time::Duration;

bootloader_api::entry_point!(kernel_main);

/// What each core is given to begin with.
struct Seed {
    config_space: basalt_bare::Ecam,
    fault: Option<drill::Drill>,
}

fn kernel_main(boot_info: &'static mut BootInfo) -> ! {
    let machine = match Machine::start(boot_info) {
        Ok(machine) => machine,
        Err(error) => panic!("the machine does not start: {error}"),
    };
    let fault = drill::requested();
    let last = machine.core_count() - 1;
    let mut seeds = vec![];
    for core in 0..machine.core_count() {
        let fault = fault.filter(|_| core == last);
        seeds.push(Seed { config_space: machine.config_space(), fault });
    }
    machine.run(seeds, core_main)
}

fn core_main(context: CoreContext, seed: Seed) -> ! {
    log::info!(target: "basalt", "core {} is up, APIC {}", context.core, context.apic_id);
    if let Some(fault) = seed.fault {
        drill::provoke(fault);
    }
    if context.core == basalt_env::CoreId::BOOT {
        let found = (0..32).filter(|&device| is_present(&seed.config_space, device)).count();
        log::info!(target: "basalt", "{found} PCI devices on bus 0");
    }
    loop {
        context.rest(Duration::from_millis(10));
    }
}

fn is_present(config_space: &basalt_bare::Ecam, device: u8) -> bool {
    config_space.read(PciAddress::new(0, 0, device, 0), 0) != u32::MAX
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    basalt_bare::report_panic(info)
}
