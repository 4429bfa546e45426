#![expect(unsafe_code, reason = "port input and output, and device registers")]

//! How fast the time-stamp counter ticks: from CPUID or the hypervisor, else
//! measured against a timer whose
//! frequency is known (HPET, ACPI PM timer, PIT).

use core::ptr::NonNull;

use basalt_env::{Mmio, Registers};
use x86_64::instructions::port::Port;

use crate::clock::ticks;
use crate::cpu;

/// Frequencies that a real processor's counter may have.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 100_000_000..=20_000_000_000;
/// How long one measurement takes, as a fraction of a second.
const WINDOWS_PER_S: u64 = 50;
/// Reads of a timer before it is taken to stand still.
const READS_MAX: u32 = 2_000_000;
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;

/// Where the timers are, as far as ACPI says.
#[derive(Clone, Copy, Default)]
pub(crate) struct Timers {
    /// Physical address of the HPET's registers.
    pub(crate) hpet: Option<u64>,
    /// Port of the PM timer and whether it has 32 bits (else 24).
    pub(crate) pm_timer: Option<(u16, PmTimerWidth)>,
}

/// Bits of the ACPI PM timer.
#[derive(Clone, Copy)]
pub(crate) enum PmTimerWidth {
    Bits24,
    Bits32,
}

/// The counter's frequency in Hz and where it is known from; `None` if no timer works.
pub(crate) fn tsc_hz(timers: &Timers) -> Option<(u64, &'static str)> {
    let stated = [
        (cpu::tsc_hz_by_cpuid(), "CPUID"),
        (cpu::tsc_hz_by_hypervisor(), "what the hypervisor says"),
    ];
    for (hz, source) in stated {
        if let Some(hz) = hz.filter(|hz| PLAUSIBLE_HZ.contains(hz)) {
            return Some((hz, source));
        }
    }
    let hpet = timers.hpet.and_then(Timer::hpet).map(|timer| (timer, "HPET"));
    let pm = timers.pm_timer.map(|(port, width)| (Timer::pm(port, width), "PM timer"));
    let candidates = [hpet, pm, Some((Timer::pit(), "PIT"))];
    candidates.into_iter().flatten().find_map(|(timer, name)| {
        let hz = measure(&timer).filter(|hz| PLAUSIBLE_HZ.contains(hz))?;
        Some((hz, name))
    })
}

/// A running counter of known frequency.
struct Timer {
    source: Source,
    hz: u64,
    mask: u64,
}

enum Source {
    Hpet(Mmio),
    Pm(u16),
    Pit,
}

impl Timer {
    /// IA-PC HPET 1.0a §2.3: capabilities at 0, configuration at 0x10, counter at 0xf0.
    fn hpet(base: u64) -> Option<Self> {
        let base = NonNull::new(base as *mut u8)?;
        // SAFETY: ACPI names this as the HPET's register block; all addresses below 4 GiB that
        // are not memory are mapped uncached (a higher one is refused by `acpi_tables`).
        let registers = unsafe { Mmio::new(base, 0x400) };
        let period_fs = registers.read64(0) >> 32;
        if period_fs == 0 || period_fs > 100_000_000 {
            return None;
        }
        registers.write64(0x10, registers.read64(0x10) | 1);
        // Only the low half is read: it exists on every HPET and is read in one access.
        let mask = u64::from(u32::MAX);
        Some(Self { source: Source::Hpet(registers), hz: FEMTOSECONDS / period_fs, mask })
    }

    fn pm(port: u16, width: PmTimerWidth) -> Self {
        let mask = match width {
            PmTimerWidth::Bits24 => 0x00ff_ffff,
            PmTimerWidth::Bits32 => 0xffff_ffff,
        };
        Self { source: Source::Pm(port), hz: PM_TIMER_HZ, mask }
    }

    /// Channel 2 of the 8254, free-running in mode 2 with its gate open and the speaker off.
    fn pit() -> Self {
        // SAFETY: the ports of the 8254 and its gate; its interrupt is channel 0's, not used.
        unsafe {
            let mut gate = Port::<u8>::new(0x61);
            let value = gate.read();
            gate.write(value & !2 | 1);
            Port::<u8>::new(0x43).write(0b1011_0100);
            Port::<u8>::new(0x42).write(0);
            Port::<u8>::new(0x42).write(0);
        }
        Self { source: Source::Pit, hz: PIT_HZ, mask: 0xffff }
    }

    fn read(&self) -> u64 {
        let value = match &self.source {
            Source::Hpet(registers) => u64::from(registers.read32(0xf0)),
            // SAFETY: the FADT names the port as the PM timer; reading has no effect.
            Source::Pm(port) => u64::from(unsafe { Port::<u32>::new(*port).read() }),
            Source::Pit => read_pit(),
        };
        value & self.mask
    }
}

/// Latches and reads channel 2, which counts down.
fn read_pit() -> u64 {
    // SAFETY: the ports of the 8254, as in `Timer::pit`.
    let (low, high) = unsafe {
        Port::<u8>::new(0x43).write(0b1000_0000);
        let mut data = Port::<u8>::new(0x42);
        (data.read(), data.read())
    };
    u64::from(u16::MAX - u16::from_le_bytes([low, high]))
}

/// The timer and the counter at one moment: of several readings the one that took least time.
fn sample(timer: &Timer) -> (u64, u64) {
    let mut best = (0, 0, u64::MAX);
    for _ in 0..8 {
        let before = ticks();
        let value = timer.read();
        let took = ticks().saturating_sub(before);
        if took < best.2 {
            best = (value, before + took / 2, took);
        }
    }
    (best.0, best.1)
}

/// Counter ticks per second over one window; `None` if the timer stands still.
fn measure(timer: &Timer) -> Option<u64> {
    let window = timer.hz / WINDOWS_PER_S;
    let (timer_start, start) = sample(timer);
    for _ in 0..READS_MAX {
        let passed = timer.read().wrapping_sub(timer_start) & timer.mask;
        if passed < window {
            core::hint::spin_loop();
            continue;
        }
        let (timer_end, end) = sample(timer);
        let passed = timer_end.wrapping_sub(timer_start) & timer.mask;
        let ticks = u128::from(end.saturating_sub(start)) * u128::from(timer.hz);
        return u64::try_from(ticks / u128::from(passed.max(1))).ok();
    }
    None
}
