//! Configuration space as functions may have it: buses, capability lists, BARs, slots, MSI-X.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use basalt_env::{BarError, Device, IoPorts, MmioMap, PhysAddr, Registers};
use basalt_pci::hotplug::{Event, Hotplug};
use basalt_pci::{
    Addresses, Bar, BusRange, Claimed, ConfigSpace, PciAddress, capabilities,
    extended_capabilities, scan,
};

use crate::input::Input;
use crate::seed::Seed;

/// Functions of a machine at most.
const FUNCTIONS_MAX: usize = 24;
/// Bytes of a function's configuration space at most.
const SPACE_LEN: usize = 4096;

/// A machine whose functions are what the input says.
#[derive(Clone, Default)]
struct Space {
    functions: Rc<RefCell<BTreeMap<PciAddress, Vec<u8>>>>,
}

impl ConfigSpace for Space {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        assert!(offset.is_multiple_of(4) && usize::from(offset) < SPACE_LEN, "{offset:#x}");
        let functions = self.functions.borrow();
        let Some(space) = functions.get(&address) else { return u32::MAX };
        let at = usize::from(offset);
        space.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        assert!(offset.is_multiple_of(4) && usize::from(offset) < SPACE_LEN, "{offset:#x}");
        let mut functions = self.functions.borrow_mut();
        let Some(space) = functions.get_mut(&address) else { return };
        let kind = space.get(usize::from(offset)).map_or(0, |byte| u32::from(byte & 0xf));
        // All BARs have 4 KiB.
        let value = if (0x10..0x28).contains(&offset) { value & !0xfff | kind } else { value };
        let at = usize::from(offset);
        if let Some(place) = space.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Registers that swallow everything.
#[derive(Clone, Debug)]
struct Void(usize);

impl Registers for Void {
    fn len(&self) -> usize {
        self.0
    }

    fn window(&self, offset: usize, len: usize) -> Option<Self> {
        (offset.checked_add(len)? <= self.0).then_some(Self(len))
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

    fn write8(&self, offset: usize, _: u8) {
        assert!(offset < self.0);
    }

    fn write16(&self, offset: usize, _: u16) {
        assert!(offset + 2 <= self.0);
    }

    fn write32(&self, offset: usize, _: u32) {
        assert!(offset + 4 <= self.0);
    }

    fn write64(&self, offset: usize, _: u64) {
        assert!(offset + 8 <= self.0);
    }
}

struct Map;

impl MmioMap for Map {
    type Registers = Void;

    fn map(&self, base: PhysAddr, len: usize) -> Result<Void, BarError> {
        assert!(base.as_u64().checked_add(len as u64).is_some() && len > 0, "{base:?} {len}");
        Ok(Void(len))
    }

    fn message_target(&self, _: basalt_env::CoreId) -> Option<basalt_env::MessageTarget> {
        Some(basalt_env::MessageTarget { address: 0xfee0_0000, data: 1 })
    }
}

struct NoPorts;

impl IoPorts for NoPorts {
    fn read32(&self, _: u16) -> u32 {
        u32::MAX
    }

    fn write32(&self, _: u16, _: u32) {}
}

/// Records: bus, device and function, then the function's configuration space.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let space = Space::default();
    for _ in 0..FUNCTIONS_MAX {
        let &[bus, place, ref content @ ..] = input.record() else { break };
        let address = PciAddress::new(0, bus, place >> 3, place & 7);
        let mut content = content.to_vec();
        content.truncate(SPACE_LEN);
        if content.len() >= 64 {
            content.resize(content.len().next_multiple_of(4), 0);
            space.functions.borrow_mut().insert(address, content);
        }
    }
    let ranges = [BusRange { segment: 0, start: 0, end: 7 }];
    let functions = scan(&space, &ranges);
    assert!(functions.len() <= FUNCTIONS_MAX, "{}", functions.len());
    let mut addresses = Addresses::survey(&space, &functions, |_| true);
    let mut hotplug = Hotplug::find(space.clone(), &functions, &[], NoPorts);
    for function in functions {
        let address = function.address;
        let read = |offset| space.read(address, offset);
        assert!(capabilities(read).count() <= 48);
        assert!(extended_capabilities(read).count() <= 480);
        for index in 0..7 {
            let _ = Bar::probe(&space, address, function.header, index);
        }
        assert!(addresses.requesters(&space, address).len() <= 2 * 256);
        let _ = (Addresses::lacks(&space, &function), hotplug.covers(address));
        let _ = addresses.assign(&space, &function);
        let mut claimed = Claimed::new(space.clone(), Map, function);
        for index in 0..7 {
            let _ = (claimed.bar(index), claimed.bar_address(index));
        }
        for index in [0, 1, 2047, u16::MAX] {
            let message = claimed.wake_message(index, basalt_env::CoreId::BOOT);
            message.iter().for_each(basalt_env::WakeMessage::allow);
        }
        claimed.enable();
    }
    for event in hotplug.poll() {
        let (Event::Arrived(slot) | Event::Leaving(slot) | Event::Gone(slot)) = event;
        let _ = slot.functions(&space);
        hotplug.power_on(slot);
        hotplug.eject(slot);
    }
}

/// A function with that class and header type, without capabilities.
fn function(bus: u8, place: u8, class: u32, header: u8) -> Vec<u8> {
    let mut bytes = vec![0; 2 + 256];
    (bytes[0], bytes[1]) = (bus, place);
    bytes[2..6].copy_from_slice(&[0x36, 0x1b, 0x10, 0]);
    bytes[6..10].copy_from_slice(&[3, 0, 0x10, 0]);
    bytes[10..14].copy_from_slice(&(class << 8).to_le_bytes());
    bytes[2 + 0x0e] = header;
    bytes
}

/// An NVMe controller behind a port with a slot, a virtio device, and what they need.
pub fn seeds() -> Vec<Seed> {
    let mut port = function(0, 1 << 3, 0x06_0400, 1);
    port[2 + 0x19..2 + 0x1b].copy_from_slice(&[1, 1]);
    port[2 + 0x20..2 + 0x24].copy_from_slice(&[0, 0xfe, 0x10, 0xfe]);
    port[2 + 0x34] = 0x40;
    // PCI Express: a root port with a slot that can be hot-plugged, and is filled.
    port[2 + 0x40..2 + 0x44].copy_from_slice(&[0x10, 0, 0x42, 0x01]);
    port[2 + 0x54] = 0x40;
    port[2 + 0x5a] = 0x48;
    let mut nvme = function(1, 0, 0x01_0802, 0);
    nvme[2 + 0x10] = 4;
    nvme[2 + 0x34] = 0x40;
    // MSI-X: 65 messages in BAR 0, then PCI Express.
    nvme[2 + 0x40..2 + 0x4c].copy_from_slice(&[0x11, 0x60, 0x40, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0]);
    nvme[2 + 0x60] = 0x10;
    nvme.resize(2 + 512, 0);
    nvme[2 + 0x100..2 + 0x104].copy_from_slice(&[1, 0, 1, 0]);
    let mut virtio = function(0, 2 << 3, 0x02_0000, 0x80);
    virtio[2 + 0x34] = 0x40;
    virtio[2 + 0x40..2 + 0x44].copy_from_slice(&[9, 0x50, 16, 1]);
    virtio[2 + 0x50..2 + 0x54].copy_from_slice(&[9, 0x40, 16, 2]);
    let host = function(0, 0, 0x06_0000, 0);
    vec![Seed::starting(&[]).record(&host).record(&port).record(&virtio).record(&nvme)]
}
