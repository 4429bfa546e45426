//! The hosted twin as its users meet it: Linux's initiator and SPDK's client on one side, the
//! host's files on the other.

use std::fs;
use std::time::Duration;

use basalt_qemu_tests::initiator::{Initiator, pattern};
use basalt_qemu_tests::rpc_client::SpdkRpc;
use basalt_qemu_tests::{BasaltGuest, HostedTwin, LinuxGuest};
use basalt_runner::{Network, Nic};
use serde_json::json;
use tempfile::NamedTempFile;

const START: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(120);
const FILE_BYTES: u64 = 64 << 20;

fn file() -> NamedTempFile {
    let made = NamedTempFile::new().and_then(|file| {
        file.as_file().set_len(FILE_BYTES)?;
        Ok(file)
    });
    made.unwrap_or_else(|error| panic!("no file: {error}"))
}

#[test]
fn linux_writes_to_a_file_through_the_twin_and_reads_it_back() {
    let file = file();
    let twin = HostedTwin::new("twin").file(file.path());
    let nvme_port = twin.nvmf;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    let script = format!(
        r#"
        nqn=nqn.2026-11.io.basalt:storage
        target="-t tcp -a 10.0.2.2 -s {nvme_port}"
        step discover nvme discover $target
        step connect waits 30 nvme connect $target -n $nqn
        step disk waits 20 test -b /dev/nvme0n1
        step size test $(blockdev --getsize64 /dev/nvme0n1) -eq {FILE_BYTES}
        yes Basalt | head -c 1048576 >/tmp/pattern
        step write dd if=/tmp/pattern of=/dev/nvme0n1 bs=64k oflag=direct conv=fsync
        step compare cmp -n 1048576 /tmp/pattern /dev/nvme0n1
        step mkfs mkfs.ext4 -q -F /dev/nvme0n1
        step mount mount -t ext4 /dev/nvme0n1 /mnt
        step keep cp /tmp/pattern /mnt/pattern
        step unmount umount /mnt
        step fsck e2fsck -f -n /dev/nvme0n1
        step trim blkdiscard /dev/nvme0n1
        step disconnect nvme disconnect -n $nqn
        "#
    );
    let nic = Nic { network: Network::User(Vec::new()), mac: None };
    let mut client = LinuxGuest::new("client", &script).nic(nic, "10.0.2.15/24").start();
    client.wait_for_step("compare", BOOT + BOOT);
    client.wait_for_success(BOOT);
    let bytes = fs::read(file.path()).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0), "the trim reached the file");
    let wrong = |line: &&String| line.contains("ERROR") || line.contains("PANIC");
    assert_eq!(guest.lines().iter().find(wrong), None);
}

#[test]
fn a_linux_host_takes_a_reservation_away_from_another() {
    let file = file();
    let twin = HostedTwin::new("reserved").file(file.path());
    let nvme_port = twin.nvmf;
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    let script = format!(
        r#"
        nqn=nqn.2026-11.io.basalt:storage
        target="-t tcp -a 10.0.2.2 -s {nvme_port} -n $nqn"
        one=11111111-1111-1111-1111-111111111111
        two=22222222-2222-2222-2222-222222222222
        name=nqn.2014-08.org.nvmexpress:uuid
        disk=/dev/nvme0n1
        step first waits 30 nvme connect $target -q $name:$one -I $one
        step disk waits 20 test -b $disk
        step register nvme resv-register $disk -n 1 --nrkey=0x11 --rrega=0
        step acquire nvme resv-acquire $disk -n 1 --crkey=0x11 --rtype=2 --racqa=0
        step write dd if=/dev/zero of=$disk bs=4k count=1 oflag=direct
        step leave nvme disconnect -n $nqn
        step second waits 30 nvme connect $target -q $name:$two -I $two
        step again waits 20 test -b $disk
        step read sh -c "! dd if=$disk of=/dev/null bs=4k count=1 iflag=direct"
        step refused sh -c "! dd if=/dev/zero of=$disk bs=4k count=1 oflag=direct"
        step stranger sh -c "! nvme resv-acquire $disk -n 1 --crkey=0 --rtype=1 --racqa=0"
        step join nvme resv-register $disk -n 1 --nrkey=0x22 --rrega=0
        step preempt nvme resv-acquire $disk -n 1 --crkey=0x22 --prkey=0x11 --rtype=1 --racqa=2
        nvme resv-report $disk -n 1 --eds --numd=63 | tee /tmp/report
        step type grep -q "rtype *: *1" /tmp/report
        step holders grep -q "regctl *: *1" /tmp/report
        step mine dd if=/dev/zero of=$disk bs=4k count=1 oflag=direct
        step clear nvme resv-release $disk -n 1 --crkey=0x22 --rrela=1
        step disconnect nvme disconnect -n $nqn
        "#
    );
    let nic = Nic { network: Network::User(Vec::new()), mac: None };
    let mut client = LinuxGuest::new("reserving", &script).nic(nic, "10.0.2.15/24").start();
    client.wait_for_step("stranger", BOOT + BOOT);
    client.wait_for_success(BOOT);
}

#[test]
fn spdks_client_stacks_bdevs_and_lets_them_fail() {
    let twin = HostedTwin::new("stack");
    let rpc = SpdkRpc::new(twin.rpc);
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    // Before there is anything it could stand on.
    assert_eq!(rpc.call("bdev_passthru_create -b Ram0p0 -p Pt0"), "Pt0");
    assert_eq!(rpc.call("bdev_malloc_create -b Ram0 16 512"), "Ram0");
    assert_eq!(rpc.call("bdev_split_create Ram0 2 -s 4"), "Ram0p0 Ram0p1");
    assert_eq!(rpc.call("bdev_delay_create -b Ram0p1 -d D0 -r 10 -t 20 -w 30 -n 40"), "D0");
    rpc.text("bdev_delay_update_latency D0 p99_read 25");
    rpc.text("bdev_error_create Pt0");
    let inject = "bdev_error_inject_error EE_Pt0 write corrupt_data -n 2 -o 7 -v 1";
    rpc.text(inject);
    let shown = rpc.call("bdev_get_bdevs -b D0");
    assert_eq!(shown[0]["driver_specific"]["delay"]["p99_read_latency"], 25);
    assert_eq!(shown[0]["num_blocks"], 8192);
    let all = rpc.call("bdev_get_bdevs");
    let names: Vec<_> = all.as_array().unwrap().iter().map(|bdev| &bdev["name"]).collect();
    for name in ["Ram0", "Ram0p0", "Ram0p1", "Pt0", "D0", "EE_Pt0"] {
        assert!(names.contains(&&json!(name)), "{name} of {names:?}");
    }
    let complaint = rpc.complaint("bdev_passthru_create -b Ram0 -p Pt1");
    assert!(complaint.contains("claimed"), "{complaint}");
    rpc.call("bdev_null_create Null0 1 4096");
    rpc.text("bdev_null_resize Null0 5");
    assert_eq!(rpc.call("bdev_get_bdevs -b Null0")[0]["num_blocks"], 1280);
    rpc.text("bdev_malloc_delete Ram0");
    let left = rpc.call("bdev_get_bdevs");
    assert_eq!(left.as_array().unwrap().len(), 1, "all went with what they stood on: {left}");
}

#[test]
fn what_spdks_client_makes_of_files_and_memory_is_saved_and_comes_back() {
    let (one, two) = (file(), file());
    let [one, two] = [one.path(), two.path()].map(|path| path.display().to_string());
    let twin = HostedTwin::new("first");
    let rpc = SpdkRpc::new(twin.rpc);
    let guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    assert_eq!(rpc.call(&format!("bdev_aio_create {one} Aio0 4096")), "Aio0");
    assert_eq!(rpc.call(&format!("bdev_uring_create {two} Uring0 512")), "Uring0");
    assert_eq!(rpc.call("bdev_malloc_create -b Ram0 16 512"), "Ram0");
    assert_eq!(rpc.call("bdev_null_create Null0 100 4096"), "Null0");
    for (command, says) in [
        (format!("bdev_aio_create {one} Aio0 4096"), "exist"),
        ("bdev_aio_create /no/such/file Aio1".into(), "/no/such/file"),
        (format!("bdev_uring_create {two} Uring1 100"), "block size 100"),
        ("bdev_aio_delete Ram0".into(), "No such device"),
    ] {
        let complaint = rpc.complaint(&command);
        assert!(complaint.contains(says), "{command}: {complaint}");
    }
    let nqn = "nqn.2026-11.org.example:files";
    rpc.call(&format!("nvmf_create_subsystem {nqn} -a -s FILES -m 8"));
    for bdev in ["Aio0", "Uring0", "Ram0", "Null0"] {
        rpc.call(&format!("nvmf_subsystem_add_ns {nqn} {bdev}"));
    }
    let made = rpc.call("bdev_get_bdevs");
    assert_eq!(made[0]["driver_specific"]["aio"]["filename"], one.as_str());
    assert_eq!(made[1]["product_name"], "URING bdev");
    let saved = rpc.text("save_config");
    drop(guest);

    // The saved configuration names the first one's ports, which are free again.
    let again = HostedTwin::new("second").config(&saved);
    let rpc = SpdkRpc::new(again.rpc);
    let guest = again.start();
    guest.wait_for_line("basalt: ready", START);
    assert_eq!(rpc.call("bdev_get_bdevs"), made);
    assert_eq!(rpc.text("save_config"), saved);
    rpc.call("bdev_uring_rescan Uring0");
    rpc.call("bdev_uring_delete Uring0");
    rpc.call("bdev_aio_rescan Aio0");
    rpc.call("bdev_aio_delete Aio0");
    assert_eq!(rpc.call("bdev_get_bdevs").as_array().map(Vec::len), Some(2));
}

#[test]
fn a_request_to_end_ends_it_in_order_and_the_data_are_there() {
    let file = file();
    let twin = HostedTwin::new("twin").file(file.path());
    let nvme_port = twin.nvmf;
    let mut guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    let mut host = Initiator::connect(nvme_port).unwrap();
    let on = host.namespaces().unwrap()[0];
    assert_eq!(on.blocks, FILE_BYTES / 4096);
    host.verify(on, 16, 64 << 10, 3).unwrap();
    guest.interrupt();
    assert_eq!(guest.wait_for_code(START), Some(0));
    let bytes = fs::read(file.path()).unwrap();
    assert!(bytes[64 << 10..128 << 10] == pattern(3, 64 << 10));

    let twin = HostedTwin::new("killed by its client").file(file.path());
    let rpc = SpdkRpc::new(twin.rpc);
    let mut guest = twin.start();
    guest.wait_for_line("basalt: ready", START);
    rpc.call("spdk_kill_instance SIGTERM");
    assert_eq!(guest.wait_for_code(START), Some(0));
}

#[test]
fn a_wrong_start_is_refused_with_its_cause_and_its_remedy() {
    let file = file();
    let first = HostedTwin::new("first").file(file.path());
    let taken = first.nvmf;
    let first = first.start();
    first.wait_for_line("basalt: ready", START);
    let mut second = HostedTwin::new("second");
    second.nvmf = taken;
    second.start().wait_for_complaint("choose another with --nvmf-port PORT", START);

    let missing = HostedTwin::new("missing").argument("--file").argument("/no/such/file");
    let mut missing = missing.start();
    missing.wait_for_line("--file /no/such/file: cannot open '/no/such/file'", START);
    assert_eq!(missing.wait_for_code(START), Some(1));

    let net = json!({"subsystems": [{"subsystem": "net", "config": [
        {"method": "net_set_interface", "params": {"name": "net0", "address": "10.0.0.1/24"}}]}]});
    let net = HostedTwin::new("net").config(&net.to_string()).start();
    net.wait_for_line("entry 0, net_set_interface: The host's network is used as it is", START);
    net.wait_for_line("the configuration was carried out up to that call", START);
    net.wait_for_line("basalt: ready", START);
}

#[test]
fn bare_metal_says_that_it_has_no_files() {
    let (machine, rpc_port) = BasaltGuest::new("basalt").user_network(5260);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let rpc = SpdkRpc::new(rpc_port);
    for command in ["bdev_aio_create /tmp/x Aio0 512", "bdev_uring_create /tmp/x Uring0 512"] {
        let complaint = rpc.complaint(command);
        assert!(complaint.contains("\"code\": -95,"), "{complaint}");
        assert!(complaint.contains("no operating system below"), "{complaint}");
    }
}
