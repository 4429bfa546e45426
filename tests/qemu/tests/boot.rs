//! The image comes up on machines of several sizes.

use std::time::Duration;

use basalt_qemu_tests::{BasaltGuest, Guest};

const BOOT: Duration = Duration::from_secs(60);

fn assert_every_core_reports(guest: &Guest, cpus: usize) {
    for core in 0..cpus {
        guest.wait_for_line(&format!("core {core} is up"), BOOT);
    }
    let reports = guest.lines().iter().filter(|line| line.contains(" is up, APIC")).count();
    assert_eq!(reports, cpus);
    for core in 0..cpus {
        guest.wait_for_line(&format!("core {core}: all {cpus} cores answer it"), BOOT);
    }
}

#[test]
fn one_core_comes_up() {
    assert_every_core_reports(&BasaltGuest::new("basalt").cpus(1).start(), 1);
}

#[test]
fn two_cores_come_up() {
    assert_every_core_reports(&BasaltGuest::new("basalt").cpus(2).start(), 2);
}

#[test]
fn four_cores_come_up() {
    assert_every_core_reports(&BasaltGuest::new("basalt").cpus(4).start(), 4);
}

#[test]
fn the_smallest_machine_the_runner_allows_comes_up() {
    let guest = BasaltGuest::new("basalt").cpus(2).memory_mib(64).start();
    assert_every_core_reports(&guest, 2);
}

#[test]
fn memory_above_four_gigabytes_is_used() {
    let guest = BasaltGuest::new("basalt").memory_mib(6 << 10).start();
    let line = guest.wait_for_line("MiB free", BOOT);
    let free = line.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    assert!(free.is_some_and(|mib| mib > 6000), "{line}");
    assert_every_core_reports(&guest, 2);
}
