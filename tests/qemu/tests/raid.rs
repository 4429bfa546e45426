//! Bdevs over several drives, managed by SPDK's own client: a mirror loses a drive while it is
//! written, and gets another one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::initiator::command::INVALID_FIELD;
use basalt_qemu_tests::initiator::{Initiator, pattern};
use basalt_qemu_tests::rpc_client::SpdkRpc;
use basalt_qemu_tests::{BasaltGuest, Monitor};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(60);
const DISK_BYTES: u64 = 64 << 20;
const NQN: &str = "nqn.2026-11.io.basalt:storage";

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK_BYTES).unwrap();
    disk
}

/// A raid bdev `R` over the first two drives, exported.
fn config(raid: &Value) -> String {
    let calls = [
        ("nvmf_create_transport", json!({"trtype": "TCP"})),
        ("nvmf_create_subsystem", json!({"nqn": NQN, "allow_any_host": true})),
        ("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "R"}})),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NQN, "listen_address":
                {"trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": "4420"}}),
        ),
    ];
    let calls = calls.map(|(method, params)| json!({"method": method, "params": params}));
    let raid = json!({"method": "bdev_raid_create", "params": raid});
    json!({"subsystems": [
        {"subsystem": "bdev", "config": [raid]},
        {"subsystem": "nvmf", "config": calls},
    ]})
    .to_string()
}

fn add_drive(machine: BasaltGuest, id: &str, disk: &Path) -> BasaltGuest {
    let chassis = id.len();
    let drive = format!("if=none,id={id}-file,format=raw,cache=none,file={}", disk.display());
    let device = |machine: BasaltGuest, device: &str| machine.qemu_arg("-device").qemu_arg(device);
    let port = format!("pcie-root-port,id=at-{id},chassis={chassis},slot={chassis}");
    let machine = device(machine, &port).qemu_arg("-drive").qemu_arg(&drive);
    device(machine, &format!("nvme,id={id},serial={id},drive={id}-file,bus=at-{id}"))
}

fn put_in(monitor: &mut Monitor, id: &str, bus: &str, disk: &Path) {
    let file = json!({"driver": "file", "filename": disk});
    let node = format!("{id}-node");
    monitor.execute("blockdev-add", &json!({"driver": "raw", "node-name": node, "file": file}));
    let drive = json!({"driver": "nvme", "id": id, "serial": id, "drive": node, "bus": bus});
    monitor.execute("device_add", &drive);
}

fn wait_for_raid(rpc: &SpdkRpc, holds: impl Fn(&Value) -> bool) -> Value {
    let late = Instant::now() + STEP;
    loop {
        let raid = rpc.call("bdev_raid_get_bdevs all")[0].take();
        if holds(&raid) {
            return raid;
        }
        assert!(Instant::now() < late, "{raid:#}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_mirror_goes_on_without_a_drive_and_is_whole_again_with_another() {
    let disks = [disk(), disk(), disk()];
    let mirror = json!({"name": "R", "raid_level": "raid1", "base_bdevs": ["Nvme0n1", "Nvme1n1"]});
    let machine = BasaltGuest::new("mirror").config(&config(&mirror));
    let (machine, [nvmf, rpc]) = machine.user_network_ports([4420, 5260]);
    let machine = add_drive(machine, "a", disks[0].path());
    let machine = add_drive(machine, "bb", disks[1].path());
    let (machine, socket) = machine.monitor();
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let (mut monitor, rpc) = (socket.connect(), SpdkRpc::new(rpc));
    let mut host = Initiator::connect(nvmf).unwrap();
    let on = host.namespaces().unwrap()[0];
    host.verify(on, 0, 1 << 20, 1).unwrap();
    // A drive goes while it is written.
    let writer = thread::spawn(move || {
        for round in 0..400_u64 {
            host.verify(on, 8192 + round % 64 * 128, 64 << 10, round).unwrap();
        }
        host
    });
    thread::sleep(Duration::from_millis(200));
    monitor.execute("device_del", &json!({"id": "a"}));
    monitor.wait_for_event("DEVICE_DELETED", "device", "a");
    let mut host = writer.join().unwrap();
    let raid = wait_for_raid(&rpc, |raid| raid["num_base_bdevs_discovered"] == 1);
    assert_eq!(raid["state"], "online");
    let named = |place: usize| raid["base_bdevs_list"][place]["name"].as_str().map(String::from);
    let (gone, kept) = match (named(0), named(1)) {
        (None, Some(kept)) => ("Nvme0n1", kept),
        (Some(kept), None) => ("Nvme1n1", kept),
        _ => panic!("{raid:#}"),
    };
    host.verify(on, 20_000, 1 << 20, 5).unwrap();
    // Another one takes its place.
    put_in(&mut monitor, "new", "at-a", disks[2].path());
    let late = Instant::now() + STEP;
    while !rpc.text("bdev_get_bdevs").contains(&format!("\"{gone}\"")) {
        assert!(Instant::now() < late, "the new drive does not come");
        thread::sleep(Duration::from_millis(200));
    }
    rpc.call(&format!("bdev_raid_add_base_bdev R {gone}"));
    host.verify(on, 30_000, 1 << 20, 6).unwrap();
    let raid = wait_for_raid(&rpc, |raid| raid["process"].is_null());
    assert_eq!(raid["num_base_bdevs_discovered"], 2, "{raid:#}");
    // Without the old one, everything is read from the new one.
    rpc.call(&format!("bdev_raid_remove_base_bdev {kept}"));
    for (lba, len, seed) in [(0, 1 << 20, 1), (20_000, 1 << 20, 5), (30_000, 1 << 20, 6)] {
        let data = host.read(on, lba, len / 512).unwrap().data;
        assert!(data == pattern(seed, len as usize), "block {lba}");
    }
    drop(guest);
    let (old, new) = (std::fs::read(disks[1].path()), std::fs::read(disks[2].path()));
    assert!(old.unwrap() == new.unwrap(), "the drives hold the same");
}

#[test]
fn strips_are_read_and_written_on_both_drives() {
    let disks = [disk(), disk()];
    let raid = json!({"name": "R", "raid_level": "raid0", "strip_size_kb": 16,
                      "base_bdevs": ["Nvme0n1", "Nvme1n1"]});
    let machine = BasaltGuest::new("stripes").cpus(2).config(&config(&raid));
    let machine = machine.disk(disks[0].path()).disk(disks[1].path());
    let (machine, nvmf) = machine.user_network(4420);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(nvmf).unwrap();
    let on = host.namespaces().unwrap()[0];
    assert_eq!(on.blocks * 512, 2 * DISK_BYTES);
    for (lba, len) in [(0, 1 << 20), (5, 512), (4000, 96 << 10), (on.blocks - 256, 128 << 10)] {
        host.verify(on, lba, len, lba).unwrap();
    }
    let data = pattern(9, 64 << 10);
    host.write(on, 0, &data).unwrap();
    drop(guest);
    let [first, second] = disks.map(|disk| std::fs::read(disk.path()).unwrap());
    let strips = [&first[..16 << 10], &second[..16 << 10], &first[16 << 10..32 << 10]];
    for (strip, at) in strips.iter().zip([0, 16 << 10, 32 << 10]) {
        assert!(*strip == &data[at..at + (16 << 10)], "the strip at {at}");
    }
}

#[test]
fn stripes_with_parity_are_read_without_one_of_their_drives() {
    let disks = [disk(), disk(), disk()];
    let raid = json!({"name": "R", "raid_level": "raid5f", "strip_size_kb": 16,
                      "base_bdevs": ["Nvme0n1", "Nvme1n1", "Nvme2n1"]});
    let machine = BasaltGuest::new("parity").config(&config(&raid));
    let (machine, [nvmf, rpc]) = machine.user_network_ports([4420, 5260]);
    let machine = disks.iter().fold(machine, |machine, disk| machine.disk(disk.path()));
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(nvmf).unwrap();
    let on = host.namespaces().unwrap()[0];
    assert_eq!(on.blocks * 512, 2 * DISK_BYTES);
    for stripe in [0, 1, 2, 7, 1000, 2047] {
        host.verify(on, stripe * 64, 32 << 10, stripe).unwrap();
    }
    let whole = pattern(77, 256 << 10);
    host.write(on, 6400, &whole).unwrap();
    let partial = host.write(on, 6400, &pattern(1, 4096)).unwrap();
    assert_eq!(partial.status, INVALID_FIELD, "that is no full stripe");
    let rpc = SpdkRpc::new(rpc);
    rpc.call("bdev_raid_remove_base_bdev Nvme1n1");
    assert_eq!(rpc.call("bdev_raid_get_bdevs all")[0]["num_base_bdevs_discovered"], 2);
    for stripe in [0, 1, 2, 7, 1000, 2047] {
        let data = host.read(on, stripe * 64, 64).unwrap().data;
        assert!(data == pattern(stripe, 32 << 10), "stripe {stripe}");
    }
    assert!(host.read(on, 6400, 512).unwrap().data == whole);
    host.verify(on, 128, 32 << 10, 9).unwrap();
    rpc.call("bdev_raid_add_base_bdev R Nvme1n1");
    wait_for_raid(&rpc, |raid| raid["process"].is_null());
    drop(guest);
    let [first, second, third] = disks.map(|disk| std::fs::read(disk.path()).unwrap());
    let is_parity = |((a, b), c): ((&u8, &u8), &u8)| a ^ b == *c;
    assert!(first.iter().zip(&second).zip(&third).all(is_parity), "parity holds everywhere");
}
