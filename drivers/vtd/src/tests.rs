extern crate std;

use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;

use basalt_env::{DmaPool, Instant, PciAddress};
use basalt_hosted::Machine;
use basalt_models::vtd::{Config, VtdModel, VtdRegisters};
use proptest::prelude::*;

use crate::{Dmar, Fault, Iommu, Reason, StartError, UnitPlace};

const MIB: u64 = 1 << 20;
const ARENAS: [Range<u64>; 2] = [4 * MIB..12 * MIB, 4096 * MIB..4100 * MIB];
const DRIVE: PciAddress = PciAddress::new(0, 3, 5, 1);

fn clock() -> impl Fn() -> Instant {
    let ns = Cell::new(0);
    move || {
        ns.set(ns.get() + 1_000_000);
        Instant::from_ns(ns.get())
    }
}

struct World {
    machine: Machine,
    pool: DmaPool,
    model: VtdModel,
}

impl World {
    fn new(config: Config) -> Self {
        let machine = Machine::new();
        let (pool, model) = (machine.pool(4 << 20), VtdModel::new(machine.bus(), config));
        Self { machine, pool, model }
    }

    fn start(&self) -> Result<Iommu<VtdRegisters>, StartError> {
        let units = vec![(0, self.model.registers())];
        Iommu::start(units, self.pool.clone(), &ARENAS, &clock())
    }

    fn reaches(&self, source: PciAddress, address: u64) -> bool {
        let [read, write] = [false, true].map(|write| self.model.request(source, address, write));
        assert_eq!(read, write);
        assert!(read.is_none_or(|memory| memory == address), "memory is not where it is");
        read.is_some()
    }
}

fn faults(iommu: &Iommu<VtdRegisters>) -> Vec<Fault> {
    let mut all = Vec::new();
    iommu.faults(&mut |fault| all.push(fault));
    all
}

/// Every way tables may look.
fn configs() -> impl Iterator<Item = Config> {
    [[true, true], [true, false], [false, true]].into_iter().flat_map(|levels| {
        [true, false].map(|large_pages| Config { levels, large_pages, ..Config::default() })
    })
}

#[test]
fn a_device_reaches_the_arenas_once_it_is_allowed_and_nothing_else_ever() {
    for config in configs() {
        let world = World::new(config);
        let mut iommu = world.start().unwrap();
        assert!(world.model.is_on());
        let inside = [4 * MIB, 12 * MIB - 1, 7 * MIB + 123, 4096 * MIB, 4100 * MIB - 8];
        let outside = [0, 4 * MIB - 1, 12 * MIB, 4096 * MIB - 1, 4100 * MIB, 1 << 40, u64::MAX];
        for address in inside {
            assert!(!world.reaches(DRIVE, address), "before it is allowed");
            faults(&iommu);
        }
        world.model.expect_invalidation();
        iommu.allow(DRIVE, &clock()).unwrap();
        let stranger = PciAddress { function: 0, ..DRIVE };
        for address in inside {
            assert!(world.reaches(DRIVE, address), "{address:#x} with {config:?}");
            assert!(!world.reaches(stranger, address));
            faults(&iommu);
        }
        for address in outside {
            assert!(!world.reaches(DRIVE, address), "{address:#x} with {config:?}");
            faults(&iommu);
        }
        world.model.expect_invalidation();
        iommu.deny(DRIVE, &clock()).unwrap();
        assert!(!world.reaches(DRIVE, inside[0]), "after it was denied");
    }
}

#[test]
fn the_tables_themselves_are_out_of_reach() {
    let world = World::new(Config::default());
    let mut iommu = world.start().unwrap();
    iommu.allow(DRIVE, &clock()).unwrap();
    let table = world.pool.alloc(4096).unwrap();
    assert!(!world.reaches(DRIVE, table.phys().as_u64() & 0xffff_ffff_f000));
    drop(world.machine);
}

#[test]
fn a_stray_request_is_told_with_its_device_address_and_direction() {
    let world = World::new(Config::default());
    let mut iommu = world.start().unwrap();
    assert_eq!(faults(&iommu), []);
    world.model.request(DRIVE, 5 * MIB, true);
    iommu.allow(DRIVE, &clock()).unwrap();
    world.model.request(DRIVE, 0x10_2345, false);
    let [first, second] = faults(&iommu)[..] else { panic!("two requests were stopped") };
    let not_allowed = Reason::NotAllowed;
    assert_eq!((first.source, first.is_write, first.reason), (DRIVE, true, not_allowed));
    assert_eq!((second.address, second.is_write), (0x10_2000, false));
    let text = std::format!("{second}");
    assert!(text.starts_with("device 0000:03:05.1 was kept from reading from address 0x102000"));
    assert_eq!(faults(&iommu), [], "each is told once");

    for _ in 0..5 {
        world.model.request(DRIVE, 0, true);
    }
    let mut count = 0;
    assert!(iommu.faults(&mut |_| count += 1), "some were lost");
    assert_eq!(count, 2);
    assert!(!iommu.faults(&mut |_| count += 1));
}

#[test]
fn what_firmware_left_on_is_taken_over() {
    // Translation, queued invalidation, and interrupt remapping, which stays.
    let left_on = 1 << 31 | 1 << 26 | 1 << 25;
    let world = World::new(Config { left_on, ..Config::default() });
    world.start().unwrap();
    assert!(world.model.is_on());
}

#[test]
fn units_that_cannot_be_used_say_why() {
    let error = |config| World::new(config).start().unwrap_err();
    let levels = [false, false];
    assert_eq!(error(Config { levels, ..Config::default() }), StartError::NoCommonTables);
    let narrow = Config { address_bits: 32, ..Config::default() };
    assert_eq!(error(narrow), StartError::TooNarrow { bits: 32 });
    assert_eq!(error(Config { obeys: false, ..Config::default() }), StartError::Stuck);
    let world = World::new(Config { large_pages: false, ..Config::default() });
    let units = vec![(0, world.model.registers())];
    let much = core::slice::from_ref(&(0..64 << 30));
    let refused = Iommu::start(units, world.pool.clone(), much, &clock()).err();
    assert_eq!(refused, Some(StartError::NoMemory));
    assert!(!world.model.is_on());
}

#[test]
fn units_of_several_segments_keep_to_their_own() {
    let world = World::new(Config::default());
    let other = VtdModel::new(world.machine.bus(), Config::default());
    let second = VtdModel::new(world.machine.bus(), Config::default());
    let units = vec![(0, world.model.registers()), (1, other.registers()), (0, second.registers())];
    let mut iommu = Iommu::start(units, world.pool.clone(), &ARENAS, &clock()).unwrap();
    assert_eq!(iommu.units(), 3);
    iommu.allow(PciAddress { segment: 1, ..DRIVE }, &clock()).unwrap();
    assert!(!world.reaches(DRIVE, 5 * MIB));
    assert_eq!(other.request(DRIVE, 5 * MIB, true), Some(5 * MIB));
    iommu.allow(DRIVE, &clock()).unwrap();
    assert_eq!(second.request(DRIVE, 5 * MIB, true), Some(5 * MIB));
    iommu.allow(PciAddress { segment: 9, ..DRIVE }, &clock()).unwrap();
    let [fault, _] = faults(&iommu)[..] else { panic!("a read and a write were stopped") };
    assert_eq!(fault.source, DRIVE);
}

/// A table with a unit, reserved memory, an entry of a kind not known, and a unit of segment 1.
fn table() -> Vec<u8> {
    let unit = |segment: u8, base: u64| {
        let mut entry = vec![0, 0, 16, 0, 1, 0, segment, 0];
        entry.extend(base.to_le_bytes());
        entry
    };
    let mut table = vec![0; 48];
    table.extend(unit(0, 0xfed9_0000));
    table.extend([1, 0, 24, 0].into_iter().chain([0; 20]));
    table.extend([7, 0, 8, 0, 1, 2, 3, 4]);
    table.extend(unit(1, 0xfed9_1000));
    table.extend(unit(2, 0xfed9_1234)); // No page starts there.
    table
}

#[test]
fn firmwares_table_is_read() {
    let units = vec![
        UnitPlace { segment: 0, base: 0xfed9_0000 },
        UnitPlace { segment: 1, base: 0xfed9_1000 },
    ];
    assert_eq!(Dmar::read(&table()), Dmar { units, reserved: 1 });
    assert_eq!(Dmar::read(&[]), Dmar::default());
}

proptest! {
    #[test]
    fn a_damaged_table_is_survived(
        cut in 0..140_usize,
        damage in prop::collection::vec((48..140_usize, any::<u8>()), 0..6),
    ) {
        let mut table = table();
        for (place, byte) in damage {
            if let Some(damaged) = table.get_mut(place) {
                *damaged = byte;
            }
        }
        table.truncate(cut);
        Dmar::read(&table);
    }
}
