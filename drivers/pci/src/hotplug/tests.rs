extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use basalt_env::IoPorts;
use proptest::prelude::*;

use super::*;
use crate::aml::{self, Facts, Selector};
use crate::tests::{Fake, at, term};
use crate::{BusRange, scan};

const PORTS: u16 = 0xcc0;

/// A table like QEMU's: bus 0 without slots, a port at 1.0 with selector 7, a switch behind 2.0
/// with 8 at its downstream port, and a second host bridge whose buses are not looked at.
fn dsdt() -> Vec<u8> {
    let method = term::package(&[0x14], b"_EJ0\x01\x70\x68\x69");
    let slot = term::device(b"S00_", &[term::number(b"_ADR", 0), method]);
    let downstream = [term::number(b"_ADR", 0x0003_0000), term::number(b"BSEL", 8), slot.clone()];
    let upstream = [term::number(b"_ADR", 0), term::device(b"S18_", &downstream)];
    let root = [
        term::device(
            b"S08_",
            &[term::number(b"_ADR", 0x0001_0000), term::number(b"BSEL", 7), slot.clone()],
        ),
        term::device(
            b"S10_",
            &[term::number(b"_ADR", 0x0002_0000), term::device(b"S00_", &upstream)],
        ),
    ];
    let other = [term::number(b"BSEL", 9), slot];
    [
        vec![0; 36],
        term::scope(
            b"\\_SB_",
            &[term::device(b"PCI0", &[term::number(b"_ADR", 0)]), term::device(b"PC80", &other)],
        ),
        term::scope(b"\\\x2e_SB_PCI0", &[term::region(b"PCST", PORTS)]),
        term::scope(b"\\_SB_", &[term::scope(b"PCI0", &root)]),
        // What is not known ends its own list only.
        vec![0x70, 0x60],
    ]
    .concat()
}

#[test]
fn the_byte_code_tells_ports_and_selectors_with_the_way_to_each_bus() {
    let facts = aml::read(&dsdt());
    let selector = |number, path: &[(u8, u8)]| Selector { number, path: path.into() };
    let selectors = vec![selector(7, &[(1, 0)]), selector(8, &[(2, 0), (0, 0), (3, 0)])];
    assert_eq!(facts, Facts { ports: Some(PORTS), selectors, roots: vec![] });
}

proptest! {
    #[test]
    fn byte_code_that_is_cut_or_damaged_is_survived(
        cut in 0..400_usize,
        damage in prop::collection::vec((36..400_usize, any::<u8>()), 0..8),
    ) {
        let mut table = dsdt();
        for (place, byte) in damage {
            if let Some(damaged) = table.get_mut(place) {
                *damaged = byte;
            }
        }
        table.truncate(cut);
        aml::read(&table);
    }

    #[test]
    fn noise_is_no_byte_code(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        aml::read(&noise);
    }
}

/// The controller's registers for two buses.
#[derive(Clone, Default)]
struct Registers(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    selected: u32,
    up: [u32; 10],
    down: [u32; 10],
    ejected: Vec<(u32, u32)>,
}

impl IoPorts for Registers {
    fn read32(&self, port: u16) -> u32 {
        let mut state = self.0.borrow_mut();
        let bus = state.selected as usize;
        match port - PORTS {
            0 => core::mem::take(&mut state.up[bus]),
            4 => state.down[bus],
            _ => u32::MAX,
        }
    }

    fn write32(&self, port: u16, value: u32) {
        let mut state = self.0.borrow_mut();
        let bus = state.selected;
        match port - PORTS {
            8 => {
                state.down[bus as usize] &= !value;
                state.ejected.push((bus, value));
            }
            16 => state.selected = value,
            _ => panic!("port {port:#x} has no such register"),
        }
    }
}

/// Ports 1.0 (bus 1) and 2.0 (a switch: buses 2 and 3, slot bus 4).
fn machine() -> Fake {
    let fake = Fake::default();
    fake.bridge(at(0, 1, 0), 1, 1);
    fake.bridge(at(0, 2, 0), 2, 4);
    fake.bridge(at(2, 0, 0), 3, 4);
    fake.bridge(at(3, 3, 0), 4, 4);
    fake
}

fn find(fake: &Fake, dsdt: &[u8], ports: &Registers) -> Hotplug<Fake, Registers> {
    let functions = scan(fake, &[BusRange { segment: 0, start: 0, end: 255 }]);
    Hotplug::find(fake.clone(), &functions, dsdt, ports.clone())
}

#[test]
fn the_controller_tells_each_departure_once_until_it_is_done() {
    let (fake, ports) = (machine(), Registers::default());
    let mut hotplug = find(&fake, &dsdt(), &ports);
    assert!(!hotplug.is_empty());
    assert!(hotplug.covers(at(4, 9, 0)) && !hotplug.covers(at(0, 1, 0)));
    assert_eq!(hotplug.poll(), []);
    ports.0.borrow_mut().down[8] = 1;
    let [Event::Leaving(slot)] = hotplug.poll()[..] else { panic!("one device is to go") };
    assert!(slot.holds(at(4, 0, 0)) && !slot.holds(at(4, 1, 0)) && !slot.holds(at(1, 0, 0)));
    assert_eq!(hotplug.poll(), [], "it was told already");
    hotplug.eject(slot);
    assert_eq!(ports.0.borrow().ejected, [(8, 1)]);
    ports.0.borrow_mut().down[8] = 1;
    assert_eq!(hotplug.poll(), [Event::Leaving(slot)], "the next one");
}

#[test]
fn the_controller_tells_arrivals_by_bus_and_device() {
    let (fake, ports) = (machine(), Registers::default());
    let mut hotplug = find(&fake, &dsdt(), &ports);
    ports.0.borrow_mut().up[7] = 1 << 5 | 1;
    let events = hotplug.poll();
    let [Event::Arrived(first), Event::Arrived(second)] = events[..] else { panic!("{events:?}") };
    assert!(first.holds(at(1, 0, 3)) && second.holds(at(1, 5, 0)));
    hotplug.power_on(first);
    assert_eq!(first.functions(&fake).len(), 0);
    fake.function(at(1, 0, 0), 0x01_0802, 0x80);
    fake.function(at(1, 0, 2), 0x01_0802, 0x80);
    assert_eq!(first.functions(&fake).len(), 2);
}

#[test]
fn a_controller_whose_ports_run_out_is_none() {
    let fake = machine();
    let with_ports = |port: u16| {
        let table = dsdt();
        let at = table.windows(2).position(|bytes| bytes == PORTS.to_le_bytes()).unwrap();
        [&table[..at], &port.to_le_bytes(), &table[at + 2..]].concat()
    };
    let ports = Registers::default();
    assert!(!find(&fake, &with_ports(0xffec), &ports).is_empty());
    assert!(find(&fake, &with_ports(0xffed), &ports).is_empty());
}

#[test]
fn a_machine_without_slots_has_none() {
    let hotplug = find(&machine(), &[], &Registers::default());
    assert!(hotplug.is_empty());
}

/// Slot control and status of the port at 1.0, whose capability is at 0x40.
const SLOT: u16 = 0x58;
const PRESENT: u32 = 1 << 22;
const BUTTON: u32 = 1 << 16;
const PRESENCE: u32 = 1 << 19;
const POWER_OFF: u32 = 1 << 10;

fn express_port(fake: &Fake, status: u32) {
    let port = at(0, 1, 0);
    fake.set(port, 0x34, 0x40, 0);
    fake.set(port, 0x40, 0x0142_0010, 0); // A root port with a slot.
    fake.set(port, 0x54, 1 << 6, 0); // Capable of hot plugging.
    fake.set(port, SLOT, status, 0xffff);
}

fn status(fake: &Fake) -> u32 {
    fake.read(at(0, 1, 0), SLOT)
}

#[test]
fn a_press_of_the_button_asks_for_the_device_and_power_goes_off_after_it() {
    let (fake, ports) = (machine(), Registers::default());
    express_port(&fake, PRESENT | 0b01 << 8);
    let mut hotplug = find(&fake, &[], &ports);
    assert_eq!(hotplug.poll(), []);
    fake.set(at(0, 1, 0), SLOT, PRESENT | BUTTON | 0b01 << 8, 0xffff);
    let [Event::Leaving(slot)] = hotplug.poll()[..] else { panic!("its device is to go") };
    assert!(slot.holds(at(1, 0, 0)) && !slot.holds(at(0, 1, 0)));
    hotplug.eject(slot);
    assert_eq!(status(&fake) & (POWER_OFF | 0b11 << 8), POWER_OFF | 0b11 << 8);

    fake.set(at(0, 1, 0), SLOT, PRESENT | PRESENCE | BUTTON | POWER_OFF | 0b11 << 8, 0xffff);
    assert_eq!(hotplug.poll(), [Event::Arrived(slot)]);
    hotplug.power_on(slot);
    assert_eq!(status(&fake) & (POWER_OFF | 0b11 << 8), 0b01 << 8);
}

#[test]
fn a_device_that_is_pulled_out_is_gone_and_one_put_in_its_place_is_another() {
    let (fake, ports) = (machine(), Registers::default());
    express_port(&fake, PRESENT);
    let mut hotplug = find(&fake, &[], &ports);
    fake.set(at(0, 1, 0), SLOT, PRESENCE, 0xffff);
    let [Event::Gone(slot)] = hotplug.poll()[..] else { panic!("it is gone") };
    fake.set(at(0, 1, 0), SLOT, 0, 0xffff);
    assert_eq!(hotplug.poll(), []);
    fake.set(at(0, 1, 0), SLOT, PRESENT | PRESENCE, 0xffff);
    assert_eq!(hotplug.poll(), [Event::Arrived(slot)]);
    fake.set(at(0, 1, 0), SLOT, PRESENT | PRESENCE, 0xffff);
    assert_eq!(hotplug.poll(), [Event::Gone(slot), Event::Arrived(slot)]);
    fake.set(at(0, 1, 0), SLOT, u32::MAX, 0);
    assert_eq!(hotplug.poll(), [], "a port that is gone tells nothing");
}

#[test]
fn an_empty_slot_that_is_filled_is_told_of() {
    let (fake, ports) = (machine(), Registers::default());
    express_port(&fake, POWER_OFF);
    let mut hotplug = find(&fake, &[], &ports);
    fake.set(at(0, 1, 0), SLOT, PRESENT | PRESENCE | BUTTON | POWER_OFF, 0xffff);
    assert!(matches!(hotplug.poll()[..], [Event::Arrived(_)]));
}
