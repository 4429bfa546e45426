#![expect(unsafe_code, reason = "control and model-specific registers")]

//! What the processor is, and turning on what compiled code and the page tables need.

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

use heapless::String;
use x86_64::instructions::random::RdRand;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// IA32_PAT and its power-on value, which firmware may have changed: WB, WT, UC-, UC, twice.
const PAT: u32 = 0x277;
const PAT_DEFAULT: u64 = 0x0007_0406_0007_0406;

/// Tells the processor that this core is spinning. Cheap; for short waits.
#[inline]
pub fn cpu_relax() {
    core::hint::spin_loop();
}

/// The leaf, or zeros if the processor does not have it.
fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let highest = __cpuid(leaf & 0xffff_0000).eax;
    if leaf > highest || highest & 0xffff_0000 != leaf & 0xffff_0000 {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(leaf, subleaf)
}

pub(crate) fn has_1gib_pages() -> bool {
    cpuid(0x8000_0001, 0).edx & 1 << 26 != 0
}

pub(crate) fn has_no_execute() -> bool {
    cpuid(0x8000_0001, 0).edx & 1 << 20 != 0
}

/// Whether errors of the hardware are reported (machine check exception and architecture).
pub(crate) fn has_machine_check() -> bool {
    const BOTH: u32 = 1 << 7 | 1 << 14;
    cpuid(1, 0).edx & BOTH == BOTH
}

/// Whether the time-stamp counter keeps its pace whatever the processor does to save power
/// (SDM volume 3 §18.17.1).
pub(crate) fn has_invariant_tsc() -> bool {
    cpuid(0x8000_0007, 0).edx & 1 << 8 != 0
}

/// Whether a hypervisor runs the machine, which keeps the time-stamp counter's pace.
pub fn is_virtual() -> bool {
    cpuid(1, 0).ecx & 1 << 31 != 0
}

/// Whether the processor is a program, QEMU's TCG, and says so.
pub fn is_emulated() -> bool {
    const WHO: u32 = 0x4000_0000;
    if !is_virtual() {
        return false;
    }
    let CpuidResult { ebx, ecx, edx, .. } = cpuid(WHO, 0);
    [ebx, ecx, edx].map(u32::to_le_bytes).as_flattened() == b"TCGTCGTCGTCG"
}

pub(crate) fn has_tsc_deadline() -> bool {
    cpuid(1, 0).ecx & 1 << 24 != 0
}

/// Bits nobody can foretell: from the processor's random number generator, or at least from the
/// cycle counter where there is none. For sequence numbers and identifiers, not for keys.
pub fn entropy() -> u64 {
    // SAFETY: reading the time-stamp counter has no effect; every x86-64 processor has it.
    let cycles = unsafe { core::arch::x86_64::_rdtsc() };
    let random = RdRand::new().and_then(RdRand::get_u64).unwrap_or_default();
    random ^ cycles.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn has_xsave() -> bool {
    cpuid(1, 0).ecx & 1 << 26 != 0
}

/// Bits of a physical address.
pub(crate) fn physical_address_bits() -> u32 {
    match cpuid(0x8000_0008, 0).eax & 0xff {
        0 => 36,
        bits => bits,
    }
}

/// This core's APIC identifier: the 32-bit one where there is one.
pub(crate) fn apic_id() -> u32 {
    let extended = cpuid(0xb, 0);
    if extended.ebx != 0 { extended.edx } else { cpuid(1, 0).ebx >> 24 }
}

/// The time-stamp counter's frequency, if leaf 0x15 states it in full (SDM volume 3 §19.7.3).
pub(crate) fn tsc_hz_by_cpuid() -> Option<u64> {
    let CpuidResult { eax: denominator, ebx: numerator, ecx: crystal_hz, .. } = cpuid(0x15, 0);
    if denominator == 0 || numerator == 0 || crystal_hz == 0 {
        return None;
    }
    Some(u64::from(crystal_hz) * u64::from(numerator) / u64::from(denominator))
}

/// The time-stamp counter's frequency, if a hypervisor states it (leaf 0x4000_0010, which VMware
/// began and KVM and others took up: EAX in kHz).
pub(crate) fn tsc_hz_by_hypervisor() -> Option<u64> {
    let khz = if is_virtual() { cpuid(0x4000_0010, 0).eax } else { 0 };
    (khz != 0).then(|| u64::from(khz) * 1000)
}

/// Whether the local APIC has its second mode, with 32-bit identifiers.
pub(crate) fn has_x2apic() -> bool {
    cpuid(1, 0).ecx & 1 << 21 != 0
}

/// Prepares this core: SSE, AVX where it exists, write protection in ring 0, the memory types the
/// page tables name.
///
/// The boot entries and the trampoline have already turned on SSE, without which no Rust runs.
pub(crate) fn init_core() {
    // SAFETY: turns on what compiled code may use, and makes read-only pages read-only for us
    // too; nothing relies on the opposite.
    unsafe {
        Cr0::update(|cr0| {
            cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            cr0.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
            cr0.insert(Cr0Flags::WRITE_PROTECT);
        });
        Cr4::update(|cr4| cr4.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE));
        Msr::new(PAT).write(PAT_DEFAULT);
    }
    if has_xsave() {
        enable_avx();
    }
}

fn enable_avx() {
    let supported = XCr0Flags::from_bits_truncate(u64::from(cpuid(0xd, 0).eax));
    let base = XCr0Flags::X87 | XCr0Flags::SSE;
    let avx512 = XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
    let mut wanted = base;
    if supported.contains(XCr0Flags::AVX) {
        wanted |= XCr0Flags::AVX;
        if supported.contains(avx512) {
            wanted |= avx512;
        }
    }
    // SAFETY: the processor has XSAVE, and the state components enabled are ones it lists.
    unsafe {
        Cr4::update(|cr4| cr4.insert(Cr4Flags::OSXSAVE));
        XCr0::write(wanted);
    }
}

/// The processor's name as it gives it, for the log.
pub(crate) fn brand() -> String<48> {
    let mut brand = String::new();
    for leaf in 0x8000_0002..=0x8000_0004 {
        let CpuidResult { eax, ebx, ecx, edx } = cpuid(leaf, 0);
        for byte in [eax, ebx, ecx, edx].into_iter().flat_map(u32::to_le_bytes) {
            if byte.is_ascii_graphic() || byte == b' ' {
                // Never full: 48 bytes in all.
                let _ = brand.push(char::from(byte));
            }
        }
    }
    brand
}

/// The features that matter to Basalt, for the log.
pub(crate) fn features() -> String<96> {
    let basic = cpuid(1, 0);
    let extended = cpuid(7, 0);
    let known = [
        ("sse4.2", basic.ecx & 1 << 20 != 0),
        ("avx", basic.ecx & 1 << 28 != 0),
        ("avx2", extended.ebx & 1 << 5 != 0),
        ("avx512f", extended.ebx & 1 << 16 != 0),
        ("x2apic", basic.ecx & 1 << 21 != 0),
        ("tsc-deadline", has_tsc_deadline()),
        ("invariant-tsc", has_invariant_tsc()),
        ("1gib-pages", has_1gib_pages()),
    ];
    let mut list = String::new();
    for (name, _) in known.iter().filter(|(_, present)| *present) {
        // Never full: all the names together fit.
        let _ = list.push_str(name);
        let _ = list.push(' ');
    }
    list
}
