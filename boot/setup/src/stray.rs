//! A drill: a device that writes where it must not. Asked for as all drills are (`stray-dma`), it
//! uses QEMU's device for teaching (`edu`, its `docs/specs/edu.rst`), which copies on command.

use alloc::vec::Vec;
use core::hint::black_box;
use core::time::Duration;

use basalt_bare::drill::{self, Drill};
use basalt_env::{BarError, Device, Registers};
use basalt_pci::{Addresses, Claimed, Function};
use basalt_reactor::Local;

use crate::devices::Firmware;

const EDU: (u16, u16) = (0x1234, 0x11e8);
/// Registers, and the device's own memory as it sees it itself.
const SOURCE: usize = 0x80;
const TARGET: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const OWN_MEMORY: u64 = 0x4_0000;
const START: u64 = 1;
const TO_MACHINE: u64 = 2;

const LEN: usize = 256;
const PERIOD: Duration = Duration::from_millis(10);

/// Runs the drill, if it was asked for and the device is there.
pub async fn run_if_asked(local: &Local, firmware: &Firmware, addresses: &Addresses) {
    if !matches!(drill::requested(), Some((Drill::StrayDma, _))) {
        return;
    }
    let found = (0..32).find_map(|device| {
        let address = basalt_pci::PciAddress::new(0, 0, device, 0);
        let function = Function::read(&firmware.config, address)?;
        ((function.vendor, function.device) == EDU).then_some(function)
    });
    let Some(function) = found else {
        return log::error!(target: "drill", "there is no edu device");
    };
    if let Err(error) = stray(local, firmware, addresses, function).await {
        log::error!(target: "drill", "the edu device cannot be used: {error}");
    }
}

/// Has the device write to memory of the heap, once before it may reach anything and once after.
async fn stray(
    local: &Local,
    firmware: &Firmware,
    addresses: &Addresses,
    function: Function,
) -> Result<(), BarError> {
    let requesters = addresses.requesters(&firmware.config, function.address);
    let mut device = Claimed::new(firmware.config.clone(), firmware.map, function);
    let registers = device.bar(0)?;
    device.enable();
    for who in ["nobody has allowed anything", "is allowed the DMA memory"] {
        let memory = Vec::from([0x5a_u8; LEN]);
        registers.write64(SOURCE, OWN_MEMORY);
        registers.write64(TARGET, memory.as_ptr() as u64);
        registers.write64(COUNT, LEN as u64);
        registers.write64(COMMAND, START | TO_MACHINE);
        while registers.read64(COMMAND) & START != 0 {
            local.sleep(PERIOD).await;
        }
        let untouched = black_box(&memory).iter().all(|byte| *byte == 0x5a);
        let outcome = if untouched { "untouched" } else { "overwritten" };
        log::warn!(target: "drill", "a device that {who} has left the heap {outcome}");
        local.sleep(10 * PERIOD).await;
        firmware.guard.allow(&requesters);
    }
    firmware.guard.deny(&requesters);
    Ok(())
}
