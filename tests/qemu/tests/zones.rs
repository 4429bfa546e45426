//! A zoned namespace of QEMU's drive, by SPDK's own client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::rpc_client::SpdkRpc;
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

#[test]
fn zones_are_shown_appended_to_reported_and_reset() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let file = format!("file={},if=none,format=raw,id=file", disk.path().display());
    let zones = "zoned=on,zoned.zone_size=4M,zoned.zone_capacity=3M,zoned.max_open=4,\
                 zoned.max_active=8";
    let namespace = format!("nvme-ns,drive=file,bus=ctrl,nsid=1,{zones}");
    let args = ["-drive", &file, "-device", "nvme,id=ctrl,serial=zns,zoned.zasl=4", "-device"];
    let machine = args.iter().fold(BasaltGuest::new("zones"), |machine, arg| machine.qemu_arg(arg));
    let (machine, port) = machine.qemu_arg(&namespace).user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("Nvme0n1: a bdev with zones cannot be exported", BOOT);
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
    let refused = rpc.complaint("bdev_split_create Nvme0n1 2");
    assert!(refused.contains("its base has zones"), "{refused}");
}
