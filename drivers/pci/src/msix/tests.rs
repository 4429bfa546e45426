extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use basalt_env::{
    BarError, ConfigSpace, CoreId, Device, MessageTarget, MmioMap, PhysAddr, Registers,
};

use super::*;
use crate::tests::{Fake, at};
use crate::{Claimed, scan};

const ENTRIES: u32 = 3;
const TABLE_AT: usize = 0x2000;
const BASE: u32 = 0xfe00_0000;
/// The capability's place, and a control word whose writable bits are the two switches.
const CAPABILITY: u16 = 0x40;
const CONTROL: u32 = (ENTRIES - 1) << 16 | id::MSIX as u32;

/// A BAR of dwords.
#[derive(Clone, Debug)]
struct Words {
    words: Rc<RefCell<Vec<u32>>>,
    start: usize,
    len: usize,
}

impl Registers for Words {
    fn len(&self) -> usize {
        self.len
    }
    fn window(&self, offset: usize, len: usize) -> Option<Self> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        fits.then(|| Self { words: Rc::clone(&self.words), start: self.start + offset, len })
    }
    fn read32(&self, offset: usize) -> u32 {
        self.words.borrow()[(self.start + offset) / 4]
    }
    fn write32(&self, offset: usize, value: u32) {
        self.words.borrow_mut()[(self.start + offset) / 4] = value;
    }
    fn read8(&self, _: usize) -> u8 {
        unreachable!("the table is accessed by dwords")
    }
    fn read16(&self, _: usize) -> u16 {
        unreachable!("the table is accessed by dwords")
    }
    fn read64(&self, _: usize) -> u64 {
        unreachable!("the table is accessed by dwords")
    }
    fn write8(&self, _: usize, _: u8) {
        unreachable!("the table is accessed by dwords");
    }
    fn write16(&self, _: usize, _: u16) {
        unreachable!("the table is accessed by dwords");
    }
    fn write64(&self, _: usize, _: u64) {
        unreachable!("the table is accessed by dwords");
    }
}

/// Maps the one BAR there is; core 9 is out of reach of messages.
#[derive(Clone)]
struct Map(Rc<RefCell<Vec<u32>>>);

impl MmioMap for Map {
    type Registers = Words;

    fn map(&self, base: PhysAddr, len: usize) -> Result<Words, BarError> {
        assert_eq!(base, PhysAddr::new(BASE.into()));
        Ok(Words { words: Rc::clone(&self.0), start: 0, len })
    }

    fn message_target(&self, core: CoreId) -> Option<MessageTarget> {
        let address = 0x1_fee0_0000 | u64::from(core.0) << 12;
        (core.0 != 9).then_some(MessageTarget { address, data: 0x41 })
    }
}

struct Bench {
    config: Fake,
    words: Rc<RefCell<Vec<u32>>>,
    device: Claimed<Fake, Map>,
}

impl Bench {
    /// A function whose BAR 0 is of 16 KiB, with its table at `table` in BAR `bar`.
    fn new(table: u32, bar: u32) -> Self {
        let (config, device) = (Fake::default(), at(0, 3, 0));
        config.function(device, 0x01_0802, 0);
        config.set(device, 0x10, BASE, 0xffff_c000);
        config.set(device, 0x34, CAPABILITY.into(), 0);
        config.set(device, CAPABILITY, CONTROL, 0b11 << 30);
        config.set(device, CAPABILITY + TABLE, table | bar, 0);
        let words = Rc::new(RefCell::new(vec![0; 0x1000]));
        let function = scan(&config, &crate::tests::ALL).remove(0);
        let claimed = Claimed::new(config.clone(), Map(Rc::clone(&words)), function);
        Self { config, words, device: claimed }
    }

    fn entry(&self, index: usize) -> [u32; 4] {
        let at = (TABLE_AT + index * ENTRY_LEN) / 4;
        let words = self.words.borrow();
        [words[at], words[at + 1], words[at + 2], words[at + 3]]
    }

    fn control(&self) -> u32 {
        self.config.read(at(0, 3, 0), CAPABILITY)
    }
}

#[test]
fn a_message_goes_where_it_is_pointed_and_only_when_let_through() {
    let mut bench = Bench::new(TABLE_AT as u32, 0);
    let message = bench.device.wake_message(1, CoreId(5)).unwrap();
    assert_eq!(bench.control(), CONTROL | CONTROL_ENABLE);
    assert_eq!(bench.entry(1), [0xfee0_5000, 1, 0x41, MASKED]);
    // The others are held back too: whatever their entries held, it must not be sent.
    assert_eq!([bench.entry(0), bench.entry(2)], [[0, 0, 0, MASKED]; 2]);
    message.allow();
    assert_eq!(bench.entry(1), [0xfee0_5000, 1, 0x41, 0]);
    // One more leaves the first as it is.
    let _second = bench.device.wake_message(2, CoreId(0)).unwrap();
    assert_eq!(bench.entry(1)[3], 0);
    assert_eq!(bench.entry(2), [0xfee0_0000, 1, 0x41, MASKED]);
    message.hold();
    assert_eq!(bench.entry(1)[3], MASKED);
}

#[test]
fn there_is_no_message_beyond_the_table_or_to_a_core_out_of_reach() {
    let mut bench = Bench::new(TABLE_AT as u32, 0);
    assert!(bench.device.wake_message(0, CoreId(9)).is_none());
    assert_eq!(bench.control(), CONTROL, "nothing was switched on for it");
    assert!(bench.device.wake_message(ENTRIES as u16, CoreId(0)).is_none());
    assert!(bench.device.wake_message(u16::MAX, CoreId(0)).is_none());
}

#[test]
fn a_table_outside_its_bar_or_in_none_is_not_used() {
    for (table, bar) in [(0x4000 - 16, 0), (0x8000, 0), (0, 2), (0, 7)] {
        let mut bench = Bench::new(table, bar);
        assert!(bench.device.wake_message(0, CoreId(0)).is_none(), "{table:#x} in BAR {bar}");
        assert_eq!(bench.control(), CONTROL);
        assert!(bench.words.borrow().iter().all(|&word| word == 0));
    }
}

#[test]
fn a_function_without_messages_has_none() {
    let mut bench = Bench::new(TABLE_AT as u32, 0);
    bench.config.set(at(0, 3, 0), 0x34, 0, 0);
    assert!(bench.device.wake_message(0, CoreId(0)).is_none());
}

#[test]
fn a_bar_that_was_mapped_is_not_sized_again() {
    let mut bench = Bench::new(TABLE_AT as u32, 0);
    bench.device.bar(0).unwrap().write32(8, 7);
    // From now on it would be found unassigned.
    bench.config.set(at(0, 3, 0), 0x10, 0, 0);
    assert_eq!(bench.device.bar(0).unwrap().read32(8), 7);
    assert!(bench.device.wake_message(0, CoreId(0)).is_some());
    assert_eq!(bench.device.bar(6).unwrap_err(), BarError::Missing);
}
