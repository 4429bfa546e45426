//! The image serves its drives on machines of many kinds; where it cannot, it says so. Every test
//! ends in I/O that was verified, or in the words an operator needs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use basalt_qemu_tests::initiator::command::{OK, UNRECOVERED_READ, WRITE_FAULT};
use basalt_qemu_tests::initiator::{Initiator, Namespace, PATIENCE, pattern};
use basalt_qemu_tests::rpc_client::SpdkRpc;
use basalt_qemu_tests::{BasaltGuest, Guest, LinuxGuest, Wire, free_ports};
use basalt_runner::DebugExit;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(60);
const CLIENT: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;

fn disk(mib: u64) -> NamedTempFile {
    let made = NamedTempFile::new().and_then(|disk| {
        disk.as_file().set_len(mib * MIB)?;
        Ok(disk)
    });
    made.unwrap_or_else(|error| panic!("no disk: {error}"))
}

fn on_disk(path: &Path, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(path).and_then(|file| file.read_exact_at(&mut bytes, offset)).unwrap();
    bytes
}

trait Arguments: Sized {
    fn device(self, text: &str) -> Self;
    fn backend(self, id: &str, path: &Path, more: &str) -> Self;
}

impl Arguments for BasaltGuest {
    fn device(self, text: &str) -> Self {
        self.qemu_arg("-device").qemu_arg(text)
    }

    /// What a device of its own keeps its data in.
    fn backend(self, id: &str, path: &Path, more: &str) -> Self {
        let text = format!("if=none,id={id},format=raw,file={}{more}", path.display());
        self.qemu_arg("-drive").qemu_arg(&text)
    }
}

/// Starts a machine with one more card for the test to reach it by, and waits until it serves.
fn start(machine: BasaltGuest) -> (Guest, u16) {
    let (machine, port) = machine.user_network(4420);
    (ready(machine), port)
}

fn ready(machine: BasaltGuest) -> Guest {
    let guest = machine.start();
    guest.wait_for_line("connect with: nvme connect", BOOT);
    guest
}

fn connect(port: u16) -> Initiator {
    Initiator::connect(port).unwrap_or_else(|error| panic!("cannot connect: {error:#}"))
}

/// Writes, reads back and compares in small and large pieces, at both ends of a namespace.
fn verify_everywhere(host: &mut Initiator, on: Namespace) {
    let large = MIB as u32;
    let last = on.blocks - u64::from(large / on.block_len);
    for (seed, (lba, len)) in
        [(0, 4096), (7, 128 << 10), (0, large), (last, large)].iter().enumerate()
    {
        host.verify(on, *lba, *len, seed as u64).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn assert_alive(guest: &Guest) {
    let panicked = guest.lines().iter().any(|line| line.contains("PANIC"));
    assert!(!panicked, "Basalt panicked");
}

#[test]
fn two_drives_are_two_namespaces_and_keep_their_data_apart() {
    let (first, second) = (disk(16), disk(32));
    let (guest, port) = start(BasaltGuest::new("basalt").disk(first.path()).disk(second.path()));
    let mut host = connect(port);
    let namespaces = host.namespaces().unwrap();
    let sizes: Vec<u64> =
        namespaces.iter().map(|on| on.blocks * u64::from(on.block_len) / MIB).collect();
    assert_eq!(sizes, [16, 32]);
    for on in &namespaces {
        verify_everywhere(&mut host, *on);
        host.verify(*on, 2048, 65536, 100 + u64::from(on.nsid)).unwrap();
    }
    for (on, file) in namespaces.iter().zip([&first, &second]) {
        let expected = pattern(100 + u64::from(on.nsid), 65536);
        assert!(on_disk(file.path(), MIB, 65536) == expected, "namespace {}", on.nsid);
    }
    assert_alive(&guest);
}

#[test]
fn namespaces_of_one_drive_may_have_gaps_and_different_blocks() {
    let (small, large) = (disk(8), disk(16));
    let machine = BasaltGuest::new("basalt")
        .backend("a", small.path(), "")
        .backend("b", large.path(), "")
        .device("nvme,id=several,serial=several")
        .device("nvme-ns,drive=a,bus=several,nsid=1")
        .device(
            "nvme-ns,drive=b,bus=several,nsid=3,logical_block_size=4096,physical_block_size=4096",
        );
    let (guest, port) = start(machine);
    guest.wait_for_line("Nvme0n3: 16 MiB in blocks of 4096", PATIENCE);
    let mut host = connect(port);
    let namespaces = host.namespaces().unwrap();
    let geometry: Vec<_> = namespaces.iter().map(|on| (on.blocks, on.block_len)).collect();
    assert_eq!(geometry, [(8 * MIB / 512, 512), (16 * MIB / 4096, 4096)]);
    for on in namespaces {
        verify_everywhere(&mut host, on);
    }
    let past_the_end =
        host.read(Namespace { nsid: 1, blocks: 0, block_len: 512 }, 16384, 1).unwrap();
    assert_eq!(past_the_end.status, 0x80);
    assert_alive(&guest);
}

#[test]
fn transfers_beyond_what_the_drive_takes_at_once_are_split() {
    let file = disk(16);
    let machine = BasaltGuest::new("basalt")
        .backend("a", file.path(), "")
        .device("nvme,serial=narrow,drive=a,mdts=1");
    let (guest, port) = start(machine);
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    verify_everywhere(&mut host, on);
    host.verify(on, 11, 9 * 4096 + 512, 77).unwrap();
    assert!(on_disk(file.path(), 11 * 512, 9 * 4096 + 512) == pattern(77, 9 * 4096 + 512));
    assert_alive(&guest);
}

#[test]
fn cores_beyond_the_drives_queues_borrow_one() {
    let file = disk(16);
    let machine = BasaltGuest::new("basalt")
        .cpus(4)
        .backend("a", file.path(), "")
        .device("nvme,serial=few,drive=a,max_ioqpairs=2");
    let (guest, port) = start(machine);
    guest.wait_for_line("one queue pair on each of 2 cores", BOOT);
    // Connections go round the cores, so that these are on all of them.
    let mut hosts: Vec<_> = (0..4).map(|_| connect(port)).collect();
    for (turn, host) in hosts.iter_mut().enumerate() {
        let on = host.namespaces().unwrap()[0];
        host.verify(on, turn as u64 * 4096, 1 << 20, turn as u64).unwrap();
        verify_everywhere(host, on);
    }
    let on_one_without =
        |line: &String| ["core 2", "core 3"].iter().any(|core| line.ends_with(core));
    let lines = guest.lines();
    let borrowed = lines.iter().any(|line| line.contains("queue 1, ") && on_one_without(line));
    assert!(borrowed, "no host is on a core without a queue: {lines:#?}");
    assert_alive(&guest);
}

#[test]
fn devices_behind_two_levels_of_bridges_work() {
    let file = disk(16);
    let [port] = free_ports([4420]);
    let guest = ready(
        BasaltGuest::new("basalt")
            .backend("a", file.path(), "")
            .device("pcie-root-port,id=port1,chassis=1,slot=1")
            .device("x3130-upstream,id=up,bus=port1")
            .device("xio3130-downstream,id=down1,bus=up,chassis=2,slot=1")
            .device("xio3130-downstream,id=down2,bus=up,chassis=3,slot=2")
            .device("nvme,serial=deep,drive=a,bus=down2")
            .device("pcie-root-port,id=port2,chassis=4,slot=2")
            .device("pcie-pci-bridge,id=bridge,bus=port2")
            .qemu_arg("-netdev")
            .qemu_arg(&format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:4420"))
            .device("virtio-net-pci,netdev=n,bus=bridge,addr=3,romfile="),
    );
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    verify_everywhere(&mut host, on);
    assert_alive(&guest);
}

#[test]
fn a_machine_without_an_ecam_window_is_searched_through_io_ports() {
    let file = disk(16);
    let machine = BasaltGuest::new("basalt")
        .qemu_arg("-machine")
        .qemu_arg("pc")
        .backend("a", file.path(), "")
        .device("pci-bridge,id=bridge,chassis_nr=1")
        .device("nvme,serial=old,drive=a,bus=bridge,addr=2");
    let (guest, port) = start(machine);
    guest.wait_for_line("PCI configuration space by I/O ports", PATIENCE);
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    verify_everywhere(&mut host, on);
    assert_alive(&guest);
}

#[test]
fn a_machine_without_pci_says_what_it_lacks() {
    let machine = BasaltGuest::new("basalt").qemu_arg("-machine").qemu_arg("microvm,acpi=on");
    let guest = machine.start();
    guest.wait_for_line("no way to PCI configuration space, hence no drives", BOOT);
}

#[test]
fn registers_above_four_gigabytes_are_reached() {
    let file = disk(16);
    // The large window leaves no room for the others below.
    let machine = BasaltGuest::new("basalt")
        .memory_mib(6 << 10)
        .disk(file.path())
        .qemu_arg("-object")
        .qemu_arg("memory-backend-ram,id=window,size=4G,share=on")
        .device("ivshmem-plain,memdev=window");
    let (guest, port) = start(machine);
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    verify_everywhere(&mut host, on);
    assert_alive(&guest);
}

#[test]
fn a_transitional_network_card_is_driven_by_its_modern_half() {
    let file = disk(16);
    let [port] = free_ports([4420]);
    let guest = ready(
        BasaltGuest::new("basalt")
            .disk(file.path())
            .qemu_arg("-netdev")
            .qemu_arg(&format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:4420"))
            .device("virtio-net-pci,netdev=n,romfile="),
    );
    guest.wait_for_line("1af4:1000 virtio network card", PATIENCE);
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    verify_everywhere(&mut host, on);
    assert_alive(&guest);
}

#[test]
fn a_network_card_on_a_root_port_works() {
    let file = disk(16);
    let [port] = free_ports([4420]);
    let guest = ready(
        BasaltGuest::new("basalt")
            .disk(file.path())
            .device("pcie-root-port,id=port1,chassis=1,slot=1")
            .qemu_arg("-netdev")
            .qemu_arg(&format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:4420"))
            .device("virtio-net-pci,netdev=n,bus=port1,romfile="),
    );
    guest.wait_for_line("1af4:1041 virtio network card", PATIENCE);
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    verify_everywhere(&mut host, on);
    assert_alive(&guest);
}

#[test]
fn a_machine_without_drives_serves_an_empty_subsystem() {
    let (guest, port) = start(BasaltGuest::new("basalt"));
    guest.wait_for_line("there is no NVMe controller", PATIENCE);
    let mut host = connect(port);
    assert_eq!(host.namespaces().unwrap(), []);
    let nowhere = Namespace { nsid: 1, blocks: 1, block_len: 512 };
    assert_eq!(host.read(nowhere, 0, 1).unwrap().status, 0x0b);
    assert_alive(&guest);
}

#[test]
fn a_machine_without_a_network_card_says_what_it_lacks_and_stays_up() {
    let file = disk(16);
    let guest = BasaltGuest::new("basalt").disk(file.path()).start();
    guest.wait_for_line("there is no virtio network card: nothing can be served", BOOT);
    guest.wait_for_line("core 1 polls", BOOT);
    assert_alive(&guest);
}

#[test]
fn writes_to_a_read_only_drive_fail_and_reads_do_not() {
    let file = disk(16);
    let contents = pattern(5, MIB as usize);
    file.as_file().write_all_at(&contents, 0).unwrap();
    let machine = BasaltGuest::new("basalt")
        .backend("a", file.path(), ",readonly=on")
        .device("nvme,serial=museum,drive=a");
    let (guest, port) = start(machine);
    let mut host = connect(port);
    let on = host.namespaces().unwrap()[0];
    for (lba, len) in [(0, 4096), (16, 65536)] {
        let written = host.write(on, lba, &pattern(6, len)).unwrap();
        assert_ne!(written.status, OK, "a write of {len} bytes");
    }
    assert!(host.read(on, 0, 2048).unwrap().data == contents);
    assert!(on_disk(file.path(), 0, MIB as usize) == contents);
    assert_alive(&guest);
}

#[test]
fn errors_of_a_drive_reach_the_client_and_nobody_else() {
    let file = disk(16);
    let errors = "file.inject-error.0.event=read_aio,file.inject-error.0.sector=64,\
                  file.inject-error.1.event=write_aio,file.inject-error.1.sector=128";
    let backend = format!(
        "driver=raw,node-name=bad,file.driver=blkdebug,file.image.driver=file,\
         file.image.filename={},{errors}",
        file.path().display()
    );
    let machine = BasaltGuest::new("basalt")
        .qemu_arg("-blockdev")
        .qemu_arg(&backend)
        .device("nvme,serial=broken,drive=bad");
    let (guest, port) = start(machine);
    let (mut host, mut other) = (connect(port), connect(port));
    let on = host.namespaces().unwrap()[0];
    for round in 0..10 {
        assert_eq!(host.read(on, 64, 8).unwrap().status, UNRECOVERED_READ);
        assert_eq!(host.write(on, 128, &pattern(round, 4096)).unwrap().status, WRITE_FAULT);
        other.verify(on, 4096, 65536, round).unwrap();
        host.verify(on, 256, 4096, round).unwrap();
    }
    // The bad spot in the middle of a large read spoils that read alone.
    assert_eq!(host.read(on, 0, 256).unwrap().status, UNRECOVERED_READ);
    connect(port).verify(on, 4096, MIB as u32, 11).unwrap();
    assert_alive(&guest);
}

const ON_THE_WIRE: &str = r#"{"subsystems":[{"subsystem":"net","config":[
    {"method":"net_set_interface","params":{"name":"net0","address":"10.0.0.1/24"}}]}]}"#;

/// Has a Linux client connect with `options` and check the drive by `fio`.
fn verify_by_fio(machine: BasaltGuest, cpus: u32, options: &str, jobs: &str) -> Guest {
    let file = disk(128);
    let wire = Wire::new();
    let guest = machine.disk(file.path()).config(ON_THE_WIRE).nic(wire.near_end()).start();
    guest.wait_for_line("connect with: nvme connect", BOOT);
    let script = format!(
        r#"
        nqn=nqn.2026-11.io.basalt:storage
        connect() {{ nvme connect -t tcp -a 10.0.0.1 -s 4420 -n $nqn {options}; }}
        step ping waits 30 ping -c 1 -W 1 10.0.0.1
        step connect connect
        step disk waits 20 test -b /dev/nvme0n1
        verify() {{
            fio --name=verify --filename=/dev/nvme0n1 --rw=randrw --bsrange=4k-128k --size=16m \
                --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 \
                --do_verify=1 --randseed=20261122 {jobs}
        }}
        step fio verify
        step disconnect nvme disconnect -n $nqn
        "#
    );
    LinuxGuest::new("client", &script)
        .cpus(cpus)
        .with_fio()
        .nic(wire.far_end(), "10.0.0.2/24")
        .start()
        .wait_for_success(CLIENT);
    assert_alive(&guest);
    guest
}

#[test]
fn too_little_memory_stops_the_machine_with_what_it_needs() {
    let mut guest = BasaltGuest::new("basalt").cpus(4).memory_mib(32).start();
    assert_eq!(guest.wait_for_exit(BOOT), DebugExit::Value(1));
    guest.wait_for_line(
        " MiB free); up to two cores take 32 MiB, each further one 16 MiB more",
        BOOT,
    );
}

#[test]
fn a_hundred_and_twenty_eight_mebibytes_are_enough_to_serve() {
    verify_by_fio(BasaltGuest::new("basalt").cpus(2).memory_mib(128), 2, "", "");
}

#[test]
fn four_queues_of_one_client_are_spread_over_the_cores() {
    let jobs = "--numjobs=4 --offset_increment=16m";
    let guest = verify_by_fio(BasaltGuest::new("basalt").cpus(4), 4, "-i 4", jobs);
    let lines = guest.lines();
    let queues = lines.iter().filter(|line| line.contains("connected controller 1, queue"));
    let mut cores: Vec<&str> = queues.filter_map(|line| line.rsplit("core ").next()).collect();
    assert_eq!(cores.len(), 4, "{cores:?}");
    cores.sort_unstable();
    cores.dedup();
    assert!(cores.len() > 1, "all queues are on core {}", cores[0]);
}

#[test]
fn a_configuration_that_fails_is_told_and_json_rpc_is_served_all_the_same() {
    let one_call = |subsystem: &str, method: &str, params: &str| {
        format!(
            r#"{{"subsystems":[{{"subsystem":"{subsystem}","config":[
                {{"method":"{method}","params":{params}}}]}}]}}"#
        )
    };
    let nothing = "nothing of the configuration was carried out";
    let cases = [
        (
            one_call("bdev", "bdev_levitate", "{}"),
            "configuration:2:18: subsystems[0].config[0].method: unknown method",
            nothing,
        ),
        ("{\"subsystems\":\n [}".into(), "configuration:2:3: expected value", nothing),
        (
            one_call("net", "net_set_interface", r#"{"name":"net0","address":"10.0.0.1"}"#),
            "'10.0.0.1' is not an interface address like 10.0.0.1/24",
            nothing,
        ),
        (
            one_call("bdev", "bdev_null_delete", r#"{"name":"Null0"}"#),
            "subsystem \"bdev\", entry 0, bdev_null_delete: ",
            "the configuration was carried out up to that call",
        ),
    ];
    for (json, words, end) in cases {
        let (machine, port) = BasaltGuest::new("basalt").config(&json).user_network(5260);
        let guest = machine.start();
        guest.wait_for_line(words, BOOT);
        guest.wait_for_line(end, BOOT);
        guest.wait_for_line("basalt: ready", BOOT);
        let rpc = SpdkRpc::new(port);
        assert_eq!(rpc.call("bdev_malloc_create -b Ram0 1 512"), "Ram0");
        let exported = rpc.call("nvmf_get_subsystems");
        assert!(!exported.to_string().contains("io.basalt:storage"), "{exported}");
    }
}
