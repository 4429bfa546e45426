//! A machine that boots Basalt.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;
use basalt_runner::firmware::Firmware;
use basalt_runner::{Bus, Disk, Machine, Medium, Network, Nic, Uefi, ports};

use crate::{Guest, host};

/// Describes a machine that boots Basalt; [`start`](Self::start) starts it.
#[derive(Debug)]
pub struct BasaltGuest {
    name: String,
    machine: Machine,
    config: Option<String>,
}

impl BasaltGuest {
    /// Two cores, 512 MiB, no drive and no network.
    ///
    /// # Panics
    /// The image does not build.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let machine = Machine::new(boot_image(), host().accel);
        Self { name: name.to_owned(), machine, config: None }
    }

    /// Boots the image with an application in it, a package of this workspace.
    ///
    /// # Panics
    /// It does not build.
    #[must_use]
    pub fn application(self, package: &str) -> Self {
        let workspace = host().workspace.clone().with_application(Some(package));
        match workspace.build_image() {
            Ok((elf, _)) => self.kernel(&elf),
            Err(error) => panic!("{package}: {error:#}"),
        }
    }

    /// Boots the file at `path` in place of the image.
    #[must_use]
    pub fn kernel(mut self, path: &Path) -> Self {
        self.machine.kernel = path.to_path_buf();
        self
    }

    /// Sets the number of cores.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.machine.cpus = cpus;
        self
    }

    /// Sets the memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.machine.memory_mib = memory_mib;
        self
    }

    /// Attaches the raw image at `path` as an NVMe drive.
    #[must_use]
    pub fn disk(mut self, path: &Path) -> Self {
        self.machine.disks.push(Disk { path: path.to_path_buf(), direct: false });
        self
    }

    /// Boots by UEFI firmware from a disk on `bus` with the image and nothing else.
    ///
    /// # Panics
    /// The image does not build, or there is no firmware.
    #[must_use]
    pub fn uefi(self, bus: Bus) -> Self {
        let [_, _, disk] = boot_files();
        self.uefi_from(bus, disk)
    }

    /// Boots by UEFI firmware from the raw boot disk at `medium`.
    ///
    /// # Panics
    /// There is no firmware.
    #[must_use]
    pub fn uefi_from(self, bus: Bus, medium: &Path) -> Self {
        self.firmware(Some(Medium { path: medium.to_path_buf(), bus }))
    }

    /// Boots by UEFI firmware from one of the machine's drives, which it writes.
    ///
    /// # Panics
    /// There is no firmware.
    #[must_use]
    pub fn uefi_from_drives(self) -> Self {
        self.firmware(None)
    }

    /// Boots by UEFI firmware from the network (PXE): DHCP names the UEFI application in the
    /// directory `served`, TFTP delivers it. The card it comes by is on QEMU's own network and
    /// stays the image's; the free port of 127.0.0.1 that is returned reaches `guest_port` there.
    ///
    /// # Panics
    /// There is no firmware, or the host has no free port.
    #[must_use]
    pub fn uefi_from_network(self, served: &Path, name: &str, guest_port: u16) -> (Self, u16) {
        let [port] = free_ports([guest_port]);
        let network = format!("hostfwd=tcp:127.0.0.1:{port}-:{guest_port}");
        let served = served.display();
        let guest = self
            .firmware(None)
            .qemu_arg("-netdev")
            .qemu_arg(&format!("user,id=boot,tftp={served},bootfile={name},{network}"))
            .qemu_arg("-device")
            .qemu_arg("virtio-net-pci,netdev=boot,disable-legacy=on,romfile=,bootindex=0");
        (guest, port)
    }

    fn firmware(mut self, medium: Option<Medium>) -> Self {
        let firmware = Firmware::ensure(&host().workspace);
        let firmware = firmware.unwrap_or_else(|error| panic!("no firmware: {error:#}"));
        self.machine.uefi = Some(Uefi { firmware, medium });
        self
    }

    /// Hands this configuration (SPDK's JSON form) to the image.
    #[must_use]
    pub fn config(mut self, json: &str) -> Self {
        self.config = Some(json.to_owned());
        self
    }

    /// Adds a network card.
    #[must_use]
    pub fn nic(mut self, nic: Nic) -> Self {
        self.machine.nics.push(nic);
        self
    }

    /// Adds a network card on QEMU's own network, where `guest_port` is reached by a free port of
    /// 127.0.0.1, and returns that port.
    ///
    /// # Panics
    /// The host has no free port.
    #[must_use]
    pub fn user_network(self, guest_port: u16) -> (Self, u16) {
        let (guest, [port]) = self.user_network_ports([guest_port]);
        (guest, port)
    }

    /// The same for several ports; those of 127.0.0.1 are in the same order.
    ///
    /// # Panics
    /// The host has not enough free ports.
    #[must_use]
    pub fn user_network_ports<const N: usize>(mut self, guest_ports: [u16; N]) -> (Self, [u16; N]) {
        let ports = free_ports(guest_ports);
        let forwards = ports.into_iter().zip(guest_ports).collect();
        self.machine.nics.push(Nic { network: Network::User(forwards), mac: None });
        (self, ports)
    }

    /// The same by that port of 127.0.0.1, which is free.
    #[must_use]
    pub fn user_network_at(self, port: u16, guest_port: u16) -> Self {
        self.user_network_at_all([(port, guest_port)])
    }

    /// The same for several ports, each with the guest's.
    #[must_use]
    pub fn user_network_at_all<const N: usize>(mut self, forwards: [(u16, u16); N]) -> Self {
        let network = Network::User(Vec::from(forwards));
        self.machine.nics.push(Nic { network, mac: None });
        self
    }

    /// Puts a text into QEMU's fw_cfg under `name`.
    #[must_use]
    pub fn firmware_file(self, name: &str, text: &str) -> Self {
        self.qemu_arg("-fw_cfg").qemu_arg(&format!("name={name},string={text}"))
    }

    /// Passes one more argument to QEMU.
    #[must_use]
    pub fn qemu_arg(mut self, argument: &str) -> Self {
        self.machine.extra.push(argument.into());
        self
    }

    /// The command that starts it, for a shell.
    #[must_use]
    pub fn shell_command(&self) -> String {
        self.machine.shell_command()
    }

    /// Starts it.
    ///
    /// # Panics
    /// QEMU does not start.
    #[must_use]
    pub fn start(self) -> Guest {
        let Some(json) = &self.config else { return Guest::start(&self.name, &self.machine) };
        let file = write_config(json).unwrap_or_else(|error| panic!("{error:#}"));
        let machine = Machine { initrd: Some(file.path().to_path_buf()), ..self.machine };
        let guest = Guest::start(&self.name, &machine);
        // Nothing tells when QEMU has read the file, so it stays as long as the guest.
        guest.keep(file)
    }
}

/// A free port of 127.0.0.1 for each of `guest_ports`.
///
/// # Panics
/// The host has not enough.
#[must_use]
pub fn free_ports<const N: usize>(guest_ports: [u16; N]) -> [u16; N] {
    guest_ports.map(|_| match ports::pick_free() {
        Ok(port) => port,
        Err(error) => panic!("{error:#}"),
    })
}

pub(crate) fn write_config(json: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new().context("no place for the configuration")?;
    fs::write(file.path(), json).context("cannot write the configuration")?;
    Ok(file)
}

/// The bootable image; built at the first call.
///
/// # Panics
/// The image does not build.
#[must_use]
pub fn boot_image() -> &'static Path {
    let [elf, ..] = boot_files();
    elf
}

/// The UEFI application; built at the first call.
///
/// # Panics
/// The image does not build.
#[must_use]
pub fn uefi_application() -> &'static Path {
    let [_, efi, _] = boot_files();
    efi
}

fn boot_files() -> &'static [PathBuf; 3] {
    static FILES: OnceLock<[PathBuf; 3]> = OnceLock::new();
    FILES.get_or_init(|| match host().workspace.build_boot_files(None) {
        Ok(files) => files,
        Err(error) => panic!("{error:#}"),
    })
}
