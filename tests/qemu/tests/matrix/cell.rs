//! One machine of the matrix, and what is verified on it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use basalt_qemu_tests::initiator::{Initiator, Namespace, pattern};
use basalt_qemu_tests::{BasaltGuest, Guest};
use basalt_runner::Bus;
use tempfile::NamedTempFile;

/// Firmware takes its time with 32 cores on a host of two.
const BOOT: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;
/// The smallest drive; each further one is larger by a mebibyte, which tells them apart.
const SMALLEST_MIB: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Pvh,
    Uefi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Little: what the cores, the drives and the firmware need.
    Least,
    Mib(u64),
    /// Two NUMA nodes with half of the cores and 768 MiB each.
    TwoNodes,
}

/// How the drives are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridges {
    /// On the root bus.
    None,
    /// Each behind a root port of its own.
    RootPorts,
    /// Behind a switch's ports.
    Switch,
    /// Behind root ports of a second host bridge.
    SecondRoot,
}

/// Whether an IOMMU keeps the devices, the network card included, to the memory they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    Absent,
    Intel,
}

#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub firmware: Firmware,
    pub cpus: u32,
    pub memory: Memory,
    pub bridges: Bridges,
    pub iommu: Iommu,
    pub drives: u32,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            firmware: Firmware::Pvh,
            cpus: 1,
            memory: Memory::Least,
            bridges: Bridges::None,
            iommu: Iommu::Absent,
            drives: 1,
        }
    }
}

impl Cell {
    /// Boots the machine; writes and reads back every drive, and looks at the data from outside.
    pub fn verify(&self) {
        let disks: Vec<_> = (0..self.drives).map(|drive| disk(drive_mib(drive))).collect();
        let (machine, port) = self.machine(&disks).user_network(4420);
        println!("{}", machine.shell_command());
        let guest = machine.start();
        guest.wait_for_line("basalt: ready", BOOT);
        self.verify_cores(&guest);
        if self.iommu == Iommu::Intel {
            guest.wait_for_line("1 remapping units keep devices to the DMA memory", BOOT);
        }
        let mut host = Initiator::connect(port).unwrap();
        let namespaces = host.namespaces().unwrap();
        assert_eq!(namespaces.len(), disks.len());
        for (drive, disk) in (0..self.drives).zip(&disks) {
            let blocks = drive_mib(drive) * MIB / 512;
            let on = namespaces.iter().find(|on| on.blocks == blocks);
            verify_drive(&mut host, *on.unwrap_or_else(|| panic!("drive {drive}")), disk);
        }
        let wrong = |line: &&String| line.contains("PANIC") || line.contains("was kept from");
        assert_eq!(guest.lines().iter().find(wrong), None);
    }

    fn verify_cores(&self, guest: &Guest) {
        let lines = guest.lines();
        let said = |words: String| lines.iter().any(|line| line.contains(&words));
        for core in 0..self.cpus {
            assert!(said(format!("core {core} is up")), "core {core} is not up");
            assert!(said(format!("core {core}: all {} cores answer it", self.cpus)));
        }
    }

    fn machine(&self, disks: &[NamedTempFile]) -> BasaltGuest {
        let guest = BasaltGuest::new("basalt").cpus(self.cpus).memory_mib(self.memory_mib());
        let guest = match self.firmware {
            Firmware::Pvh => guest,
            Firmware::Uefi => guest.uefi(Bus::Usb),
        };
        let guest = if self.memory == Memory::TwoNodes { self.two_nodes(guest) } else { guest };
        let guest = match self.iommu {
            Iommu::Absent => guest,
            Iommu::Intel => with_iommu(guest),
        };
        let guest = with_devices(guest, self.bridges.common());
        disks.iter().zip(0..).fold(guest, |guest, (disk, drive)| {
            let path = disk.path().display();
            let guest = with_devices(guest, self.bridges.port(drive));
            let bus = self.bridges.bus(drive);
            guest
                .qemu_arg("-drive")
                .qemu_arg(&format!("if=none,id=drive{drive},format=raw,file={path}"))
                .qemu_arg("-device")
                .qemu_arg(&format!("nvme,serial=cell{drive},drive=drive{drive},bus={bus}"))
        })
    }

    fn memory_mib(&self) -> u64 {
        match self.memory {
            Memory::Mib(mib) => mib,
            Memory::TwoNodes => 1536,
            Memory::Least => self.least_mib(),
        }
    }

    /// Each core has stacks and I/O memory, and a queue pair with each drive.
    fn least_mib(&self) -> u64 {
        let firmware = if self.firmware == Firmware::Uefi { 32 } else { 0 };
        let tables = if self.iommu == Iommu::Intel { 8 } else { 0 };
        let image = 16 * self.cpus.max(2) + (self.cpus + 1) * (self.drives - 1);
        firmware + tables + u64::from(image)
    }

    fn two_nodes(&self, guest: BasaltGuest) -> BasaltGuest {
        // The runner makes room for two cores at least, and each must be on a node.
        let cpus = self.cpus.max(2);
        let cores = [(0, cpus / 2 - 1), (cpus / 2, cpus - 1)];
        cores.iter().enumerate().fold(guest, |guest, (node, (first, last))| {
            guest
                .qemu_arg("-object")
                .qemu_arg(&format!("memory-backend-ram,id=node{node},size=768M"))
                .qemu_arg("-numa")
                .qemu_arg(&format!("node,nodeid={node},memdev=node{node},cpus={first}-{last}"))
        })
    }
}

impl Bridges {
    /// What all drives are behind.
    fn common(self) -> Vec<String> {
        match self {
            Self::None | Self::RootPorts => Vec::new(),
            Self::Switch => vec![
                "pcie-root-port,id=root,chassis=100,slot=100".into(),
                "x3130-upstream,id=switch,bus=root".into(),
            ],
            Self::SecondRoot => vec!["pxb-pcie,id=second,bus_nr=64,bus=pcie.0".into()],
        }
    }

    /// The port that one drive is behind.
    fn port(self, drive: u32) -> Vec<String> {
        let slot = drive + 1;
        let place = format!("id=port{drive},chassis={slot},slot={slot}");
        match self {
            Self::None => Vec::new(),
            // Without I/O ports: sixteen windows of them are more than a machine has.
            Self::RootPorts => vec![format!("pcie-root-port,{place},io-reserve=0")],
            Self::Switch => vec![format!("xio3130-downstream,{place},bus=switch")],
            Self::SecondRoot => vec![format!("pcie-root-port,{place},io-reserve=0,bus=second")],
        }
    }

    fn bus(self, drive: u32) -> String {
        if self == Self::None { "pcie.0".into() } else { format!("port{drive}") }
    }
}

/// All devices go through it: virtio ones only if they are told to.
fn with_iommu(guest: BasaltGuest) -> BasaltGuest {
    guest
        .qemu_arg("-device")
        .qemu_arg("intel-iommu")
        .qemu_arg("-global")
        .qemu_arg("virtio-device.iommu_platform=on")
}

fn with_devices(guest: BasaltGuest, devices: Vec<String>) -> BasaltGuest {
    devices.iter().fold(guest, |guest, device| guest.qemu_arg("-device").qemu_arg(device))
}

const fn drive_mib(drive: u32) -> u64 {
    SMALLEST_MIB + drive as u64
}

fn disk(mib: u64) -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(mib * MIB).unwrap();
    disk
}

fn verify_drive(host: &mut Initiator, on: Namespace, disk: &NamedTempFile) {
    let last = on.blocks - 8;
    for (lba, len) in [(0, 64 << 10), (301, 4096), (last, 4096)] {
        let seed = on.blocks + lba;
        host.verify(on, lba, len, seed).unwrap();
        let mut stored = vec![0; len as usize];
        let file = File::open(disk.path()).unwrap();
        file.read_exact_at(&mut stored, lba * 512).unwrap();
        assert!(stored == pattern(seed, len as usize), "namespace {} at {lba}", on.nsid);
    }
}
