#![expect(unsafe_code, reason = "firmware tables are raw memory")]

//! What ACPI says about the machine: cores, PCI configuration windows, timers, power off.
//!
//! The `acpi` crate finds tables and checks their checksums; the entries of those that are lists
//! are then read here, from bytes and with bounds.

use alloc::vec::Vec;
use core::ptr::NonNull;

use acpi::address::AddressSpace as Space;
use acpi::fadt::Fadt;
use acpi::hpet::HpetTable;
use acpi::madt::Madt;
use acpi::mcfg::Mcfg;
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use basalt_env::Numa;

use crate::calibrate::{PmTimerWidth, Timers};
use crate::ecam::{ConfigBuses, EcamWindow};
use crate::exit::{self, SoftOff};
use crate::ioapic::{IoApic, Signal};
use crate::memory::{FOUR_GIB, Span};
use crate::paging::ADDRESS_SPACE;

/// What was found. Empty where the tables say nothing.
#[derive(Default)]
pub(crate) struct Platform {
    /// APIC identifiers of the processors that firmware enabled.
    pub(crate) apic_ids: Vec<u32>,
    pub(crate) io_apics: Vec<IoApic>,
    /// The real-time clock's signal.
    pub(crate) rtc_signal: Option<Signal>,
    pub(crate) ecam: Vec<EcamWindow>,
    pub(crate) timers: Timers,
    /// The real-time clock's register with the century.
    pub(crate) rtc_century: Option<u8>,
    /// The table with the machine's byte code, which is not run.
    pub(crate) dsdt: &'static [u8],
    /// The table of DMA remapping units.
    pub(crate) dmar: &'static [u8],
    /// What is near what.
    pub(crate) numa: Numa,
}

/// The real-time clock's signal on every PC.
const RTC_IRQ: u8 = 8;

/// Reads the tables that the RSDP at `rsdp` leads to, or the one found in the BIOS area.
pub(crate) fn read(rsdp: Option<u64>) -> Platform {
    let Some(rsdp) = rsdp.or_else(find_rsdp) else {
        log::warn!("no ACPI tables: one core");
        return Platform::default();
    };
    // SAFETY: the loader or the signature says there is an RSDP; its checksum is verified.
    let tables = match unsafe { AcpiTables::from_rsdp(Identity, rsdp as usize) } {
        Ok(tables) => tables,
        Err(error) => {
            log::warn!("ACPI tables at {rsdp:#x} are unusable: {error:?}");
            return Platform::default();
        }
    };
    let madt = bytes_of::<Madt>(&tables).unwrap_or_default();
    let mut platform = Platform {
        apic_ids: enabled_apic_ids(madt),
        io_apics: madt_entries(madt).filter_map(io_apic).collect(),
        rtc_signal: Some(isa_signal(madt, RTC_IRQ)),
        ecam: bytes_of::<Mcfg>(&tables).map(ecam_windows).unwrap_or_default(),
        timers: Timers::default(),
        rtc_century: None,
        dsdt: &[],
        dmar: bytes_of::<Dmar>(&tables).unwrap_or_default(),
        numa: Numa::read(
            bytes_of::<Srat>(&tables).unwrap_or_default(),
            bytes_of::<Slit>(&tables).unwrap_or_default(),
        ),
    };
    platform.timers.hpet = bytes_of::<HpetTable>(&tables).and_then(hpet_base);
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        platform.timers.pm_timer = pm_timer(&fadt);
        platform.rtc_century = Some(fadt.century).filter(|&register| register != 0);
        platform.dsdt = dsdt(&fadt).unwrap_or_default();
        if let Some(soft_off) = soft_off(&fadt, platform.dsdt) {
            exit::set_soft_off(soft_off);
        }
    }
    platform
}

/// A table that is read elsewhere, from its bytes.
macro_rules! table {
    ($name:ident, $signature:ident) => {
        #[repr(transparent)]
        struct $name(SdtHeader);

        // SAFETY: every table begins with this header, which the crate checks for the signature.
        unsafe impl AcpiTable for $name {
            const SIGNATURE: Signature = Signature::$signature;

            fn header(&self) -> &SdtHeader {
                &self.0
            }
        }
    };
}

table!(Dmar, DMAR);
table!(Srat, SRAT);
table!(Slit, SLIT);

/// Tables are mapped where they are.
#[derive(Clone)]
struct Identity;

impl AcpiHandler for Identity {
    unsafe fn map_physical_region<T>(&self, start: usize, len: usize) -> PhysicalMapping<Self, T> {
        if let Some(space) = ADDRESS_SPACE.lock().as_mut() {
            // Refused if it is memory, which is mapped already.
            let _ = space.map_device(Span::new(start as u64, len as u64));
        }
        let pointer = NonNull::new(start as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: the caller promises a `T` at this address, which maps to itself.
        unsafe { PhysicalMapping::new(start, pointer, len, len, self.clone()) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// The RSDP by its signature in the BIOS area (ACPI §5.2.5.1).
fn find_rsdp() -> Option<u64> {
    let candidates = (0xe_0000_u64..0x10_0000).step_by(16);
    // SAFETY: the BIOS area is readable memory on every PC, and mapped.
    candidates.into_iter().find(|&at| unsafe { *(at as *const [u8; 8]) } == *b"RSD PTR ")
}

/// All bytes of table `T`, checksum verified. Firmware tables stay where they are for good.
fn bytes_of<T: AcpiTable>(tables: &AcpiTables<Identity>) -> Option<&'static [u8]> {
    let table = tables.find_table::<T>().ok()?;
    let start = table.virtual_start().as_ptr().cast::<u8>();
    // SAFETY: the whole table was mapped and summed up; nothing writes or reclaims it.
    Some(unsafe { core::slice::from_raw_parts(start, table.region_length()) })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The entries of the MADT (ACPI §5.2.12), each with its kind.
fn madt_entries(madt: &'static [u8]) -> impl Iterator<Item = (u8, &'static [u8])> {
    let mut rest = madt.get(44..).unwrap_or_default();
    core::iter::from_fn(move || {
        let &[kind, len, ..] = rest else { return None };
        let Some(entry) = rest.get(..usize::from(len)).filter(|entry| entry.len() >= 2) else {
            log::warn!("the MADT ends within an entry");
            return None;
        };
        rest = &rest[entry.len()..];
        Some((kind, entry))
    })
}

/// Local APIC entries (type 0) and local x2APIC entries (type 9).
fn enabled_apic_ids(madt: &'static [u8]) -> Vec<u32> {
    const ENABLED: u32 = 1;
    let mut ids = Vec::new();
    for (kind, entry) in madt_entries(madt) {
        let (id, flags) = match kind {
            0 => (entry.get(3).map(|&id| u32::from(id)), u32_at(entry, 4)),
            9 => (u32_at(entry, 4), u32_at(entry, 8)),
            _ => continue,
        };
        let (Some(id), Some(flags)) = (id, flags) else {
            continue;
        };
        if flags & ENABLED != 0 && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// I/O APIC entries (type 1).
fn io_apic((kind, entry): (u8, &[u8])) -> Option<IoApic> {
    let (address, first) = (u32_at(entry, 4)?, u32_at(entry, 8)?);
    (kind == 1).then_some(IoApic { address: address.into(), first })
}

/// Where an old device's signal has its number and shape changed (type 2), that; else its own.
fn isa_signal(madt: &'static [u8], irq: u8) -> Signal {
    let changed = madt_entries(madt).find_map(|(kind, entry)| {
        let flags = entry.get(8..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
        let number = u32_at(entry, 4)?;
        (kind == 2 && entry.get(3) == Some(&irq)).then_some(Signal { number, flags })
    });
    changed.unwrap_or(Signal { number: irq.into(), flags: 0 })
}

/// MCFG (PCI Firmware §4.1.2): 16-byte entries after 44 bytes.
fn ecam_windows(mcfg: &[u8]) -> Vec<EcamWindow> {
    let entries = mcfg.get(44..).unwrap_or_default().chunks_exact(16);
    let window = |entry: &[u8]| {
        let &[segment_low, segment_high, bus_start, bus_end] = entry.get(8..12)? else {
            return None;
        };
        let segment = u16::from_le_bytes([segment_low, segment_high]);
        let range = ConfigBuses { segment, bus_start, bus_end };
        Some(EcamWindow { base: u64_at(entry, 0)?, range })
    };
    entries.filter_map(window).collect()
}

/// HPET table (IA-PC HPET §3.2.4): a generic address at byte 40; used if in memory below 4 GiB.
fn hpet_base(hpet: &[u8]) -> Option<u64> {
    let in_memory = *hpet.get(40)? == 0;
    u64_at(hpet, 44).filter(|&base| in_memory && base < FOUR_GIB)
}

fn pm_timer(fadt: &Fadt) -> Option<(u16, PmTimerWidth)> {
    let block = fadt.pm_timer_block().ok()??;
    let flags = fadt.flags;
    let wide = flags.pm_timer_is_32_bit();
    let width = if wide { PmTimerWidth::Bits32 } else { PmTimerWidth::Bits24 };
    let port = u16::try_from(block.address).ok()?;
    (block.address_space == Space::SystemIo).then_some((port, width))
}

fn soft_off(fadt: &Fadt, dsdt: &[u8]) -> Option<SoftOff> {
    let port = |block: acpi::address::GenericAddress| {
        let in_io = block.address_space == Space::SystemIo && block.address != 0;
        u16::try_from(block.address).ok().filter(|_| in_io)
    };
    let pm1a_control = port(fadt.pm1a_control_block().ok()?)?;
    let pm1b_control = fadt.pm1b_control_block().ok().flatten().and_then(port);
    let sleep_types = s5_sleep_types(dsdt)?;
    Some(SoftOff { pm1a_control, pm1b_control, sleep_types })
}

fn dsdt(fadt: &Fadt) -> Option<&'static [u8]> {
    const LEN_MAX: u32 = 4 << 20;
    let start = fadt.dsdt_address().ok()? as u64;
    // SAFETY: the FADT, whose checksum was verified, names a table there.
    let header = unsafe { Identity.map_physical_region::<[u8; 36]>(start as usize, 36) };
    let len = u32_at(header.as_slice(), 4).filter(|&len| len <= LEN_MAX)?;
    if header.first_chunk() != Some(b"DSDT") {
        return None;
    }
    // SAFETY: as above; the header gives the length.
    let whole = unsafe { Identity.map_physical_region::<u8>(start as usize, len as usize) };
    // SAFETY: just mapped, and firmware tables are never written.
    Some(unsafe { core::slice::from_raw_parts(whole.virtual_start().as_ptr(), len as usize) })
}

/// The first two numbers of the package named `_S5_`, found by its encoding (ACPI §20.2) rather
/// than by interpreting the AML: it is a constant on every machine known.
fn s5_sleep_types(aml: &[u8]) -> Option<(u8, u8)> {
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0a;
    let name = aml.windows(4).position(|bytes| bytes == b"_S5_")?;
    let [PACKAGE, rest @ ..] = aml.get(name + 4..)? else {
        return None;
    };
    // The package's length takes 1 to 4 bytes, its element count one.
    let length_bytes = usize::from(*rest.first()? >> 6) + 1;
    let mut elements = rest.get(length_bytes + 1..)?.iter().copied();
    let mut number = || match elements.next()? {
        BYTE_PREFIX => elements.next(),
        zero_or_one @ 0..=1 => Some(zero_or_one),
        _ => None,
    };
    Some((number()?, number()?))
}
