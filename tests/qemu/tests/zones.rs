//! A zoned namespace of QEMU's drive: by SPDK's own client, and as Linux sees it over the network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use basalt_qemu_tests::rpc_client::SpdkRpc;
use basalt_qemu_tests::{BasaltGuest, LinuxGuest, Wire};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
/// Blocks of 512 bytes of a zone of 4 MiB.
const ZONE: u64 = 8192;
const ZONE_SEND: u8 = 0x79;
const ZONE_RECEIVE: u8 = 0x7a;
const ZONE_APPEND: u8 = 0x7d;
const RESET: u32 = 4;

/// An I/O command to namespace 1: opcode, block, dwords 12 and 13.
fn command(opcode: u8, lba: u64, cdw12: u32, cdw13: u32) -> String {
    let mut command = [0; 64];
    (command[0], command[4]) = (opcode, 1);
    command[40..48].copy_from_slice(&lba.to_le_bytes());
    command[48..52].copy_from_slice(&cdw12.to_le_bytes());
    command[52..56].copy_from_slice(&cdw13.to_le_bytes());
    URL_SAFE.encode(command)
}

/// Status and data.
fn send(rpc: &SpdkRpc, arguments: &str) -> (u16, Vec<u8>) {
    let answer = rpc.call(&format!("bdev_nvme_send_cmd -n Nvme0 -t io {arguments}"));
    let bytes = |field: &Value| URL_SAFE.decode(field.as_str().unwrap()).unwrap();
    let completion = bytes(&answer["cpl"]);
    let status = u16::from_le_bytes([completion[14], completion[15]]) >> 1 & 0x7ff;
    (status, bytes(&answer["data"]))
}

/// State and write pointer of the second zone.
fn second_zone(rpc: &SpdkRpc) -> (u8, u64) {
    // A partial report of one zone, with its header.
    let report = command(ZONE_RECEIVE, ZONE, 128 / 4 - 1, 1 << 16);
    let (status, data) = send(rpc, &format!("-r c2h -D 128 -c {report}"));
    assert_eq!((status, data[0]), (0, 1));
    (data[64 + 1] >> 4, u64::from_le_bytes(data[64 + 24..][..8].try_into().unwrap()))
}

/// A drive of sixteen zones of 4 MiB, of which 3 MiB can be written.
fn drive(machine: BasaltGuest, disk: &Path) -> BasaltGuest {
    let file = format!("file={},if=none,format=raw,id=file", disk.display());
    let zones = "zoned=on,zoned.zone_size=4M,zoned.zone_capacity=3M,zoned.max_open=4,\
                 zoned.max_active=8";
    let namespace = format!("nvme-ns,drive=file,bus=ctrl,nsid=1,{zones}");
    let controller = "nvme,id=ctrl,serial=zns,zoned.zasl=4";
    let args = ["-drive", &file, "-device", controller, "-device", &namespace];
    args.iter().fold(machine, |machine, arg| machine.qemu_arg(arg))
}

#[test]
fn zones_are_shown_appended_to_reported_and_reset() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let machine = drive(BasaltGuest::new("zones"), disk.path());
    let (machine, port) = machine.user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    let bdev = rpc.call("bdev_get_bdevs -b Nvme0n1")[0].take();
    let shown = ["zoned", "zone_size", "max_open_zones"].map(|field| bdev[field].clone());
    assert_eq!(shown, [json!(true), json!(ZONE), json!(4)]);
    assert_eq!(bdev["supported_io_types"]["zone_append"], true);
    assert_eq!(second_zone(&rpc), (1, ZONE), "empty");
    let data = URL_SAFE.encode([0x5a; 1024]);
    for _ in 0..2 {
        let append = command(ZONE_APPEND, ZONE, 1, 0);
        assert_eq!(send(&rpc, &format!("-r h2c -d {data} -c {append}")).0, 0);
    }
    assert_eq!(second_zone(&rpc), (2, ZONE + 4), "opened by the write");
    // A write somewhere else than where the zone has got.
    let write = command(0x01, ZONE + 9, 1, 0);
    assert_eq!(send(&rpc, &format!("-r h2c -d {data} -c {write}")).0, 0x1bc);
    assert_eq!(send(&rpc, &format!("-r h2c -c {}", command(ZONE_SEND, ZONE, 0, RESET))).0, 0);
    assert_eq!(second_zone(&rpc), (1, ZONE), "empty again");
    rpc.call("nvmf_subsystem_remove_ns nqn.2026-11.io.basalt:storage 1");
    let refused = rpc.complaint("bdev_split_create Nvme0n1 2");
    assert!(refused.contains("its base has zones"), "{refused}");
}

const CONFIG: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"10.0.0.1/24"}}]}]}"#;

/// What Linux does with the drive, whose zones are of 8192 sectors.
const HOST: &str = r#"
    nqn=nqn.2026-11.io.basalt:storage
    disk=/dev/nvme0n1
    queue=/sys/block/nvme0n1/queue
    is() { test "$(cat $1)" = "$2" || { echo "$1 has $(cat $1), not $2"; return 1; }; }
    # state ZONE TEXT: what is reported of it.
    state() {
        blkzone report -o $(($1 * 8192)) -c 1 $disk >/tmp/report
        grep -q "$2" /tmp/report || { cat /tmp/report; return 1; }
    }
    step ping waits 30 ping -c 1 -W 1 10.0.0.1
    step connect nvme connect -t tcp -a 10.0.0.1 -s 4420 -n $nqn
    step disk waits 20 test -b $disk
    step zoned is $queue/zoned host-managed
    # It keeps the writes to a zone in order.
    step in-order sh -c "echo mq-deadline >/sys/block/nvme0c0n1/queue/scheduler"
    step zone-size is $queue/chunk_sectors 8192
    step open is /sys/block/nvme0c0n1/queue/max_open_zones 4
    step active is /sys/block/nvme0c0n1/queue/max_active_zones 8
    step append is $queue/zone_append_max_bytes 65536
    blkzone report $disk >/tmp/zones
    all_empty() { test $(grep -c 'cap 0x001800, wptr 0x000000 .*(em)' /tmp/zones) -eq 16; }
    step report all_empty
    nvme effects-log /dev/nvme0 -c 2 -H >/tmp/says
    says() { cat /tmp/says; grep -qi "$1" /tmp/says; }
    step effects says 'IOCS125 .*CSUPP+ *LBCC+'
    step no-copies sh -c "! grep -q 'IOCS25 ' /tmp/says"
    yes Basalt | head -c 262144 >/tmp/data
    write() { dd if=/tmp/data of=$disk bs=64k count=$2 seek=$1 oflag=direct conv=notrunc; }
    step write write 64 2
    step pointer state 1 'wptr 0x000100 .*(oi)'
    step elsewhere sh -c "! dd if=/tmp/data of=$disk bs=64k count=1 seek=70 oflag=direct"
    step not-written state 1 'wptr 0x000100'
    read_back() { dd if=$disk bs=64k skip=64 count=2 iflag=direct | cmp -n 131072 - /tmp/data; }
    step read read_back
    head -c 4096 /tmp/data >/tmp/block
    nvme zns zone-append $disk -s 8192 -z 4096 -d /tmp/block >/tmp/says
    step append says 'LBA 2100$'
    step after-append state 1 'wptr 0x000108'
    step close blkzone close -o 8192 -c 1 $disk
    step closed state 1 '(cl)'
    step open blkzone open -o 8192 -c 1 $disk
    step opened state 1 '(oe)'
    step finish blkzone finish -o 16384 -c 1 $disk
    step finished state 2 '(fu)'
    step reset blkzone reset -o 16384 -c 1 $disk
    step empty state 2 'wptr 0x000000 .*(em)'
    nvme zns report-zones $disk -s 0 -d 3 -p >/tmp/says
    step by-ioctl says 'SLBA: *0x2000 .*WP: *0x2108'
    verify() {
        fio --name=zones --filename=$disk --zonemode=zbd --rw=randwrite --bs=16k --offset=16m \
            --size=32m --io_size=8m --max_open_zones=4 --direct=1 --ioengine=libaio --iodepth=4 \
            --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=20261128 \
            --output=/tmp/fio || { cat /tmp/fio; return 1; }
    }
    step fio verify
    written() { blkzone report $disk >/tmp/zones; grep -q '(oi)\|(fu)\|(cl)' /tmp/zones; }
    step written written
    step read-again read_back
    step disconnect nvme disconnect -n $nqn
    step connect nvme connect -t tcp -a 10.0.0.1 -s 4420 -n $nqn
    step disk waits 20 test -b $disk
    step kept read_back
    step reset-others blkzone reset -o 16384 $disk
    only_one() { blkzone report $disk >/tmp/zones; test $(grep -c '(em)' /tmp/zones) -eq 15; }
    step one-left only_one
    step reset-all nvme zns reset-zone $disk -a
    blkzone report $disk >/tmp/zones
    all_reset() { test $(grep -c 'wptr 0x000000 .*(em)' /tmp/zones) -eq 16; }
    step all-reset all_reset
    step write-last write 64 4
    step disconnect nvme disconnect -n $nqn
"#;

#[test]
fn linux_uses_zones_over_the_network() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let wire = Wire::new();
    let machine = drive(BasaltGuest::new("zones"), disk.path()).config(CONFIG);
    let target = machine.nic(wire.near_end()).start();
    target.wait_for_line("basalt: ready", BOOT);
    let client = LinuxGuest::new("client", HOST).nic(wire.far_end(), "10.0.0.2/24");
    client.with_fio().start().wait_for_success(BOOT + 3 * BOOT);
    // QEMU keeps a zone's blocks where a namespace without zones would.
    let mut found = vec![0; 256 << 10];
    File::open(disk.path()).unwrap().read_exact_at(&mut found, 4 << 20).unwrap();
    let written: Vec<u8> = b"Basalt\n".iter().copied().cycle().take(found.len()).collect();
    assert!(found == written, "what Linux wrote last is on the drive");
    assert!(!target.lines().iter().any(|line| line.contains("PANIC")), "Basalt panicked");
}
