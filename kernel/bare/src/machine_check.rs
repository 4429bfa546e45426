#![expect(unsafe_code, reason = "model-specific registers")]

//! Machine checks: the processor's reports of errors in itself and in memory (SDM volume 3 §16).

use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

use crate::console::print_in_emergency as print;
use crate::cpu;

const GLOBAL_CAPABILITIES: u32 = 0x179;
const GLOBAL_CONTROL: u32 = 0x17b;
/// The first bank's registers: control, status, address, miscellaneous. Four per bank.
const BANKS: u32 = 0x400;

/// Global capabilities: there is a global control register.
const HAS_GLOBAL_CONTROL: u64 = 1 << 8;
/// Status: the bank holds an error.
const VALID: u64 = 1 << 63;
/// Status: errors before it were lost.
const OVERFLOW: u64 = 1 << 62;
/// Status: the processor could not correct it.
const UNCORRECTED: u64 = 1 << 61;
/// Status: the bank holds an address as well.
const HAS_ADDRESS: u64 = 1 << 58;

/// Has errors of this core reported as exceptions; without that, one resets the machine.
pub(crate) fn enable() {
    if !cpu::has_machine_check() {
        return;
    }
    // SAFETY: the processor has the architecture (CPUID), and the banks it counts. All that changes
    // is that errors are reported; what is left from before the start is no concern of ours.
    unsafe {
        if Msr::new(GLOBAL_CAPABILITIES).read() & HAS_GLOBAL_CONTROL != 0 {
            Msr::new(GLOBAL_CONTROL).write(u64::MAX);
        }
        for bank in banks() {
            Msr::new(bank).write(u64::MAX);
            Msr::new(bank + 1).write(0);
        }
        Cr4::update(|cr4| cr4.insert(Cr4Flags::MACHINE_CHECK_EXCEPTION));
    }
}

/// Prints the errors that this core's banks hold. To be called on a machine check.
pub(crate) fn print_errors() {
    for (index, bank) in banks().enumerate() {
        // SAFETY: a machine check came, so there are banks, and these are the ones counted.
        let (status, address) = unsafe { (Msr::new(bank + 1).read(), bank + 2) };
        if status & VALID == 0 {
            continue;
        }
        let corrected = if status & UNCORRECTED != 0 { "uncorrected" } else { "corrected" };
        let lost = if status & OVERFLOW != 0 { ", errors before it are lost" } else { "" };
        let code = status & 0xffff;
        print(format_args!(
            "bank {index}: {corrected} error {code:#06x}, status {status:#x}{lost}"
        ));
        if status & HAS_ADDRESS != 0 {
            // SAFETY: the status says that the register holds an address.
            let address = unsafe { Msr::new(address).read() };
            print(format_args!(", at address {address:#x}"));
        }
        print(format_args!("\n"));
    }
}

/// The first register of each bank.
fn banks() -> impl Iterator<Item = u32> {
    // SAFETY: callers have made sure of the machine check architecture.
    let count = unsafe { Msr::new(GLOBAL_CAPABILITIES).read() } & 0xff;
    (0..count as u32).map(|bank| BANKS + 4 * bank)
}
