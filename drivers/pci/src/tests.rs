extern crate std;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use basalt_env::{BarError, ConfigSpace, Device, MmioMap, PciAddress, PhysAddr, Registers};
use proptest::prelude::*;

use crate::{
    Addresses, AssignError, Bar, BusRange, Claimed, Function, HeaderKind, capabilities,
    extended_capabilities,
};
use crate::{id, scan};

pub(crate) const ALL: [BusRange; 1] = [BusRange { segment: 0, start: 0, end: 255 }];

/// A dword and which of its bits a write changes, by address and offset.
type Words = BTreeMap<(PciAddress, u16), (u32, u32)>;

/// A machine's configuration space.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    words: Rc<RefCell<Words>>,
    sized_while_decoding: Rc<Cell<bool>>,
}

impl Fake {
    pub(crate) fn set(&self, address: PciAddress, offset: u16, value: u32, writable: u32) {
        self.words.borrow_mut().insert((address, offset), (value, writable));
    }

    pub(crate) fn function(&self, address: PciAddress, class: u32, header: u8) {
        self.set(address, 0x00, 0x5678_1234, 0);
        self.set(address, 0x04, 0x0010_0003, 0xffff);
        self.set(address, 0x08, class << 8 | 1, 0);
        self.set(address, 0x0c, u32::from(header) << 16, 0);
        self.set(address, 0x2c, 0x000a_000b, 0);
    }

    pub(crate) fn bridge(&self, address: PciAddress, secondary: u8, subordinate: u8) {
        self.function(address, 0x06_0400, 1);
        let buses = u32::from_le_bytes([address.bus, secondary, subordinate, 0]);
        self.set(address, 0x18, buses, 0);
    }
}

impl ConfigSpace for Fake {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        let words = self.words.borrow();
        if !words.contains_key(&(address, 0)) {
            return u32::MAX;
        }
        words.get(&(address, offset)).map_or(0, |word| word.0)
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let decoding = self.read(address, 4) & 3 != 0;
        if (0x10..0x28).contains(&offset) && decoding {
            self.sized_while_decoding.set(true);
        }
        if let Some((word, writable)) = self.words.borrow_mut().get_mut(&(address, offset)) {
            *word = *word & !*writable | value & *writable;
        }
    }
}

#[derive(Clone, Debug)]
struct NoRegisters;

impl Registers for NoRegisters {
    fn len(&self) -> usize {
        0
    }
    fn window(&self, _: usize, _: usize) -> Option<Self> {
        None
    }
    fn read8(&self, _: usize) -> u8 {
        0
    }
    fn read16(&self, _: usize) -> u16 {
        0
    }
    fn read32(&self, _: usize) -> u32 {
        0
    }
    fn read64(&self, _: usize) -> u64 {
        0
    }
    fn write8(&self, _: usize, _: u8) {}
    fn write16(&self, _: usize, _: u16) {}
    fn write32(&self, _: usize, _: u32) {}
    fn write64(&self, _: usize, _: u64) {}
}

#[derive(Clone, Default)]
struct FakeMap(Rc<RefCell<Vec<(PhysAddr, usize)>>>);

impl MmioMap for FakeMap {
    type Registers = NoRegisters;

    fn map(&self, base: PhysAddr, len: usize) -> Result<NoRegisters, BarError> {
        self.0.borrow_mut().push((base, len));
        Ok(NoRegisters)
    }
}

pub(crate) fn at(bus: u8, device: u8, function: u8) -> PciAddress {
    PciAddress::new(0, bus, device, function)
}

fn addresses(config: &Fake) -> Vec<PciAddress> {
    scan(config, &ALL).iter().map(|function| function.address).collect()
}

#[test]
fn functions_behind_bridges_are_found_once_and_described() {
    let fake = Fake::default();
    fake.function(at(0, 0, 0), 0x06_0000, 0);
    fake.bridge(at(0, 1, 0), 1, 2);
    fake.bridge(at(1, 0, 0), 2, 2);
    fake.function(at(2, 3, 0), 0x01_0802, 0x80);
    fake.function(at(2, 3, 5), 0x02_0000, 0);
    fake.function(at(0, 4, 1), 0x02_0000, 0); // Its function 0 does not answer.
    let found = scan(&fake, &ALL);
    let order: Vec<_> = found.iter().map(|function| function.address).collect();
    assert_eq!(order, [at(0, 0, 0), at(0, 1, 0), at(1, 0, 0), at(2, 3, 0), at(2, 3, 5)]);
    let nvme = found[3];
    assert!(nvme.is_nvme() && nvme.multifunction && !found[4].is_nvme());
    assert_eq!((nvme.vendor, nvme.device, nvme.revision), (0x1234, 0x5678, 1));
    assert_eq!((nvme.subsystem_vendor, nvme.subsystem), (0xb, 0xa));
    assert_eq!(std::format!("{nvme}"), "0000:02:03.0 [1234:5678] NvmeController");
}

#[test]
fn a_bus_of_another_host_bridge_is_found() {
    let fake = Fake::default();
    fake.function(at(0, 0, 0), 0x06_0000, 0);
    fake.function(at(0x80, 9, 0), 0x01_0802, 0);
    assert_eq!(addresses(&fake), [at(0, 0, 0), at(0x80, 9, 0)]);
}

#[test]
fn lying_bridges_do_not_trap_the_walk() {
    let fake = Fake::default();
    fake.bridge(at(0, 1, 0), 0, 0);
    fake.bridge(at(0, 2, 0), 3, 2);
    fake.bridge(at(0, 3, 0), 5, 9);
    fake.bridge(at(5, 0, 0), 5, 9); // Leads to itself.
    fake.bridge(at(5, 1, 0), 0, 9); // Leads up again.
    fake.bridge(at(0, 4, 0), 5, 9); // Claims a bus that another has.
    assert_eq!(addresses(&fake).len(), 6);
    let range = BusRange { segment: 0, start: 0, end: 4 };
    assert_eq!(scan(&fake, &[range]).len(), 4);
}

#[test]
fn capability_lists_are_read_and_loops_end() {
    let fake = Fake::default();
    let function = at(0, 0, 0);
    fake.function(function, 0x02_0000, 0);
    fake.set(function, 0x34, 0x43, 0); // The low two bits are reserved.
    fake.set(function, 0x40, 0x5009, 0);
    fake.set(function, 0x50, 0x0010, 0);
    fake.set(function, 0x100, 0x1401_0001, 0);
    fake.set(function, 0x140, 0x0002_0003, 0);
    let read = |offset| fake.read(function, offset);
    let found: Vec<_> = capabilities(read).map(|c| (c.id, c.offset)).collect();
    assert_eq!(found, [(id::VENDOR, 0x40), (id::PCI_EXPRESS, 0x50)]);
    let found: Vec<_> = extended_capabilities(read).map(|c| (c.id, c.version, c.offset)).collect();
    assert_eq!(found, [(1, 1, 0x100), (3, 2, 0x140)]);

    fake.set(function, 0x50, 0x4010, 0);
    fake.set(function, 0x140, 0x1002_0003, 0);
    assert_eq!(capabilities(read).count(), 48);
    assert_eq!(extended_capabilities(read).count(), 480);
}

#[test]
fn a_function_without_express_has_no_extended_capabilities() {
    let fake = Fake::default();
    fake.function(at(0, 0, 0), 0x02_0000, 0);
    fake.set(at(0, 0, 0), 0x100, 0x0001_0001, 0);
    assert_eq!(extended_capabilities(|offset| fake.read(at(0, 0, 0), offset)).count(), 0);
}

#[test]
fn bars_are_sized_with_decoding_off_and_left_as_found() {
    let fake = Fake::default();
    let function = at(0, 0, 0);
    fake.function(function, 0x01_0802, 0);
    fake.set(function, 0x10, 0xfebf_000c, 0xffff_c000); // 16 KiB, 64-bit, prefetchable.
    fake.set(function, 0x14, 0x0000_0012, 0xffff_ffff);
    fake.set(function, 0x18, 0xfea0_0000, 0xffff_f000);
    fake.set(function, 0x1c, 0x0000_c001, 0x0000_ffe0);
    fake.set(function, 0x24, 0x0000_0004, 0xffff_f000); // 64-bit in the last register.
    let probe = |index| Bar::probe(&fake, function, HeaderKind::Endpoint, index);
    let wide = Bar::Memory { base: 0x12_febf_0000, len: 0x4000, prefetchable: true, wide: true };
    let narrow = Bar::Memory { base: 0xfea0_0000, len: 4096, prefetchable: false, wide: false };
    assert_eq!(probe(0), Ok(wide));
    assert_eq!(probe(1), Err(BarError::Missing), "the upper half is no BAR of its own");
    assert_eq!(probe(2), Ok(narrow));
    assert_eq!(probe(3), Ok(Bar::Io { base: 0xc000, len: 32 }));
    for missing in [4, 5, 6, 255] {
        assert_eq!(probe(missing), Err(BarError::Missing));
    }
    assert!(!fake.sized_while_decoding.get());
    assert_eq!(fake.read(function, 0x10), 0xfebf_000c);
    assert_eq!(fake.read(function, 4), 0x0010_0003);
}

#[test]
fn a_claimed_function_reaches_memory_only_while_enabled() {
    let (fake, map) = (Fake::default(), FakeMap::default());
    let function = at(0, 0, 0);
    fake.function(function, 0x01_0802, 0);
    fake.set(function, 0x10, 0xfebf_0000, 0xffff_c000);
    fake.set(function, 0x14, 0x0000_0000, 0xffff_c000);
    fake.set(function, 0x18, 0x0000_c001, 0x0000_ffe0);
    let found = Function::read(&fake, function).unwrap();
    let mut claimed = Claimed::new(fake.clone(), map.clone(), found);
    claimed.bar(0).unwrap();
    assert_eq!(claimed.bar(1).unwrap_err(), BarError::Unassigned);
    assert_eq!(claimed.bar(2).unwrap_err(), BarError::IoSpace);
    assert_eq!(*map.0.borrow(), [(PhysAddr::new(0xfebf_0000), 0x4000)]);
    assert_eq!(fake.read(function, 4) & 4, 0);
    claimed.enable();
    assert_eq!(fake.read(function, 4) & 0x406, 0x406);
    drop(claimed);
    assert_eq!(fake.read(function, 4) & 4, 0);
}

/// Answers every read with words of a seed: a machine that makes no sense at all.
struct Noise(u64);

impl ConfigSpace for Noise {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        let key = u64::from(address.bus) << 24
            | u64::from(address.device) << 19
            | u64::from(address.function) << 16
            | u64::from(offset);
        let mixed = (key ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be() as u32
    }

    fn write(&self, _: PciAddress, _: u16, _: u32) {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_content_panics_or_hangs_the_scan(seed: u64, start: u8, end: u8) {
        let noise = Noise(seed);
        let found = scan(&noise, &[BusRange { segment: 0, start, end }]);
        prop_assert!(found.len() <= 256 * 32 * 8);
        for function in found.iter().take(64) {
            let read = |offset| noise.read(function.address, offset);
            prop_assert!(capabilities(read).count() <= 48);
            prop_assert!(extended_capabilities(read).count() <= 480);
            for index in 0..7 {
                let _ = Bar::probe(&noise, function.address, function.header, index);
            }
        }
    }
}

/// A port with a memory window of 2 MiB at 0xfe00_0000 and a prefetchable one above 4 GiB, and one
/// function of three BARs behind it.
fn newcomer(fake: &Fake, device: u8) -> Function {
    let function = at(1, device, 0);
    fake.function(function, 0x01_0802, 0);
    fake.set(function, 0x10, 0x4, 0xffff_c000); // 16 KiB, 64-bit.
    fake.set(function, 0x14, 0, u32::MAX);
    fake.set(function, 0x18, 0, 0xfff0_0000); // 1 MiB.
    fake.set(function, 0x1c, 0xc, 0xfff0_0000); // 1 MiB, 64-bit, prefetchable.
    fake.set(function, 0x20, 0, u32::MAX);
    Function::read(fake, function).unwrap()
}

fn port_with_windows(fake: &Fake) {
    fake.bridge(at(0, 1, 0), 1, 1);
    fake.set(at(0, 1, 0), 0x20, 0xfe10_fe00, 0);
    fake.set(at(0, 1, 0), 0x24, 0x0011_0001, 0);
    fake.set(at(0, 1, 0), 0x28, 0x38, 0);
    fake.set(at(0, 1, 0), 0x2c, 0x38, 0);
}

#[test]
fn a_window_that_reaches_to_the_end_of_all_addresses_is_none() {
    let fake = Fake::default();
    port_with_windows(&fake);
    fake.set(at(0, 1, 0), 0x20, 0, 0);
    fake.set(at(0, 1, 0), 0x24, 0xfff1_0001, 0);
    fake.set(at(0, 1, 0), 0x2c, u32::MAX, 0);
    let mut addresses = Addresses::survey(&fake, &scan(&fake, &ALL), |_| true);
    let one = newcomer(&fake, 0);
    assert_eq!(addresses.assign(&fake, &one), Err(AssignError::NoWindow));
}

#[test]
fn bars_without_addresses_get_some_in_their_bridges_windows() {
    let fake = Fake::default();
    port_with_windows(&fake);
    let mut addresses = Addresses::survey(&fake, &scan(&fake, &ALL), |_| true);
    let one = newcomer(&fake, 0);
    assert!(Addresses::lacks(&fake, &one));
    addresses.assign(&fake, &one).unwrap();
    assert!(!Addresses::lacks(&fake, &one));
    let bar = |device, offset| fake.read(at(1, device, 0), offset);
    assert_eq!(bar(0, 0x18), 0xfe00_0000, "the largest is placed first");
    assert_eq!((bar(0, 0x14), bar(0, 0x10)), (0, 0xfe10_0004));
    assert_eq!((bar(0, 0x20), bar(0, 0x1c)), (0x38, 0xc));
    addresses.assign(&fake, &one).unwrap();
    assert_eq!(bar(0, 0x10), 0xfe10_0004, "those that have one keep it");

    // No second megabyte is free without crossing the first function's other BAR.
    let two = newcomer(&fake, 1);
    assert_eq!(addresses.assign(&fake, &two), Err(AssignError::NoRoom { len: 1 << 20 }));
    addresses.forget(|address| address == at(1, 0, 0));
    addresses.assign(&fake, &two).unwrap();
    assert_eq!(bar(1, 0x18), 0xfe00_0000);
    assert!(!fake.sized_while_decoding.get());
}

#[test]
fn a_bus_whose_bridge_has_no_window_has_no_room() {
    let fake = Fake::default();
    fake.bridge(at(0, 1, 0), 1, 1);
    fake.set(at(0, 1, 0), 0x20, 0x0000_fff0, 0); // The base is above the limit.
    fake.set(at(0, 1, 0), 0x24, 0x0000_fff0, 0);
    let mut addresses = Addresses::survey(&fake, &scan(&fake, &ALL), |_| true);
    let function = newcomer(&fake, 0);
    assert_eq!(addresses.assign(&fake, &function), Err(AssignError::NoWindow));
}

#[test]
fn on_the_first_bus_there_is_room_between_what_firmware_placed() {
    let fake = Fake::default();
    for (device, base) in [(2, 0xfd00_0000), (3, 0xfd00_4000)] {
        fake.function(at(0, device, 0), 0x02_0000, 0);
        fake.set(at(0, device, 0), 0x10, base, 0xffff_c000);
    }
    fake.bridge(at(0, 4, 0), 1, 1);
    fake.set(at(0, 4, 0), 0x20, 0xfd10_fd10, 0);
    let mut addresses = Addresses::survey(&fake, &scan(&fake, &ALL), |_| true);
    fake.function(at(0, 5, 0), 0x01_0802, 0);
    fake.set(at(0, 5, 0), 0x10, 0x4, 0xffff_c000);
    fake.set(at(0, 5, 0), 0x14, 0, u32::MAX);
    fake.set(at(0, 5, 0), 0x18, 0, 0xfff0_0000);
    let function = Function::read(&fake, at(0, 5, 0)).unwrap();
    addresses.assign(&fake, &function).unwrap();
    assert_eq!(fake.read(at(0, 5, 0), 0x18), 0xfd20_0000, "behind the bridge's window");
    assert_eq!(fake.read(at(0, 5, 0), 0x10), 0xfd00_8004);
}

#[test]
fn bridges_to_old_buses_make_requests_their_own() {
    let fake = Fake::default();
    fake.bridge(at(0, 1, 0), 1, 2);
    fake.set(at(0, 1, 0), 0x34, 0x40, 0);
    fake.set(at(0, 1, 0), 0x40, 0x0142_0010, 0); // PCI Express.
    fake.bridge(at(1, 2, 0), 2, 2);
    fake.function(at(2, 3, 1), 0x01_0802, 0);
    let addresses = Addresses::survey(&fake, &scan(&fake, &ALL), |_| true);
    assert_eq!(addresses.requesters(&fake, at(1, 0, 0)), [at(1, 0, 0)]);
    let requesters = [at(2, 3, 1), at(1, 2, 0), at(2, 0, 0)];
    assert_eq!(addresses.requesters(&fake, at(2, 3, 1)), requesters);
    fake.set(at(0, 1, 0), 0x40, 0x0072_0010, 0); // PCI Express to PCI.
    assert_eq!(addresses.requesters(&fake, at(1, 2, 0)), [at(1, 2, 0), at(1, 0, 0)]);
}

/// Writes the few terms of ACPI's byte code that matter here.
pub(crate) mod term {
    use alloc::vec::Vec;

    pub fn package(op: &[u8], body: &[u8]) -> Vec<u8> {
        // Always the two-byte form, which is allowed for short lengths too.
        let len = body.len() + 2;
        let lead = [0x40 | (len & 0xf) as u8, (len >> 4) as u8];
        [op, &lead, body].concat()
    }

    pub fn device(name: &[u8; 4], terms: &[Vec<u8>]) -> Vec<u8> {
        package(&[0x5b, 0x82], &[&name[..], &terms.concat()].concat())
    }

    pub fn scope(name: &[u8], terms: &[Vec<u8>]) -> Vec<u8> {
        package(&[0x10], &[name, &terms.concat()].concat())
    }

    pub fn number(name: &[u8; 4], value: u32) -> Vec<u8> {
        [&[0x08], &name[..], &[0x0c], &value.to_le_bytes()].concat()
    }

    pub fn region(name: &[u8; 4], port: u16) -> Vec<u8> {
        [&[0x5b, 0x80], &name[..], &[1, 0x0b], &port.to_le_bytes(), &[0x0a, 8]].concat()
    }
}
