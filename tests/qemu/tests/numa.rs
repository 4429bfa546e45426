//! Cores and the memory near them: each core's DMA memory is its node's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use basalt_qemu_tests::initiator::Initiator;
use basalt_qemu_tests::{BasaltGuest, Guest};
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);

/// A node's memory in MiB and its cores, such as `0-1`; none is a node of memory alone.
type Node = (u64, Option<&'static str>);

fn machine(cpus: u32, nodes: &[Node]) -> BasaltGuest {
    let mib = nodes.iter().map(|(mib, _)| mib).sum();
    let machine = BasaltGuest::new("numa").cpus(cpus).memory_mib(mib);
    nodes.iter().enumerate().fold(machine, |machine, (node, (mib, cpus))| {
        let cpus = cpus.map(|cpus| format!(",cpus={cpus}")).unwrap_or_default();
        machine
            .qemu_arg("-object")
            .qemu_arg(&format!("memory-backend-ram,id=node{node},size={mib}M"))
            .qemu_arg("-numa")
            .qemu_arg(&format!("node,nodeid={node},memdev=node{node}{cpus}"))
    })
}

/// What the log says of a node's cores: how many there are, and how much each has.
fn node(guest: &Guest, node: u32) -> (u64, u64) {
    let line = guest.wait_for_line(&format!("memory: node {node} has "), BOOT);
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [_, cores, mib] = numbers[..] else { panic!("{line}") };
    (cores, mib)
}

fn verify(machine: BasaltGuest) -> Guest {
    let disk = NamedTempFile::new().and_then(|disk| {
        disk.as_file().set_len(64 << 20)?;
        Ok(disk)
    });
    let disk = disk.unwrap_or_else(|error| panic!("no disk: {error}"));
    let (machine, port) = machine.disk(disk.path()).user_network(4420);
    let guest = machine.start();
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let on = host.namespaces().unwrap()[0];
    host.verify(on, 0, 1 << 20, 1).unwrap();
    guest
}

#[test]
fn each_core_has_the_memory_of_its_own_node() {
    let guest = verify(machine(4, &[(1024, Some("0")), (512, Some("1-3"))]));
    let (first, second) = (node(&guest, 0), node(&guest, 1));
    assert_eq!((first.0, second.0), (1, 3));
    // The first node's single core has half of its gibibyte but for the heap; three share a quarter
    // of one.
    assert!(first.1 > 250 && (50..=85).contains(&second.1), "{first:?} {second:?}");
}

#[test]
fn memory_of_a_node_without_cores_goes_to_the_nearest_that_has_some() {
    let distances = ["src=0,dst=2,val=40", "src=1,dst=2,val=12", "src=0,dst=1,val=21"];
    let machine = machine(2, &[(1024, Some("0")), (512, Some("1")), (1024, None)]);
    let machine = distances.iter().fold(machine, |machine, distance| {
        machine.qemu_arg("-numa").qemu_arg(&format!("dist,{distance}"))
    });
    let guest = verify(machine);
    let (first, second) = (node(&guest, 0), node(&guest, 1));
    assert_eq!((first.0, second.0), (1, 1));
    // Half of what is left of one node; of two it is more than a core takes.
    assert!(first.1 < 250 && second.1 == 512, "{first:?} {second:?}");
}

#[test]
fn a_node_with_too_little_memory_gets_some_of_another() {
    let guest = verify(machine(2, &[(48, Some("0")), (464, Some("1"))]));
    guest.wait_for_line("a node has too little for its cores", BOOT);
}

#[test]
fn a_drive_with_few_queues_gives_them_to_the_cores_of_its_node() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let (machine, port) = machine(4, &[(512, Some("0-1")), (512, Some("2-3"))]).user_network(4420);
    let device = |machine: BasaltGuest, device| machine.qemu_arg("-device").qemu_arg(device);
    let machine = device(machine, "pxb-pcie,id=far,bus_nr=0x80,numa_node=1,bus=pcie.0");
    let machine = device(machine, "pcie-root-port,id=below,bus=far,chassis=9")
        .qemu_arg("-drive")
        .qemu_arg(&format!("if=none,id=few,format=raw,file={}", file.path().display()));
    let guest = device(machine, "nvme,serial=few,drive=few,max_ioqpairs=2,bus=below").start();
    guest.wait_for_line("is on node 1", BOOT);
    guest.wait_for_line("queues for 2 of 4 cores, which lend them to the others: [2, 3]", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
    let mut host = Initiator::connect(port).unwrap();
    let on = host.namespaces().unwrap()[0];
    host.verify(on, 0, 1 << 20, 1).unwrap();
}

#[test]
fn sixty_four_cores_serve() {
    let guest = verify(BasaltGuest::new("many").cpus(64).memory_mib(2048));
    guest.wait_for_line("core 63: all 64 cores answer it", BOOT);
}

/// Whether this QEMU emulates x2APIC, which it does from 8.2 on.
fn emulates_x2apic() -> bool {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(3).unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(8), Some(2))
}

#[test]
fn a_core_whose_identifier_takes_more_than_eight_bits_serves() {
    if !emulates_x2apic() {
        return eprintln!("left out: this QEMU is older than 8.2 and does not emulate x2APIC");
    }
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    // Seven bits for the cores of a socket: the second core is 3 << 7 | 1.
    let machine = BasaltGuest::new("far").cpus(1).disk(file.path());
    let (machine, port) = machine.user_network(4420);
    let guest = machine
        .qemu_arg("-smp")
        .qemu_arg("1,sockets=4,cores=100,threads=1,maxcpus=400")
        .qemu_arg("-device")
        .qemu_arg("max-x86_64-cpu,socket-id=3,core-id=1,thread-id=0")
        .start();
    guest.wait_for_line("cores: 2 (x2APIC)", BOOT);
    guest.wait_for_line("core 1 is up, APIC 385", BOOT);
    guest.wait_for_line("basalt: ready", BOOT);
    let mut hosts: Vec<_> = (0..2).map(|_| Initiator::connect(port).unwrap()).collect();
    for (turn, host) in hosts.iter_mut().enumerate() {
        let on = host.namespaces().unwrap()[0];
        host.verify(on, turn as u64 * 4096, 1 << 20, turn as u64).unwrap();
    }
}
