//! Drives leave and come back while hosts use them and others: every command gets an answer, the
//! others notice nothing, and what was written is there again.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use basalt_qemu_tests::initiator::{Initiator, Namespace, command};
use basalt_qemu_tests::{BasaltGuest, Guest, Monitor};
use basalt_runner::Bus;
use serde_json::json;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(30);
const DISK_BYTES: u64 = 64 << 20;

/// What QEMU has for taking drives out of a running machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Its usual machine: PCI Express slots, managed by ACPI.
    Acpi,
    /// The slots by themselves, as on most hardware.
    Express,
    /// The same, started by UEFI firmware.
    ExpressByUefi,
    /// The usual machine, with an IOMMU.
    Guarded,
    /// Slots of the old PCI bus, the first one included.
    OldPci,
}

impl Kind {
    fn machine(self) -> BasaltGuest {
        let port = |guest: BasaltGuest| {
            guest
                .qemu_arg("-device")
                .qemu_arg("pcie-root-port,id=slot0,chassis=1,slot=1")
                .qemu_arg("-device")
                .qemu_arg("pcie-root-port,id=slot1,chassis=2,slot=2")
        };
        let express = |guest: BasaltGuest| {
            port(guest)
                .qemu_arg("-global")
                .qemu_arg("ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
        };
        let guest = BasaltGuest::new("basalt");
        match self {
            Self::Acpi => port(guest),
            Self::Guarded => port(guest.qemu_arg("-device").qemu_arg("intel-iommu")),
            Self::Express => express(guest),
            Self::ExpressByUefi => express(guest.uefi(Bus::Usb)),
            Self::OldPci => guest
                .qemu_arg("-machine")
                .qemu_arg("pc")
                .qemu_arg("-device")
                .qemu_arg("pci-bridge,id=bridge,chassis_nr=9"),
        }
    }

    /// Where the drive that moves is at first, and where it is put after that.
    fn places(self) -> [&'static str; 2] {
        match self {
            Self::Acpi | Self::Guarded | Self::Express | Self::ExpressByUefi => ["slot0", "slot1"],
            Self::OldPci => ["pci.0", "bridge"],
        }
    }
}

struct Machine {
    guest: Guest,
    monitor: Monitor,
    port: u16,
    _disks: [NamedTempFile; 2],
}

impl Machine {
    fn start(kind: Kind) -> Self {
        let disks = [disk(), disk()];
        let (guest, port) = kind.machine().disk(disks[0].path()).user_network(4420);
        let (guest, socket) = guest.monitor();
        let guest = guest
            .qemu_arg("-drive")
            .qemu_arg(&format!(
                "if=none,id=moving,format=raw,file={},cache=none",
                disks[1].path().display()
            ))
            .qemu_arg("-device")
            .qemu_arg(&format!("nvme,id=first,serial=moving,drive=moving,bus={}", kind.places()[0]))
            .start();
        guest.wait_for_line("basalt: ready", BOOT);
        Self { guest, monitor: socket.connect(), port, _disks: disks }
    }

    /// Takes the drive out; it is gone when this returns.
    fn take_out(&mut self, device: &str) {
        self.monitor.execute("device_del", &json!({"id": device}));
        self.monitor.wait_for_event("DEVICE_DELETED", "device", device);
    }

    /// Puts the drive in and waits until it is served for the `nth` time.
    fn put_in(&mut self, device: &str, bus: &str, disk: &Path, nth: usize) {
        let file = json!({"driver": "file", "filename": disk});
        let node = format!("{device}-node");
        let drive = json!({"driver": "raw", "node-name": node, "file": file});
        self.monitor.execute("blockdev-add", &drive);
        let drive = json!({
            "driver": "nvme", "id": device, "serial": "moving", "drive": node, "bus": bus,
        });
        self.monitor.execute("device_add", &drive);
        self.guest.wait_for_nth_line("INFO nvme: Nvme1n1: 64 MiB", nth, STEP);
    }
}

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK_BYTES).unwrap();
    disk
}

/// A host that does verified I/O on its namespace until it is told to stop or, if that was the
/// drive that moves, until the drive is gone.
struct Host {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drive {
    Stays,
    Goes,
}

impl Host {
    fn start(port: u16, nsid: u32, drive: Drive) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut host = Initiator::connect(port).unwrap();
        let on = host.namespaces().unwrap().into_iter().find(|on| on.nsid == nsid).unwrap();
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Acquire) {
                match drive {
                    Drive::Stays => host.verify(on, rounds % 1000 * 16, 8192, rounds).unwrap(),
                    Drive::Goes if is_gone(&mut host, on, rounds) => break,
                    Drive::Goes => {}
                }
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread }
    }

    /// How many rounds it did.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("a host was disturbed")
    }

    /// The same, when it ends by itself.
    fn wait(self) -> u64 {
        self.thread.join().expect("a command was not answered as it must be")
    }
}

/// Writes; a write that is answered with success is on the drive, and one that is not says why.
fn is_gone(host: &mut Initiator, on: Namespace, round: u64) -> bool {
    let answer = host.write(on, 2048 + round % 8 * 8, &[round as u8; 4096]);
    let answer = answer.expect("the connection broke");
    // The namespace is gone, or its drive went with the command in it.
    let gone = [command::INVALID_NAMESPACE, command::NAMESPACE_NOT_READY, command::ABORTED];
    let known = answer.status == command::OK || gone.contains(&answer.status);
    assert!(known, "status {:#x}", answer.status);
    answer.status != command::OK
}

fn drives_move_under_load(kind: Kind) {
    let mut machine = Machine::start(kind);
    let port = machine.port;
    let [first_place, second_place] = kind.places();
    let mut owner = Initiator::connect(port).unwrap();
    let on = owner.namespaces().unwrap().into_iter().find(|on| on.nsid == 2).unwrap();
    owner.verify(on, 0, 64 << 10, 77).unwrap();
    let bystander = Host::start(port, 1, Drive::Stays);
    let disk = machine._disks[1].path().to_owned();
    let mut device = "first".to_owned();
    for (round, place) in [first_place, second_place, first_place].into_iter().enumerate() {
        let user = Host::start(port, 2, Drive::Goes);
        thread::sleep(Duration::from_millis(200));
        machine.take_out(&device);
        assert!(user.wait() > 0, "it was gone before it was used");
        let mut host = Initiator::connect(port).unwrap();
        assert_eq!(host.namespaces().unwrap().len(), 1);
        device = format!("again{round}");
        machine.put_in(&device, place, &disk, round + 2);
        let mut host = Initiator::connect(port).unwrap();
        let on = namespace(&mut host, 2);
        let kept = host.read(on, 0, 128).unwrap();
        assert!(kept.data == basalt_qemu_tests::initiator::pattern(77, 64 << 10), "{place}");
        host.verify(on, 4096, 64 << 10, round as u64).unwrap();
    }
    assert!(bystander.end() > 20);
    let wrong = |line: &&String| line.contains("ERROR") || line.contains("PANIC");
    assert_eq!(machine.guest.lines().iter().find(wrong), None);
}

/// The namespace, which is shown a moment after its drive is there.
fn namespace(host: &mut Initiator, nsid: u32) -> Namespace {
    for _ in 0..200 {
        let found = host.namespaces().unwrap().into_iter().find(|on| on.nsid == nsid);
        if let Some(on) = found {
            return on;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("namespace {nsid} does not come back");
}

#[test]
fn drives_move_between_slots_that_acpi_manages() {
    drives_move_under_load(Kind::Acpi);
}

#[test]
fn drives_move_between_slots_that_manage_themselves() {
    drives_move_under_load(Kind::Express);
}

#[test]
fn drives_move_on_a_machine_that_firmware_started() {
    drives_move_under_load(Kind::ExpressByUefi);
}

#[test]
fn drives_move_on_a_machine_with_an_iommu() {
    drives_move_under_load(Kind::Guarded);
}

#[test]
fn drives_move_between_the_first_bus_and_one_behind_a_bridge() {
    drives_move_under_load(Kind::OldPci);
}

#[test]
fn a_device_without_a_driver_may_come_and_go() {
    let mut machine = Machine::start(Kind::Acpi);
    machine.monitor.execute(
        "device_add",
        &json!({
            "driver": "virtio-rng-pci", "id": "rng", "bus": "slot1",
        }),
    );
    machine.guest.wait_for_line("only drives can come while the machine runs", STEP);
    machine.take_out("rng");
    let mut host = Initiator::connect(machine.port).unwrap();
    let on = namespace(&mut host, 2);
    host.verify(on, 0, 4096, 1).unwrap();
}
