//! The image boots by UEFI firmware from a disk, wherever that is plugged in and wherever firmware
//! loads the image, and takes its configuration from that disk; or from the network.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::{BasaltGuest, Guest, uefi_application};
use basalt_runner::image::{MediumContents, write_medium};
use basalt_runner::{Bus, DebugExit};
use object::LittleEndian as Le;
use object::pe::{IMAGE_REL_BASED_DIR64, ImageDosHeader, ImageNtHeaders64};
use object::read::pe::ImageNtHeaders as _;
use tempfile::{NamedTempFile, TempDir};

/// Firmware, then the image.
const BOOT: Duration = Duration::from_secs(120);
/// How `FIXED_ADDRESS` shows on the console.
const CONNECT: &str = "connect with: nvme connect -t tcp -a 10.0.2.77 -s 4420";
const FIXED_ADDRESS: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"10.0.2.77/24"}}]}]}"#;

fn boot_disk(application: &[u8], config: Option<&str>) -> NamedTempFile {
    let contents = MediumContents { application, config: config.map(str::as_bytes) };
    let file = NamedTempFile::new().unwrap_or_else(|error| panic!("no boot disk: {error}"));
    let written = write_medium(file.path(), contents);
    assert!(written.is_ok(), "{written:?}");
    file
}

fn application() -> Vec<u8> {
    fs::read(uefi_application()).unwrap_or_else(|error| panic!("no application: {error}"))
}

fn from_disk(medium: &Path) -> BasaltGuest {
    BasaltGuest::new("basalt").uefi_from(Bus::Usb, medium)
}

fn assert_every_core_reports(guest: &Guest, cpus: usize) {
    for core in 0..cpus {
        guest.wait_for_line(&format!("core {core} is up"), BOOT);
    }
}

#[test]
fn one_core_comes_up_from_a_sata_disk() {
    assert_every_core_reports(&BasaltGuest::new("basalt").cpus(1).uefi(Bus::Ahci).start(), 1);
}

#[test]
fn two_cores_come_up_from_a_usb_stick_and_serve() {
    let (guest, _) = BasaltGuest::new("basalt").uefi(Bus::Usb).user_network(4420);
    let guest = guest.start();
    assert_every_core_reports(&guest, 2);
    guest.wait_for_line("basalt: ready", BOOT);
}

#[test]
fn the_nvme_drive_it_boots_from_is_attached_as_well() {
    let guest = BasaltGuest::new("basalt").uefi(Bus::Nvme).start();
    guest.wait_for_line("serial basalt-boot", BOOT);
    guest.wait_for_line("Nvme0n1: 67 MiB", BOOT);
}

#[test]
fn memory_above_four_gigabytes_is_used() {
    let guest = BasaltGuest::new("basalt").memory_mib(6 << 10).uefi(Bus::Usb).start();
    let line = guest.wait_for_line("MiB free", BOOT);
    let free = line.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    assert!(free.is_some_and(|mib| mib > 6000), "{line}");
    assert_every_core_reports(&guest, 2);
}

#[test]
fn the_configuration_on_the_boot_disk_is_carried_out() {
    let disk = boot_disk(&application(), Some(FIXED_ADDRESS));
    let (guest, _) = from_disk(disk.path()).user_network(4420);
    guest.start().wait_for_line(CONNECT, BOOT);
}

#[test]
fn a_broken_configuration_on_the_boot_disk_is_reported() {
    let disk = boot_disk(&application(), Some("{\"subsystems\": [\n}"));
    let (guest, _) = from_disk(disk.path()).user_network(4420);
    let guest = guest.start();
    guest.wait_for_line("configuration:2:1: expected value", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
}

#[test]
fn the_application_alone_boots_from_the_network_and_serves() {
    let (served, disk) = (directory_with(&application()), NamedTempFile::new().unwrap());
    disk.as_file().set_len(16 << 20).unwrap();
    let guest = BasaltGuest::new("basalt").disk(disk.path());
    let (guest, port) = guest.uefi_from_network(served.path(), "basalt.efi", 4420);
    let guest = guest.start();
    guest.wait_for_line("NBP file downloaded successfully", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let on = host.namespaces().unwrap()[0];
    host.verify(on, 9, 64 << 10, 1).unwrap();
}

fn directory_with(application: &[u8]) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("basalt.efi"), application).unwrap();
    directory
}

#[test]
fn a_configuration_handed_over_by_the_virtual_machine_is_carried_out() {
    let guest = BasaltGuest::new("basalt").uefi(Bus::Usb).config(FIXED_ADDRESS);
    let (guest, _) = guest.user_network(4420);
    guest.start().wait_for_line(CONNECT, BOOT);
}

/// Boots `application` to a fault; where in memory the code of the image was, then.
fn code_address(application: &[u8], memory_mib: u64) -> u64 {
    let disk = boot_disk(application, None);
    let guest = from_disk(disk.path()).memory_mib(memory_mib);
    let mut guest = guest.firmware_file("opt/basalt/fault", "write-code").start();
    assert_eq!(guest.wait_for_exit(BOOT), DebugExit::Value(1));
    // The other core may not have come to report by then.
    guest.wait_for_line("FAULT on core 1", BOOT);
    guest.wait_for_line("that memory is read-only", BOOT);
    guest.wait_for_line(" basalt_bare::drill::provoke+", BOOT);
    let line = guest.wait_for_line("rip ", BOOT);
    let address = line.split_whitespace().nth(1).map(|digits| u64::from_str_radix(digits, 16));
    address.and_then(Result::ok).unwrap_or_else(|| panic!("no address in {line:?}"))
}

#[test]
fn an_image_loaded_elsewhere_runs_and_knows_its_functions() {
    // No machine has memory there, so firmware must choose another place.
    let nowhere = linked_at(application(), 1 << 46);
    let address = code_address(&nowhere, 512);
    assert!((16 << 20..4 << 30).contains(&address), "{address:#x}");
}

#[test]
fn an_image_loaded_above_four_gigabytes_runs() {
    let high = linked_at(application(), 5 << 30);
    assert_eq!(code_address(&high, 6 << 10) >> 30, 5);
}

/// The application as if it were linked at `base`.
fn linked_at(mut application: Vec<u8>, base: u64) -> Vec<u8> {
    let (words, base_at, old_base) = relocations(&application);
    for at in words {
        let word = u64_at(&application, at) - old_base + base;
        application[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    application[base_at..base_at + 8].copy_from_slice(&base.to_le_bytes());
    application
}

/// Where the words with addresses are in the file, where the base is, and the base.
fn relocations(application: &[u8]) -> (Vec<usize>, usize, u64) {
    let parse = || -> object::read::Result<_> {
        let start = u64::from(ImageDosHeader::parse(application)?.nt_headers_offset());
        let mut offset = start;
        let (headers, directories) = ImageNtHeaders64::parse(application, &mut offset)?;
        let sections = headers.sections(application, offset)?;
        let mut words = Vec::new();
        let mut blocks = directories.relocation_blocks(application, &sections)?;
        while let Some(block) = blocks.as_mut().and_then(|blocks| blocks.next().transpose()) {
            let found = block?.filter(|relocation| relocation.typ == IMAGE_REL_BASED_DIR64);
            words.extend(found.filter_map(|relocation| {
                sections.pe_file_range_at(relocation.virtual_address).map(|(at, _)| at as usize)
            }));
        }
        // Signature, file header, and 24 bytes of the optional header come before it.
        let base = headers.optional_header.image_base.get(Le);
        Ok((words, start as usize + 4 + 20 + 24, base))
    };
    parse().unwrap_or_else(|error| panic!("no PE file: {error}"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The console's lines are on the screen, without their times: the first line as well as the last.
fn assert_on_screen(card: &str) {
    let (machine, _) = BasaltGuest::new(card).uefi(Bus::Usb).user_network(4420);
    let machine = machine.qemu_arg("-device").qemu_arg(card);
    let (machine, monitor) = machine.monitor();
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let shown = monitor.connect().screen_text();
    for wanted in
        ["INFO basalt_bare::machine: Basalt ", "INFO basalt: core 1 is up", "basalt: ready"]
    {
        assert!(shown.iter().any(|line| line.contains(wanted)), "{wanted:?} in {shown:#?}");
    }
}

#[test]
fn the_console_is_on_the_screen_as_well() {
    assert_on_screen("VGA");
}

#[test]
fn a_screen_without_vga_shows_it_too() {
    assert_on_screen("bochs-display");
}

#[test]
fn a_card_whose_pixels_cannot_be_written_is_left_alone() {
    let (machine, _) = BasaltGuest::new("basalt").uefi(Bus::Usb).user_network(4420);
    let guest = machine.qemu_arg("-device").qemu_arg("virtio-gpu-pci").start();
    guest.wait_for_line("basalt: ready", BOOT);
}
