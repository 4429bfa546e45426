//! NVMe commands through SPDK's own client to QEMU's drive: identify, read and write, format.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::thread;
use std::time::{Duration, Instant};

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::initiator::{Data, Initiator, command as nvme, pattern};
use basalt_qemu_tests::rpc_client::SpdkRpc;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);

const VERIFY: u8 = 0x0c;
const COPY: u8 = 0x19;

/// An NVMe command: opcode, namespace, dword 10, dword 12.
fn command(opcode: u8, nsid: u8, cdw10: u32, cdw12: u32) -> String {
    let mut command = [0; 64];
    (command[0], command[4]) = (opcode, nsid);
    command[40..44].copy_from_slice(&cdw10.to_le_bytes());
    command[48..52].copy_from_slice(&cdw12.to_le_bytes());
    URL_SAFE.encode(command)
}

fn send(rpc: &SpdkRpc, arguments: &str) -> (u16, Vec<u8>) {
    let answer = rpc.call(&format!("bdev_nvme_send_cmd -n Nvme0 {arguments}"));
    let bytes = |field: &Value| URL_SAFE.decode(field.as_str().unwrap()).unwrap();
    let completion = bytes(&answer["cpl"]);
    (u16::from_le_bytes([completion[14], completion[15]]) >> 1, bytes(&answer["data"]))
}

#[test]
fn commands_reach_the_drive_and_a_format_changes_its_bdev() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let machine = BasaltGuest::new("passthru").cpus(2).disk(disk.path());
    let (machine, port) = machine.user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);

    let identify = command(0x06, 0, 1, 0);
    let (status, page) = send(&rpc, &format!("-t admin -r c2h -D 4096 -c {identify}"));
    assert_eq!(status, 0);
    assert!(String::from_utf8_lossy(&page[24..64]).starts_with("QEMU NVMe Ctrl"));
    let (status, _) = send(&rpc, &format!("-t admin -r c2h -c {}", command(0x00, 0, 1, 0)));
    assert_eq!(status & 0x7ff, 0x01, "queues are the driver's: invalid opcode");

    // While the target has it open for hosts.
    let block = vec![0x5a; 512];
    let write = command(0x01, 1, 7, 0);
    let data = URL_SAFE.encode(&block);
    assert_eq!(send(&rpc, &format!("-t io -r h2c -d {data} -c {write}")).0, 0);
    let (status, read) = send(&rpc, &format!("-t io -r c2h -D 512 -c {}", command(0x02, 1, 7, 0)));
    assert_eq!((status, read), (0, block));
    let vendor = command(0x7f, 1, 0, 0);
    let (status, _) = send(&rpc, &format!("-t io -r c2h -D 512 -c {vendor}"));
    assert_eq!(status & 0x7ff, 0x01, "invalid opcode");

    // QEMU's fifth format has blocks of 4096 bytes.
    let (status, _) = send(&rpc, &format!("-t admin -r c2h -c {}", command(0x80, 1, 4, 0)));
    assert_eq!(status, 0);
    let bdev = &rpc.call("bdev_get_bdevs -b Nvme0n1 -t 20000")[0];
    assert_eq!((&bdev["block_size"], &bdev["num_blocks"]), (&4096.into(), &16_384.into()));
}

#[test]
fn commands_fail_as_was_asked_for_and_one_that_is_held_back_ends_with_a_reset() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let machine = BasaltGuest::new("errors").cpus(1).disk(disk.path());
    let (machine, port) = machine.user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(port);
    let inject = |what: &str| {
        let answer = rpc.call(&format!("bdev_nvme_add_error_injection -n Nvme0 {what}"));
        assert!(answer.is_null() || answer == true || answer == "True", "{answer}");
    };

    // Unrecovered read error: type 2, code 0x81.
    inject("-t io -o 2 -e 2 -u 2 -c 129");
    let read = format!("-t io -r c2h -D 512 -c {}", command(0x02, 1, 7, 0));
    let statuses = [(); 3].map(|()| send(&rpc, &read).0);
    assert_eq!(statuses, [0x281, 0x281, 0]);
    inject("-t io -o 2 -e 9 -u 2 -c 129");
    rpc.call("bdev_nvme_remove_error_injection -n Nvme0 -t io -o 2");
    assert_eq!(send(&rpc, &read).0, 0);

    // As SPDK's own test of a stuck admin command: Get Features, which a reset frees.
    inject("-t admin -o 10 -s -w 50000000 -u 0 -c 1");
    let features = format!("-t admin -r c2h -c {}", command(0x0a, 0, 7, 0));
    let start = Instant::now();
    thread::scope(|scope| {
        let stuck = scope.spawn(|| send(&rpc, &features).0);
        thread::sleep(Duration::from_secs(2));
        assert!(!stuck.is_finished(), "it is held back");
        rpc.call("bdev_nvme_reset_controller Nvme0");
        assert_eq!(stuck.join().unwrap(), 0x01);
    });
    assert!(start.elapsed() < Duration::from_secs(25), "it did not wait for its time");
    assert_eq!(send(&rpc, &features).0, 0);
}

#[test]
fn blocks_are_copied_and_verified_by_the_drive() {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    // A namespace of its own: QEMU's short form has copies of no blocks at all.
    let file = format!("file={},if=none,format=raw,id=file", disk.path().display());
    let args = ["-drive", &file, "-device", "nvme,id=ctrl,serial=copy", "-device"];
    let machine = args.iter().fold(BasaltGuest::new("copy"), |machine, arg| machine.qemu_arg(arg));
    let machine = machine.qemu_arg("nvme-ns,drive=file,bus=ctrl,nsid=1");
    let (machine, [nvmf, rpc]) = machine.user_network_ports([4420, 5260]);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let bdev = SpdkRpc::new(rpc).call("bdev_get_bdevs -b Nvme0n1")[0].take();
    assert_eq!(bdev["supported_io_types"]["copy"], true, "QEMU's drive copies");
    let mut host = Initiator::connect(nvmf).unwrap();
    let on = host.namespaces().unwrap()[0];
    let data = pattern(4, 1 << 20);
    host.write(on, 0, &data).unwrap();
    // Two ranges of 1 MiB in all, to behind them and, the second time, to where the first is.
    for to in [4096_u64, 100] {
        let ranges = [(0_u64, 1024_u16), (1024, 1024)].map(|(from, blocks)| {
            let mut range = [0; 32];
            range[8..16].copy_from_slice(&from.to_le_bytes());
            range[16..18].copy_from_slice(&(blocks - 1).to_le_bytes());
            range
        });
        let copy = nvme::io(COPY, on.nsid, to, 2);
        let answer = host.io.run(copy, Data::FromHost(&ranges.concat())).unwrap();
        assert_eq!(answer.status, nvme::OK);
        let copied = host.read(on, to, 1024).unwrap().data;
        assert!(copied == data[..512 << 10], "to {to}");
    }
    let verify = nvme::io(VERIFY, on.nsid, 0, 8192);
    assert_eq!(host.io.run(verify, Data::None).unwrap().status, nvme::OK);
}
