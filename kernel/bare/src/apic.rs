#![expect(unsafe_code, reason = "model-specific registers and device registers")]

//! The local APIC: starting and stopping other cores, and waking a resting one.
//!
//! x2APIC mode (through model-specific registers) if firmware turned it on, if some core has an
//! identifier that takes it, or in a virtual machine, which need not trap memory for it; else the
//! classic one (through memory). Register names and offsets are those of the classic one, SDM
//! volume 3 §11.4.

use core::arch::x86_64::{_mm_lfence, _mm_mfence};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use basalt_env::{Mmio, Registers};
use spin::Once;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use crate::clock::Clock;
use crate::cpu;

/// The vector of the timer and of wake-ups from other cores.
pub(crate) const WAKE_VECTOR: u8 = 0x40;
/// The vector of an interrupt that went away before it was delivered.
const SPURIOUS_VECTOR: u32 = 0xff;

const APIC_BASE: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0xf_ffff_ffff_f000;
/// Register `offset` of x2APIC mode is MSR 0x800 + offset / 16.
const X2APIC_MSR: u32 = 0x800;

const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND_LOW: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const TIMER: u32 = 0x320;
const LINT0: u32 = 0x350;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

/// The classic mode's identifiers have 8 bits, and all ones means everybody.
const CLASSIC_IDS: u32 = 0xff;

const MASKED: u32 = 1 << 16;
const DIVIDE_BY_1: u32 = 0b1011;
const SPURIOUS_ENABLE: u32 = 1 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ALL_BUT_SELF: u32 = 3 << 18;
/// Polls before a command that is still pending is taken for sent.
const POLLS_MAX: u32 = 1 << 20;

enum Apic {
    Memory(Mmio),
    X2,
}

static APIC: Once<Apic> = Once::new();
/// Timer ticks per second; zero until measured.
static TIMER_HZ: AtomicU32 = AtomicU32::new(0);

impl Apic {
    fn read(&self, register: u32) -> u32 {
        match self {
            Self::Memory(registers) => registers.read32(register as usize),
            // SAFETY: a register of the local APIC, which is in x2APIC mode.
            Self::X2 => unsafe { Msr::new(X2APIC_MSR + register / 16).read() as u32 },
        }
    }

    fn write(&self, register: u32, value: u32) {
        match self {
            Self::Memory(registers) => registers.write32(register as usize, value),
            // SAFETY: as in `read`; no value written here affects memory.
            Self::X2 => unsafe { Msr::new(X2APIC_MSR + register / 16).write(u64::from(value)) },
        }
    }

    /// Sends an interrupt command to the core with this APIC identifier.
    fn command(&self, apic_id: u32, command: u32) {
        match self {
            Self::Memory(registers) => {
                registers.write32(COMMAND_HIGH as usize, apic_id << 24);
                registers.write32(COMMAND_LOW as usize, command);
                self.wait_until_sent();
            }
            Self::X2 => {
                let command = u64::from(apic_id) << 32 | u64::from(command);
                // Unlike a write to uncached memory, this one does not wait for earlier stores
                // (SDM volume 3 §11.12.3), which the other core is to see.
                // SAFETY: fences exist on every x86-64 processor.
                unsafe {
                    _mm_mfence();
                    _mm_lfence();
                }
                // SAFETY: the command register; what it does to other cores is the callers'.
                unsafe { Msr::new(X2APIC_MSR + COMMAND_LOW / 16).write(command) }
            }
        }
    }

    fn wait_until_sent(&self) {
        for _ in 0..POLLS_MAX {
            if self.read(COMMAND_LOW) & DELIVERY_PENDING == 0 {
                return;
            }
            core::hint::spin_loop();
        }
    }
}

/// Chooses the mode, which must do for the identifiers `apic_ids`, silences the 8259s and turns the
/// boot core's APIC on.
pub(crate) fn init_boot_core(apic_ids: &[u32]) {
    // SAFETY: the interrupt mask registers of both 8259s; masked, they stay silent.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
    // SAFETY: every x86-64 processor has this register.
    let base = unsafe { Msr::new(APIC_BASE).read() };
    APIC.call_once(|| {
        let address = NonNull::new((base & BASE_ADDRESS) as *mut u8);
        let is_on = base & BASE_X2APIC != 0;
        let is_needed = apic_ids.iter().any(|&id| id >= CLASSIC_IDS);
        let is_better = is_needed || cpu::is_virtual();
        let is_to_be = is_on || is_better && cpu::has_x2apic();
        match address {
            Some(address) if !is_to_be => {
                // SAFETY: the register block of the local APIC, mapped uncached like everything
                // below 4 GiB that is not memory.
                Apic::Memory(unsafe { Mmio::new(address, 0x1000) })
            }
            _ => Apic::X2,
        }
    });
    init_core();
}

/// Turns on this core's APIC in the boot core's mode.
pub(crate) fn init_core() {
    let Some(apic) = APIC.get() else {
        return;
    };
    let mode = match apic {
        Apic::Memory(_) => BASE_ENABLE,
        Apic::X2 => BASE_ENABLE | BASE_X2APIC,
    };
    // SAFETY: turning the APIC on, and to x2APIC mode from the classic one, is always allowed.
    unsafe {
        let mut base = Msr::new(APIC_BASE);
        let value = base.read();
        if value & mode != mode {
            base.write(value | BASE_ENABLE);
            base.write(value | mode);
        }
    }
    apic.write(SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
    apic.write(TASK_PRIORITY, 0);
    apic.write(LINT0, MASKED);
    apic.write(TIMER_DIVIDE, DIVIDE_BY_1);
    apic.write(TIMER, u32::from(WAKE_VECTOR));
}

/// Whether a core can be reached: the classic mode has 8-bit identifiers.
pub(crate) fn reaches(apic_id: u32) -> bool {
    matches!(APIC.get(), Some(Apic::X2)) || apic_id < CLASSIC_IDS
}

/// How the log calls the mode.
pub(crate) fn mode_name() -> &'static str {
    match APIC.get() {
        Some(Apic::X2) => "x2APIC",
        Some(Apic::Memory(_)) => "xAPIC",
        None => "no APIC",
    }
}

/// Measures the timer that ends rests.
pub(crate) fn calibrate(clock: &Clock) {
    const WINDOWS_PER_S: u32 = 100;
    let Some(apic) = APIC.get() else {
        return;
    };
    apic.write(TIMER, MASKED);
    apic.write(TIMER_INITIAL, u32::MAX);
    let (start, first) = (clock.now(), apic.read(TIMER_CURRENT));
    clock.delay(Duration::from_secs(1) / WINDOWS_PER_S);
    let (last, end) = (apic.read(TIMER_CURRENT), clock.now());
    apic.write(TIMER_INITIAL, 0);
    apic.write(TIMER, u32::from(WAKE_VECTOR));
    let ns = end.since(start).as_nanos().max(1);
    let hz = u128::from(first.saturating_sub(last)) * 1_000_000_000 / ns;
    TIMER_HZ.store(u32::try_from(hz).unwrap_or(u32::MAX), Ordering::Relaxed);
}

/// Halts this core until `at_most` has passed or another core wakes it.
///
/// A wake-up sent earlier ends the rest at once, so none is lost.
pub(crate) fn rest(at_most: Duration) {
    let hz = TIMER_HZ.load(Ordering::Relaxed);
    let Some(apic) = APIC.get().filter(|_| hz > 0) else {
        return core::hint::spin_loop();
    };
    let ticks = at_most.as_nanos() * u128::from(hz) / 1_000_000_000;
    apic.write(TIMER_INITIAL, u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
    // The only interrupt that arrives is our vector, whose handler returns at once.
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
    apic.write(END_OF_INTERRUPT, 0);
}

/// Ends the rest of the core with this APIC identifier.
pub(crate) fn wake(apic_id: u32) {
    if let Some(apic) = APIC.get() {
        apic.command(apic_id, ASSERT | u32::from(WAKE_VECTOR));
    }
}

/// Puts the core with this APIC identifier into its initial state.
pub(crate) fn send_init(apic_id: u32) {
    if let Some(apic) = APIC.get() {
        apic.command(apic_id, ASSERT | DELIVER_INIT);
    }
}

/// Starts a core in that state at the page `page` (an address below 1 MiB) in real mode.
pub(crate) fn send_startup(apic_id: u32, page: u64) {
    if let Some(apic) = APIC.get() {
        apic.command(apic_id, ASSERT | DELIVER_STARTUP | (page >> 12) as u32 & 0xff);
    }
}

/// Interrupts all other cores, whatever they do.
pub(crate) fn send_nmi_to_others() {
    if let Some(apic) = APIC.get() {
        apic.command(0, ALL_BUT_SELF | ASSERT | DELIVER_NMI);
    }
}
