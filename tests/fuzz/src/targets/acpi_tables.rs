//! ACPI's tables, byte by byte as firmware may have them: SRAT and SLIT, DMAR, and the byte code of
//! the DSDT.

use basalt_env::{IoPorts, Numa, PciAddress};
use basalt_pci::hotplug::Hotplug;
use basalt_pci::{ConfigSpace, Roots};
use basalt_vtd::Dmar;

use crate::input::Input;
use crate::seed::Seed;

/// A machine with a bridge in each place of bus 0, and nothing else.
struct Bridges;

impl ConfigSpace for Bridges {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match offset {
            0 if address.bus == 0 => 0x0001_1b36,
            8 => 0x0604_0000,
            0xc => 0x0001_0000,
            0x18 => u32::from_le_bytes([0, 1 + address.device, 1 + address.device, 0]),
            _ if address.bus == 0 => 0,
            _ => u32::MAX,
        }
    }

    fn write(&self, _: PciAddress, _: u16, _: u32) {}
}

/// Ports that say yes to everything.
struct AllOnes;

impl IoPorts for AllOnes {
    fn read32(&self, _: u16) -> u32 {
        u32::MAX
    }

    fn write32(&self, _: u16, _: u32) {}
}

/// Records: SRAT, SLIT, DMAR, DSDT.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (srat, slit) = (input.record(), input.record());
    let numa = Numa::read(srat, slit);
    for core in [0, 1, 255, u32::MAX] {
        let _ = numa.node_of_core(core);
    }
    let dmar = Dmar::read(input.record());
    assert!(dmar.units.iter().all(|unit| unit.base.is_multiple_of(4096)), "{dmar:?}");
    let dsdt = input.record();
    let roots = Roots::read(dsdt);
    let _ = roots.node_of(PciAddress::new(0, 255, 31, 7));
    let mut hotplug = Hotplug::find(Bridges, &[], dsdt, AllOnes);
    for _ in 0..2 {
        let events = hotplug.poll();
        assert!(events.len() <= 64 * dsdt.len().max(1), "{}", events.len());
        for event in events {
            let (basalt_pci::hotplug::Event::Arrived(slot)
            | basalt_pci::hotplug::Event::Leaving(slot)
            | basalt_pci::hotplug::Event::Gone(slot)) = event;
            hotplug.power_on(slot);
            hotplug.eject(slot);
        }
    }
}

/// Tables of a machine with two nodes, a remapping unit and QEMU's hot-plug controller.
pub fn seeds() -> Vec<Seed> {
    let core = |apic: u8, node: u8| [&[0, 16, node, apic, 1, 0, 0, 0][..], &[0; 8]].concat();
    let memory = |node: u8, start: u64, len: u64| {
        let mut entry = vec![0; 40];
        entry[..6].copy_from_slice(&[1, 40, node, 0, 0, 0]);
        entry[8..16].copy_from_slice(&start.to_le_bytes());
        entry[16..24].copy_from_slice(&len.to_le_bytes());
        entry[28] = 1;
        entry
    };
    let x2apic = [&[2, 24, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1][..], &[0; 11]].concat();
    let srat = [
        vec![0; 48],
        core(0, 0),
        core(1, 1),
        x2apic,
        memory(0, 0, 1 << 30),
        memory(1, 1 << 30, 1 << 30),
    ]
    .concat();
    let slit = [&[0; 36][..], &2u64.to_le_bytes(), &[10, 20, 20, 10]].concat();
    let unit = [&[0, 0, 16, 0, 1, 0, 0, 0][..], &0xfed9_0000u64.to_le_bytes()].concat();
    let reserved = [&[1, 0, 24, 0][..], &[0; 20]].concat();
    let dmar = [vec![0; 48], unit, reserved].concat();
    vec![Seed::starting(&[]).record(&srat).record(&slit).record(&dmar).record(&dsdt())]
}

fn dsdt() -> Vec<u8> {
    let number = |name: &[u8], value: u8| [&[8][..], name, &[0x0a, value]].concat();
    let package = |op: &[u8], rest: Vec<u8>| {
        let len = (rest.len() + 2) as u16;
        let lead = [0x40 | (len & 0xf) as u8, (len >> 4) as u8];
        [op, &lead, &rest].concat()
    };
    let slot =
        package(&[0x5b, 0x82], [b"S08_".to_vec(), number(b"_ADR", 0), number(b"BSEL", 1)].concat());
    let region = [&[0x5b, 0x80][..], b"PCST", &[1, 0x0b, 0, 0xae, 0x0a, 8]].concat();
    let method = package(&[0x14], b"_PXM\0\xa4\x0a\x01".to_vec());
    let root = [b"PCI0".to_vec(), number(b"_BBN", 0), number(b"BSEL", 0), method, region, slot];
    let bridge = package(&[0x5b, 0x82], root.concat());
    let scope = package(&[0x10], [b"\\_SB_".to_vec(), bridge].concat());
    [vec![0; 36], scope].concat()
}
