//! The image comes up on machines of several sizes.

use std::fs;
use std::time::Duration;

use basalt_qemu_tests::{BasaltGuest, Guest, boot_image};
use basalt_runner::DebugExit;
use tempfile::NamedTempFile;

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
    let guest = BasaltGuest::new("basalt").cpus(2).memory_mib(32).start();
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

#[test]
fn the_time_of_day_is_read_from_the_real_time_clock() {
    // A century that is not this one, and a day that most years do not have.
    for (start, hour) in [("1999-12-31T13:00:00", "13"), ("2028-02-29T00:00:00", "00")] {
        let guest = BasaltGuest::new("basalt").qemu_arg("-rtc");
        let guest = guest.qemu_arg(&format!("base={start}")).start();
        let (date, _) = start.split_at("1999-12-31".len());
        guest.wait_for_line(&format!("clock: it is {date} {hour}:0"), BOOT);
    }
}

/// The processor's rate in MHz as the clock was set by `timer`.
fn rate_by(timer: &str, arguments: &[&str]) -> f64 {
    let machine = BasaltGuest::new("clock").cpus(1);
    let machine = arguments.iter().fold(machine, |machine, argument| machine.qemu_arg(argument));
    let line = machine.start().wait_for_line(&format!(" MHz by {timer}"), BOOT);
    let rate = line.split_whitespace().find_map(|word| word.parse().ok());
    rate.unwrap_or_else(|| panic!("no rate: {line}"))
}

#[test]
fn the_clock_is_set_by_whichever_timer_there_is() {
    let rates = [
        rate_by("HPET", &[]),
        rate_by("PM timer", &["-machine", "hpet=off"]),
        rate_by("PIT", &["-machine", "pc,acpi=off,hpet=off"]),
    ];
    let near = |rate: &f64| (rate / rates[0] - 1.0).abs() < 0.05;
    assert!(rates[0] > 100.0 && rates.iter().all(near), "{rates:?}");
}

/// The image as if it were to be loaded `by` bytes further up, which QEMU does then.
fn moved(mut image: Vec<u8>, by: u64) -> Vec<u8> {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    // `e_phoff` and `e_phnum`; of 56 bytes for each header, `p_paddr` begins with byte 24.
    let (start, count) = (number(&image[32..]) as usize, usize::from(image[56]));
    let physical = (0..count).map(|header| start + 56 * header + 24);
    // The entry point stands behind the head of PVH's note.
    let note = image.windows(12).position(|bytes| bytes == b"\x08\0\0\0\x12\0\0\0Xen\0");
    for at in physical.chain(note.map(|note| note + 12)) {
        let address = number(&image[at..]) + by;
        image[at..at + 8].copy_from_slice(&address.to_le_bytes());
    }
    image
}

#[test]
fn an_image_loaded_elsewhere_relocates_itself_and_knows_its_functions() {
    let by = 64 << 20;
    let written = NamedTempFile::new().and_then(|file| {
        fs::write(file.path(), moved(fs::read(boot_image())?, by))?;
        Ok(file)
    });
    let image = written.unwrap_or_else(|error| panic!("no moved image: {error}"));
    let guest = BasaltGuest::new("moved").kernel(image.path());
    let mut guest = guest.firmware_file("opt/basalt/fault", "write-code").start();
    assert_eq!(guest.wait_for_exit(BOOT), DebugExit::Value(1));
    guest.wait_for_line(" basalt_bare::drill::provoke+", BOOT);
    let line = guest.wait_for_line("rip ", BOOT);
    let digits = line.split_whitespace().nth(1).unwrap_or_default();
    let address = u64::from_str_radix(digits, 16).unwrap_or_default();
    assert!((by..by + (8 << 20)).contains(&address), "{line}");
}
