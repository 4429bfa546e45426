//! A DMA remapping unit (Intel VT-d 4.1): registers, and translation by the tables in memory.

use std::cell::RefCell;
use std::rc::Rc;

use basalt_env::{PciAddress, PhysAddr, Registers};
use basalt_hosted::Bus;

const GLOBAL_COMMAND: usize = 0x18;
const GLOBAL_STATUS: usize = 0x1c;
const ROOT_TABLE: usize = 0x20;
const CONTEXT_COMMAND: usize = 0x28;
const FAULT_STATUS: usize = 0x34;
const IOTLB: usize = 0x108;
const RECORDS: usize = 0x220;
const RECORD_COUNT: usize = 2;

const TRANSLATION: u32 = 1 << 31;
const SET_ROOT_TABLE: u32 = 1 << 30;
const FLUSH_WRITE_BUFFER: u32 = 1 << 27;

/// What a unit is like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bit set over table levels: 3 and 4.
    pub levels: [bool; 2],
    /// Whether it takes pages of 2 MiB.
    pub large_pages: bool,
    /// Bits of address it translates.
    pub address_bits: u8,
    /// Global status when it is found: what firmware left on.
    pub left_on: u32,
    /// Whether it does what a command asks for.
    pub obeys: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { levels: [true, true], large_pages: true, address_bits: 48, left_on: 0, obeys: true }
    }
}

struct State {
    config: Config,
    bus: Bus,
    status: u32,
    root_written: u64,
    root: u64,
    /// Whether it may still know entries that have changed since.
    stale: bool,
    fault_status: u32,
    records: [[u64; 2]; RECORD_COUNT],
}

/// The unit, from the machine's side.
#[derive(Clone)]
pub struct VtdModel {
    state: Rc<RefCell<State>>,
}

impl VtdModel {
    /// A unit that reads its tables by `bus`.
    pub fn new(bus: Bus, config: Config) -> Self {
        let state = State {
            config,
            bus,
            status: config.left_on,
            root_written: 0,
            root: 0,
            stale: false,
            fault_status: 0,
            records: [[0; 2]; RECORD_COUNT],
        };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    /// Its registers.
    pub fn registers(&self) -> VtdRegisters {
        VtdRegisters { state: Rc::clone(&self.state) }
    }

    /// Whether it translates.
    pub fn is_on(&self) -> bool {
        self.state.borrow().status & TRANSLATION != 0
    }

    /// A device's request for `address`: the memory it gets, or none and a fault.
    pub fn request(&self, source: PciAddress, address: u64, is_write: bool) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        assert!(!state.stale, "the tables have changed and the unit was not told");
        match state.translate(source, address, is_write) {
            Ok(memory) => Some(memory),
            Err(reason) => {
                state.record(source, address, is_write, reason);
                None
            }
        }
    }

    /// The driver is about to change tables that are in use: from now on it has to say so.
    pub fn expect_invalidation(&self) {
        self.state.borrow_mut().stale = true;
    }
}

impl State {
    fn translate(&self, source: PciAddress, address: u64, is_write: bool) -> Result<u64, u8> {
        if self.status & TRANSLATION == 0 {
            return Ok(address);
        }
        let read = |at: u64| match self.bus.read_u64(PhysAddr::new(at)) {
            Ok(entry) => entry,
            Err(error) => panic!("the unit was led astray: {error}"),
        };
        let root = read(self.root + u64::from(source.bus) * 16);
        if root & 1 == 0 {
            return Err(1);
        }
        let function = u64::from(source.device << 3 | source.function);
        let context = (root & !0xfff) + function * 16;
        let (low, high) = (read(context), read(context + 8));
        if low & 1 == 0 {
            return Err(2);
        }
        let levels = match high & 7 {
            1 if self.config.levels[0] => 3,
            2 if self.config.levels[1] => 4,
            _ => return Err(3),
        };
        assert!(high >> 8 & 0xffff != 0, "domain 0 is reserved to some units");
        if address >> (12 + 9 * levels) != 0 {
            return Err(4);
        }
        let mut table = low & !0xfff;
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let entry = read(table + (address >> shift & 0x1ff) * 8);
            let wanted = if is_write { 0b10 } else { 0b01 };
            if entry & wanted == 0 {
                return Err(if is_write { 5 } else { 6 });
            }
            let is_large = entry & 1 << 7 != 0;
            assert!(!is_large || level == 2 && self.config.large_pages, "a page of no known size");
            if level == 1 || is_large {
                let within = (1 << shift) - 1;
                return Ok(entry & !0xfff & !within | address & within);
            }
            table = entry & !0xfff;
        }
        Err(7)
    }

    fn record(&mut self, source: PciAddress, address: u64, is_write: bool, reason: u8) {
        let Some(record) = self.records.iter_mut().find(|record| record[1] >> 63 == 0) else {
            self.fault_status |= 1;
            return;
        };
        let function = u64::from(source.device << 3 | source.function);
        let source = u64::from(source.bus) << 8 | function;
        let kind = if is_write { 0 } else { 1 << 62 };
        *record = [address & !0xfff, 1 << 63 | kind | u64::from(reason) << 32 | source];
        self.fault_status |= 0b10;
    }

    fn capability(&self) -> u64 {
        let Config { levels: [three, four], large_pages, address_bits, .. } = self.config;
        1 << 4 // The write buffer is flushed by command.
            | u64::from(three) << 9
            | u64::from(four) << 10
            | u64::from(address_bits - 1) << 16
            | (RECORDS as u64 / 16) << 24
            | u64::from(large_pages) << 34
            | (RECORD_COUNT as u64 - 1) << 40
    }

    fn read(&self, offset: usize) -> u64 {
        match offset {
            0x00 => 0x10,
            0x08 => self.capability(),
            0x10 => ((IOTLB as u64 - 8) / 16) << 8,
            GLOBAL_STATUS => self.status.into(),
            FAULT_STATUS => self.fault_status.into(),
            CONTEXT_COMMAND | IOTLB if !self.config.obeys => 1 << 63,
            RECORDS.. if offset < RECORDS + 16 * RECORD_COUNT => {
                self.records[(offset - RECORDS) / 16][offset % 16 / 8]
            }
            _ => 0,
        }
    }

    fn write(&mut self, offset: usize, value: u64) {
        match offset {
            GLOBAL_COMMAND => self.command(value as u32),
            ROOT_TABLE => self.root_written = value,
            // The IOTLB comes last.
            IOTLB => self.stale &= value >> 63 == 0,
            FAULT_STATUS => self.fault_status &= !(value as u32 & 1),
            RECORDS.. if offset % 16 == 12 && value >> 31 == 1 => {
                let record = (offset - RECORDS) / 16;
                self.records[record] = [0; 2];
                if self.records.iter().all(|record| record[1] == 0) {
                    self.fault_status &= !0b10;
                }
            }
            _ => {}
        }
    }

    fn command(&mut self, value: u32) {
        if !self.config.obeys {
            return;
        }
        let kept = !(SET_ROOT_TABLE | FLUSH_WRITE_BUFFER);
        let changed = (self.status & kept) ^ (value & kept);
        let once = value & !kept;
        let orders = changed.count_ones() + once.count_ones();
        assert!(orders <= 1, "several commands at once: {value:#x} on {:#x}", self.status);
        if once & SET_ROOT_TABLE != 0 {
            assert!(self.status & TRANSLATION == 0, "a new root table while translating");
            self.root = self.root_written;
            self.stale = true;
        }
        if changed & value & TRANSLATION != 0 {
            assert!(!self.stale, "switched on with whatever it knew before");
        }
        self.status = value & kept | (self.status | once) & SET_ROOT_TABLE;
    }
}

/// The unit as its driver sees it.
#[derive(Clone)]
pub struct VtdRegisters {
    state: Rc<RefCell<State>>,
}

impl Registers for VtdRegisters {
    fn len(&self) -> usize {
        4096
    }

    fn window(&self, _: usize, _: usize) -> Option<Self> {
        None
    }

    fn read8(&self, _: usize) -> u8 {
        u8::MAX
    }

    fn read16(&self, _: usize) -> u16 {
        u16::MAX
    }

    fn read32(&self, offset: usize) -> u32 {
        self.state.borrow().read(offset) as u32
    }

    fn read64(&self, offset: usize) -> u64 {
        self.state.borrow().read(offset)
    }

    fn write8(&self, _: usize, _: u8) {}

    fn write16(&self, _: usize, _: u16) {}

    fn write32(&self, offset: usize, value: u32) {
        self.state.borrow_mut().write(offset, value.into());
    }

    fn write64(&self, offset: usize, value: u64) {
        self.state.borrow_mut().write(offset, value);
    }
}
