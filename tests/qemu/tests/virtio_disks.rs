//! Virtio block devices and SCSI hosts as drives, managed by SPDK's own client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::initiator::{Initiator, pattern};
use basalt_qemu_tests::rpc_client::SpdkRpc;
use basalt_qemu_tests::{BasaltGuest, Monitor};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(60);
const DISK_BYTES: u64 = 32 << 20;
const NQN: &str = "nqn.2026-11.io.basalt:storage";

fn disk() -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK_BYTES).unwrap();
    disk
}

/// Both devices attached, and their disks exported in order.
fn config() -> String {
    let attach = |name, kind, address| {
        let params = json!({"name": name, "trtype": "pci", "traddr": address, "dev_type": kind});
        json!({"method": "bdev_virtio_attach_controller", "params": params})
    };
    let export = |bdev| {
        let params = json!({"nqn": NQN, "namespace": {"bdev_name": bdev}});
        json!({"method": "nvmf_subsystem_add_ns", "params": params})
    };
    let subsystem = json!({"nqn": NQN, "allow_any_host": true});
    let listener = json!({"nqn": NQN, "listen_address":
        {"trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": "4420"}});
    json!({"subsystems": [
        {"subsystem": "bdev", "config": [
            attach("Blk", "blk", "0000:00:10.0"),
            attach("Host", "scsi", "00:11.0"),
        ]},
        {"subsystem": "nvmf", "config": [
            {"method": "nvmf_create_transport", "params": {"trtype": "TCP"}},
            {"method": "nvmf_create_subsystem", "params": subsystem},
            export("Blk"),
            export("Hostt3"),
            {"method": "nvmf_subsystem_add_listener", "params": listener},
        ]},
    ]})
    .to_string()
}

fn machine(name: &str, blk: &NamedTempFile, scsi: &NamedTempFile) -> BasaltGuest {
    let file = |disk: &NamedTempFile| json!({"driver": "file", "filename": disk.path()});
    let node = |name, disk| json!({"driver": "raw", "node-name": name, "file": file(disk)});
    let args = [
        ("-blockdev", node("blk", blk).to_string()),
        ("-blockdev", node("scsi", scsi).to_string()),
        ("-device", "virtio-blk-pci,id=vblk,drive=blk,serial=one,addr=0x10".into()),
        ("-device", "virtio-scsi-pci,id=host,addr=0x11".into()),
        (
            "-device",
            "scsi-hd,id=first,bus=host.0,scsi-id=3,drive=scsi,serial=two,\
             logical_block_size=4096,physical_block_size=4096"
                .into(),
        ),
    ];
    args.iter().fold(BasaltGuest::new(name), |machine, (option, value)| {
        machine.qemu_arg(option).qemu_arg(value)
    })
}

fn wait_for_bdev(rpc: &SpdkRpc, name: &str, holds: impl Fn(Option<&Value>) -> bool) {
    let late = Instant::now() + STEP;
    loop {
        let bdevs = rpc.call("bdev_get_bdevs");
        let all = bdevs.as_array().unwrap();
        if holds(all.iter().find(|bdev| bdev["name"] == name)) {
            return;
        }
        assert!(Instant::now() < late, "{name}: {bdevs:#}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn both_kinds_are_written_read_and_keep_their_data() {
    let [blk, scsi] = [disk(), disk()];
    let machine = machine("virtio-disks", &blk, &scsi).cpus(2).config(&config());
    let (machine, [nvmf, rpc]) = machine.user_network_ports([4420, 5260]);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(nvmf).unwrap();
    let [one, two] = host.namespaces().unwrap()[..] else { panic!("two namespaces") };
    assert_eq!([one, two].map(|on| on.block_len), [512, 4096]);
    for on in [one, two] {
        let block = u64::from(on.block_len);
        assert_eq!(on.blocks * block, DISK_BYTES);
        for len in [4096, 64 << 10, 128 << 10, 1 << 20] {
            host.verify(on, 5, len, u64::from(len)).unwrap();
        }
        host.verify(on, on.blocks - 8, 8 * on.block_len, 9).unwrap();
        let data = pattern(7, 64 << 10);
        host.write(on, (1 << 20) / block, &data).unwrap();
    }
    let rpc = SpdkRpc::new(rpc);
    let shown = rpc.call("bdev_virtio_scsi_get_devices");
    assert_eq!(shown[0]["virtio"]["pci_address"], "0000:00:11.0");
    let bdev = rpc.call("bdev_get_bdevs -b Blk")[0].take();
    assert_eq!(bdev["product_name"], "VirtioBlk Disk");
    assert_eq!(bdev["driver_specific"]["virtio"]["serial_number"], "one");
    rpc.call("bdev_virtio_detach_controller Blk");
    wait_for_bdev(&rpc, "Blk", |bdev| bdev.is_none());
    let again = "bdev_virtio_attach_controller -t pci -a 0000:00:10.0 -d blk Again";
    assert_eq!(rpc.text(again).trim(), "Again");
    for (wrong, why) in [
        (again, "is attached already, as Again"),
        ("bdev_virtio_attach_controller -t pci -a 0000:00:10.0 -d scsi X", "no virtio SCSI host"),
        ("bdev_virtio_attach_controller -t pci -a 0000:00:1f.0 -d blk X", "no virtio block device"),
        ("bdev_virtio_attach_controller -t user -a /tmp/x -d blk X", "'trtype' is 'pci'"),
        ("bdev_virtio_detach_controller Nobody", "No such device"),
    ] {
        let error = rpc.complaint(wrong);
        assert!(error.contains(why), "{wrong}: {error}");
    }
    drop(guest);
    for disk in [blk, scsi] {
        let bytes = std::fs::read(disk.path()).unwrap();
        assert!(bytes[1 << 20..(1 << 20) + (64 << 10)] == pattern(7, 64 << 10));
    }
}

fn add_scsi_disk(monitor: &mut Monitor, id: &str, disk: &NamedTempFile) {
    let file = json!({"driver": "file", "filename": disk.path()});
    let node = json!({"driver": "raw", "node-name": format!("{id}-node"), "file": file});
    monitor.execute("blockdev-add", &node);
    let device = json!({"driver": "scsi-hd", "id": id, "bus": "host.0", "scsi-id": 5,
                        "drive": format!("{id}-node")});
    monitor.execute("device_add", &device);
}

#[test]
fn disks_come_go_and_grow_while_the_machine_runs() {
    let [blk, scsi, late] = [disk(), disk(), disk()];
    let machine = machine("virtio-hotplug", &blk, &scsi).config(&config());
    let (machine, [nvmf, rpc]) = machine.user_network_ports([4420, 5260]);
    let (machine, socket) = machine.monitor();
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let (mut monitor, rpc) = (socket.connect(), SpdkRpc::new(rpc));
    let mut host = Initiator::connect(nvmf).unwrap();
    add_scsi_disk(&mut monitor, "late", &late);
    wait_for_bdev(&rpc, "Hostt5", |bdev| bdev.is_some_and(|bdev| bdev["num_blocks"] == 65536));
    for node in ["blk", "scsi"] {
        let size = json!({"node-name": node, "size": 2 * DISK_BYTES});
        monitor.execute("block_resize", &size);
    }
    wait_for_bdev(&rpc, "Blk", |bdev| bdev.is_some_and(|bdev| bdev["num_blocks"] == 131_072));
    wait_for_bdev(&rpc, "Hostt3", |bdev| bdev.is_some_and(|bdev| bdev["num_blocks"] == 16_384));
    for on in host.namespaces().unwrap() {
        host.verify(on, on.blocks - 16, 16 * on.block_len, 3).unwrap();
    }
    monitor.execute("device_del", &json!({"id": "first"}));
    wait_for_bdev(&rpc, "Hostt3", |bdev| bdev.is_none());
    let namespaces = host.namespaces().unwrap();
    assert_eq!(namespaces.len(), 1);
    host.verify(namespaces[0], 0, 1 << 20, 4).unwrap();
}

#[test]
fn a_block_device_is_put_in_attached_and_pulled_out() {
    let late = disk();
    let machine = BasaltGuest::new("virtio-slot").qemu_arg("-device");
    let machine = machine.qemu_arg("pcie-root-port,id=empty,chassis=1,slot=1");
    let (machine, [rpc]) = machine.user_network_ports([5260]);
    let (machine, socket) = machine.monitor();
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let (mut monitor, rpc) = (socket.connect(), SpdkRpc::new(rpc));
    let file = json!({"driver": "file", "filename": late.path()});
    monitor.execute("blockdev-add", &json!({"driver": "raw", "node-name": "late", "file": file}));
    let device = json!({"driver": "virtio-blk-pci", "id": "vblk", "bus": "empty", "drive": "late"});
    for round in 1..=2 {
        monitor.execute("device_add", &device);
        let line = guest.wait_for_nth_line("virtio block device", round, STEP);
        let address = line.split_whitespace().find(|word| word.ends_with(":00.0")).unwrap();
        rpc.call(&format!("bdev_virtio_attach_controller -t pci -a {address} -d blk V"));
        wait_for_bdev(&rpc, "V", |bdev| bdev.is_some_and(|bdev| bdev["num_blocks"] == 65536));
        monitor.execute("device_del", &json!({"id": "vblk"}));
        monitor.wait_for_event("DEVICE_DELETED", "device", "vblk");
        wait_for_bdev(&rpc, "V", |bdev| bdev.is_none());
    }
}
