//! A virtual machine, described and rendered as a QEMU command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::accel::Accel;
use crate::firmware::Firmware;
use crate::packages::QEMU;

/// The fw_cfg file that the image takes its configuration from when there is no module.
const CONFIG_FILE: &str = "opt/basalt/config";

/// A disk to attach as an NVMe drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A raw image or a block device.
    pub path: PathBuf,
    /// Whether QEMU is to pass the host's page cache by.
    pub direct: bool,
}

/// What a network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own network with DHCP, reached from 127.0.0.1 by these (host, guest) TCP ports.
    User(Vec<(u16, u16)>),
    /// One end of a wire to another QEMU by this unix socket; one end listens.
    Listen(PathBuf),
    /// The other end of such a wire.
    Connect(PathBuf),
}

/// A virtio network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// What it is plugged into.
    pub network: Network,
    /// Its address; cards on one wire need different ones.
    pub mac: Option<[u8; 6]>,
}

/// What the boot disk is plugged into, for firmware to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A USB stick.
    Usb,
    /// A SATA disk.
    Ahci,
    /// An NVMe drive, which the image will find as well.
    Nvme,
}

/// What boots a machine by way of its firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uefi {
    /// The machine's firmware.
    pub firmware: Firmware,
    /// The boot disk; without one, firmware boots from what else has a boot index.
    pub medium: Option<Medium>,
}

/// A boot disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// A raw image. It is not written: changes are dropped when the machine ends.
    pub path: PathBuf,
    /// What it is plugged into.
    pub bus: Bus,
}

/// A q35 machine that boots an ELF or Linux kernel directly or by UEFI firmware, console on
/// standard output.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel, for direct boot.
    pub kernel: PathBuf,
    /// Boots from a disk instead of directly.
    pub uefi: Option<Uefi>,
    /// The module beside the kernel: Basalt's configuration, or an initial RAM disk. Firmware knows
    /// no such thing, so a machine with firmware gets it as a fw_cfg file with a configuration.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// Number of processor cores.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// What executes the guest.
    pub accel: Accel,
    /// NVMe drives, in order.
    pub disks: Vec<Disk>,
    /// Network cards, in order.
    pub nics: Vec<Nic>,
    /// Further arguments, passed through.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// A machine with two cores and 512 MiB that boots `kernel`.
    #[must_use]
    pub fn new(kernel: &Path, accel: Accel) -> Self {
        Self {
            kernel: kernel.to_path_buf(),
            uefi: None,
            initrd: None,
            command_line: None,
            cpus: 2,
            memory_mib: 512,
            accel,
            disks: Vec::new(),
            nics: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command.args(self.arguments());
        command
    }

    /// The same command as text for a shell.
    #[must_use]
    pub fn shell_command(&self) -> String {
        let words = self.arguments();
        let quoted = words.iter().map(|word| shell_quote(&word.to_string_lossy()));
        std::iter::once(QEMU.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut list = ArgumentList::default();
        list.pair("-machine", "q35");
        list.pair("-accel", self.accel.qemu_accel());
        if self.accel == Accel::Counted {
            list.pair("-icount", "shift=0,sleep=off");
        }
        list.pair("-cpu", "max");
        // Two possible cores even for one: before QEMU 8.1, emulation of a machine that can only
        // have one core leaves out memory fences, and the devices live in another thread.
        list.pair("-smp", format!("{},maxcpus={}", self.cpus, self.cpus.max(2)));
        list.pair("-m", format!("{}M", self.memory_mib));
        match &self.uefi {
            Some(uefi) => list.uefi(uefi, self.initrd.as_deref()),
            None => list.kernel(self),
        }
        for (index, disk) in self.disks.iter().enumerate() {
            list.disk(index, disk);
        }
        for (index, nic) in self.nics.iter().enumerate() {
            list.nic(index, nic);
        }
        list.pair("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04");
        list.pair("-serial", "stdio");
        list.pair("-display", "none");
        list.0.extend(["-no-reboot".into(), "-nodefaults".into()]);
        list.0.extend(self.extra.iter().cloned());
        list.0
    }
}

#[derive(Default)]
struct ArgumentList(Vec<OsString>);

impl ArgumentList {
    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    fn kernel(&mut self, machine: &Machine) {
        self.pair("-kernel", &machine.kernel);
        if let Some(initrd) = &machine.initrd {
            self.pair("-initrd", initrd);
        }
        if let Some(line) = &machine.command_line {
            self.pair("-append", line);
        }
    }

    fn uefi(&mut self, uefi: &Uefi, config: Option<&Path>) {
        let Firmware { code, variables } = &uefi.firmware;
        let flash = |unit: u8, mode: &str, path: &Path| {
            format!("if=pflash,unit={unit},format=raw,{mode}=on,file={}", escape_commas(path))
        };
        self.pair("-drive", flash(0, "readonly", code));
        self.pair("-drive", flash(1, "snapshot", variables));
        if let Some(medium) = &uefi.medium {
            self.medium(medium);
        }
        if let Some(config) = config {
            let file = escape_commas(config);
            self.pair("-fw_cfg", format!("name={CONFIG_FILE},file={file}"));
        }
    }

    fn medium(&mut self, medium: &Medium) {
        let path = escape_commas(&medium.path);
        self.pair("-drive", format!("if=none,id=boot,format=raw,snapshot=on,file={path}"));
        // The boot index keeps firmware from trying the drives and the network first.
        let device = match medium.bus {
            Bus::Usb => {
                self.pair("-device", "qemu-xhci");
                "usb-storage,drive=boot,bootindex=0"
            }
            Bus::Ahci => "ide-hd,bus=ide.0,drive=boot,bootindex=0",
            Bus::Nvme => "nvme,id=nvme-boot,serial=basalt-boot,drive=boot,bootindex=0",
        };
        self.pair("-device", device);
    }

    fn disk(&mut self, index: usize, disk: &Disk) {
        let cache = if disk.direct { "none" } else { "writeback" };
        let mut drive = OsString::from(format!("if=none,id=disk{index},format=raw,file="));
        drive.push(escape_commas(&disk.path));
        drive.push(format!(",cache={cache},discard=unmap"));
        self.pair("-drive", drive);
        let device = format!("nvme,id=nvme{index},serial=basalt-disk{index},drive=disk{index}");
        self.pair("-device", device);
    }

    fn nic(&mut self, index: usize, nic: &Nic) {
        let mut netdev = OsString::new();
        match &nic.network {
            Network::User(forwards) => {
                netdev.push(format!("user,id=net{index}"));
                for (host, guest) in forwards {
                    netdev.push(format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
                }
            }
            Network::Listen(path) | Network::Connect(path) => {
                let listens = matches!(nic.network, Network::Listen(_));
                let server = if listens { "on" } else { "off" };
                netdev.push(format!("stream,id=net{index},server={server},addr.type=unix"));
                netdev.push(",addr.path=");
                netdev.push(escape_commas(path));
            }
        }
        self.pair("-netdev", netdev);
        // The boot ROM is left out: nothing boots from the network.
        let mut device =
            format!("virtio-net-pci,id=nic{index},netdev=net{index},disable-legacy=on,romfile=");
        if let Some([a, b, c, d, e, f]) = nic.mac {
            device.push_str(&format!(",mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
        }
        self.pair("-device", device);
    }
}

/// QEMU separates suboptions by commas; one inside a path is doubled.
fn escape_commas(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// Quotes one word for a POSIX shell.
#[must_use]
pub fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,.:/@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a QEMU that ended has to say about its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugExit {
    /// The guest powered off or restarted, or QEMU was told to stop.
    PoweredOff,
    /// QEMU itself failed, or a signal ended it.
    Failed,
    /// The guest wrote this value to its exit port.
    Value(u8),
}

impl DebugExit {
    /// Decodes QEMU's exit code (`None` if a signal ended it). A guest's value `v` arrives as
    /// `v << 1 | 1`, so 0 looks like a failure of QEMU's own; but those come with a reason in
    /// `stderr`, which is what QEMU wrote to standard error.
    #[must_use]
    pub fn decode(code: Option<i32>, stderr: &str) -> Self {
        let complained = stderr.lines().any(|line| !line.contains("warning:"));
        match code {
            Some(0) => Self::PoweredOff,
            Some(1) if complained => Self::Failed,
            Some(code @ 1..=255) if code & 1 == 1 => {
                u8::try_from(code >> 1).map_or(Self::Failed, Self::Value)
            }
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_still_leaves_room_for_two() {
        let mut machine = Machine::new(Path::new("/k"), Accel::Tcg);
        machine.cpus = 1;
        let text = machine.shell_command();
        assert!(text.contains("-smp 1,maxcpus=2 "), "{text}");
        machine.cpus = 4;
        assert!(machine.shell_command().contains("-smp 4,maxcpus=4 "));
    }

    #[test]
    fn every_disk_is_a_drive_with_its_own_serial() {
        let mut machine = Machine::new(Path::new("/k"), Accel::Tcg);
        machine.disks = vec![
            Disk { path: "/a,b".into(), direct: true },
            Disk { path: "/it's".into(), direct: false },
        ];
        let text = machine.shell_command();
        assert!(text.contains("file=/a,,b,cache=none"), "{text}");
        assert!(text.contains(r"'if=none,id=disk1,format=raw,file=/it'\''s,cache=writeback"));
        assert!(text.contains("serial=basalt-disk0") && text.contains("serial=basalt-disk1"));
    }

    #[test]
    fn ports_are_forwarded_from_the_loopback_address_only() {
        let mut machine = Machine::new(Path::new("/k"), Accel::Kvm);
        let network = Network::User(vec![(14420, 4420)]);
        machine.nics.push(Nic { network, mac: None });
        assert!(machine.shell_command().contains("hostfwd=tcp:127.0.0.1:14420-:4420"));
    }

    #[test]
    fn firmware_takes_the_place_of_the_kernel() {
        let mut machine = Machine::new(Path::new("/k"), Accel::Tcg);
        machine.initrd = Some("/config.json".into());
        let medium = Some(Medium { path: "/boot.img".into(), bus: Bus::Usb });
        machine.uefi = Some(Uefi { firmware: Firmware::usual(), medium });
        let text = machine.shell_command();
        assert!(!text.contains("-kernel") && !text.contains("-initrd"), "{text}");
        assert!(text.contains("if=pflash,unit=0,format=raw,readonly=on,file="), "{text}");
        assert!(text.contains("if=pflash,unit=1,format=raw,snapshot=on,file="), "{text}");
        assert!(text.contains("usb-storage,drive=boot,bootindex=0"), "{text}");
        assert!(text.contains("name=opt/basalt/config,file=/config.json"), "{text}");
    }

    #[test]
    fn an_exit_code_tells_the_guest_from_qemu() {
        assert_eq!(DebugExit::decode(Some(0), ""), DebugExit::PoweredOff);
        assert_eq!(DebugExit::decode(Some(1), "qemu: warning: x\n"), DebugExit::Value(0));
        assert_eq!(DebugExit::decode(Some(1), "qemu: no such disk\n"), DebugExit::Failed);
        assert_eq!(DebugExit::decode(Some(85), "anything"), DebugExit::Value(42));
        assert_eq!(DebugExit::decode(Some(2), ""), DebugExit::Failed);
        assert_eq!(DebugExit::decode(None, ""), DebugExit::Failed);
    }
}
