use basalt_env::{Device, Registers};
use basalt_models::nvme::{CmbConfig, CmbOffer};
use basalt_nvme_spec::registers::CMBMSC;
use basalt_nvme_spec::{CmbControl, CmbLocation, CmbSize};

use super::*;

/// Entries of queues of one page.
const PAGE_OF_ENTRIES: u16 = 64;

fn with(cmb: CmbConfig) -> Config {
    Config { cmb: Some(cmb), ..Config::default() }
}

fn wanted(queues: u16) -> Options {
    Options {
        queues,
        queue_entries: PAGE_OF_ENTRIES,
        controller_memory_buffer: true,
        ..Options::default()
    }
}

/// A controller that is asked to use its memory buffer, with one queue.
fn ready(config: Config) -> Ready {
    let bench = Bench::new(config);
    let controller = bench.controller(wanted(1));
    let queue = bench.queue(&controller, 1);
    let ns = controller.namespaces()[0];
    Ready { bench, controller, queue, ns }
}

/// Writes and reads a hundred times, more than once round the ring, several commands at a time.
fn check_io(ready: &mut Ready) {
    for round in 0..100_u64 {
        let data = ready.bench.buffers(&[512], round as u8);
        assert!(ready.write(round, data).is_success());
        let (data, status) = ready.read(round, &[512]);
        assert!(status.is_success() && data == [round as u8; 512]);
        (0..round % 5).for_each(|tag| ready.submit_read(tag));
        let done = ready.bench.drain(&mut ready.queue);
        assert!(done.len() as u64 == round % 5 && done.iter().all(|(_, end)| end.is_success()));
    }
    let violations = ready.bench.model.violations();
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn commands_are_brought_to_a_controller_that_has_memory_for_them() {
    let new = CmbConfig::pages(4, 3);
    let old = CmbConfig { offer: CmbOffer::Plain, ..new };
    let elsewhere = CmbConfig { bar: 4, location: CmbLocation::new(4, 3), ..new };
    // Behind the registers, in the same BAR.
    let behind = CmbConfig { bar: 0, location: CmbLocation::new(0, 16), bar_len: 32 * 4096, ..new };
    for cmb in [new, old, elsewhere, behind] {
        let mut ready = ready(with(cmb));
        check_io(&mut ready);
        let model = &ready.bench.model;
        assert_eq!(model.fetched_from_cmb(1), model.io_commands(), "{cmb:?}");
        assert!(model.io_commands() > 300);
    }
}

#[test]
fn queues_for_which_the_controllers_memory_does_not_suffice_are_in_ours() {
    let bench = Bench::new(with(CmbConfig::pages(2, 1)));
    let controller = bench.controller(wanted(4));
    let ns = controller.namespaces()[0];
    let mut queues = [1, 2, 3, 4].map(|qid| bench.queue(&controller, qid));
    for queue in &mut queues {
        queue.read(&ns, 0, 8, (0, bench.buffers(&[4096], 0))).unwrap();
        assert!(bench.drain(queue)[0].1.is_success());
    }
    assert_eq!([1, 2, 3, 4].map(|qid| bench.model.fetched_from_cmb(qid)), [1, 1, 0, 0]);
    assert!(bench.model.violations().is_empty(), "{:?}", bench.model.violations());
}

#[test]
fn the_memory_buffer_is_turned_on_again_after_a_reset() {
    let mut ready = ready(with(CmbConfig::pages(1, 0)));
    check_io(&mut ready);
    ready.submit_read(5);
    assert_eq!(ready.stop(), [5]);
    ready.bench.run(ready.controller.restart()).unwrap();
    ready.queue = ready.bench.queue(&ready.controller, 1);
    let before = ready.bench.model.fetched_from_cmb(1);
    check_io(&mut ready);
    assert!(ready.bench.model.fetched_from_cmb(1) > before + 300);
}

#[test]
fn what_a_controller_says_wrong_of_its_memory_is_not_believed() {
    let honest = CmbConfig::pages(4, 3);
    let lies = [
        ("a BAR that is not there", CmbConfig { location: CmbLocation::new(3, 3), ..honest }),
        ("the upper half of a BAR", CmbConfig { location: CmbLocation::new(1, 3), ..honest }),
        ("a BAR beyond the last", CmbConfig { location: CmbLocation::new(7, 3), ..honest }),
        ("beyond the BAR", CmbConfig { location: CmbLocation::new(2, 8), ..honest }),
        ("far beyond", CmbConfig { location: CmbLocation::new(2, 0xf_ffff), ..honest }),
        ("among the registers", CmbConfig { location: CmbLocation::new(0, 1), ..honest }),
        ("units that do not exist", CmbConfig { size: CmbSize(0x1701), ..honest }),
        ("no address will do", CmbConfig { offer: CmbOffer::Refusing, ..honest }),
        ("not for submission queues", CmbConfig { size: CmbSize(0x4002), ..honest }),
        ("nothing", CmbConfig { size: CmbSize(1), ..honest }),
        ("all of it too far", {
            let size = CmbSize(0xffff_f601);
            CmbConfig { size, location: CmbLocation::new(2, 0xf_ffff), ..honest }
        }),
    ];
    for (lie, cmb) in lies {
        let mut ready = ready(with(cmb));
        check_io(&mut ready);
        assert_eq!(ready.bench.model.fetched_from_cmb(1), 0, "{lie}");
        assert_eq!(ready.controller.registers.read64(CMBMSC), 0, "{lie}: it is turned off");
    }
}

#[test]
fn a_memory_buffer_ends_where_its_bar_does_whatever_it_says() {
    // 64 KiB in units of 4 KiB where three pages are left, and more than any address reaches.
    for (size, offset) in [(CmbSize(0x1_0001), 5), (CmbSize(0xffff_f601), 0)] {
        let location = CmbLocation::new(2, offset);
        let config = with(CmbConfig { size, location, ..CmbConfig::pages(8, 0) });
        let bench = Bench::new(config);
        let controller = bench.controller(wanted(8));
        let ns = controller.namespaces()[0];
        let mut fetched = 0;
        for qid in 1..=8 {
            let mut queue = bench.queue(&controller, qid);
            queue.read(&ns, 0, 8, (0, bench.buffers(&[4096], 0))).unwrap();
            assert!(bench.drain(&mut queue)[0].1.is_success());
            fetched += bench.model.fetched_from_cmb(qid);
        }
        assert_eq!(fetched, 8 - u64::from(offset));
        assert!(bench.model.violations().is_empty(), "{:?}", bench.model.violations());
    }
}

#[test]
fn a_memory_buffer_nobody_asked_for_is_turned_off_if_firmware_left_it_on() {
    let bench = Bench::new(with(CmbConfig::pages(4, 0)));
    let mut device = bench.model.device();
    device.bar(0).unwrap().write64(CMBMSC, CmbControl::at(0x1_0000).0);
    let controller = bench.controller(Options::default());
    assert_eq!(controller.registers.read64(CMBMSC), CmbControl::OFF.0);
    let mut queue = bench.queue(&controller, 1);
    queue.read(&controller.namespaces()[0], 0, 8, (0, bench.buffers(&[4096], 0))).unwrap();
    assert!(bench.drain(&mut queue)[0].1.is_success());
    assert_eq!(bench.model.fetched_from_cmb(1), 0);
}

#[test]
fn doorbells_are_registers_where_commands_are_in_the_controllers_memory() {
    for shadow in [Shadowing::WhenTold, Shadowing::Always] {
        let mut ready = ready(Config { shadow, ..with(CmbConfig::pages(1, 0)) });
        let before = ready.bench.model.doorbells();
        check_io(&mut ready);
        let model = &ready.bench.model;
        assert_eq!(model.fetched_from_cmb(1), model.io_commands());
        assert!(model.doorbells() > before + 200, "one at least for each batch");
    }
}
