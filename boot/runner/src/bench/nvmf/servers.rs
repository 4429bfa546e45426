//! The targets: the image as it boots, and Linux with its target set up by configfs.

use std::path::Path;

use tempfile::NamedTempFile;

use super::super::machine;
use super::client;
use crate::accel::Accel;
use crate::linux::{Boot, COMMAND_LINE, Files};
use crate::{Machine, Network, Nic, ports};

/// What the image says once it can be reached.
pub(super) const IMAGE_MARK: &str = "basalt: ready";
/// What it exports its drives as.
pub(super) const IMAGE_SUBSYSTEM: &str = "nqn.2026-11.io.basalt:storage";

pub(super) const LINUX_MARK: &str = "BENCH-SERVING";
pub(super) const LINUX_SUBSYSTEM: &str = "nqn.2026-11.io.basalt:nvmet";
const LINUX_MEMORY_MIB: u64 = 1024;

/// NVMe/TCP's port, and the guest's address in QEMU's own network.
const PORT: u16 = 4420;
const RPC_PORT: u16 = 5260;
const HTTP_PORT: u16 = 9090;
const ADDRESS: &str = "10.0.2.15/24";

/// The kernel's documentation of nvmet calls these by the same names.
const SCRIPT: &str = "
step drive waits 20 test -b /dev/nvme0n1
step configfs mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/nvmet
step subsystem mkdir subsystems/$NQN
echo 1 >subsystems/$NQN/attr_allow_any_host
step namespace mkdir subsystems/$NQN/namespaces/1
echo -n /dev/nvme0n1 >subsystems/$NQN/namespaces/1/device_path
echo 1 >subsystems/$NQN/namespaces/1/enable
step port mkdir ports/1
echo tcp >ports/1/addr_trtype
echo ipv4 >ports/1/addr_adrfam
echo 0.0.0.0 >ports/1/addr_traddr
echo $PORT >ports/1/addr_trsvcid
step export ln -s /sys/kernel/config/nvmet/subsystems/$NQN ports/1/subsystems/$NQN
echo $MARK
sleep 3600
";

/// A server that is yet to be started, at a free port of this host.
pub(super) fn target(subsystem: &'static str) -> anyhow::Result<client::Target> {
    let port = ports::pick_free()?;
    Ok(client::Target { port, subsystem, client: client::Waits::Resting })
}

/// A machine with the image, whose target is reached at `port` of this host.
pub(super) fn image(kernel: &Path, accel: Accel, port: u16) -> Machine {
    server(kernel, accel, port)
}

/// The same, which is managed and read as well: at these ports of this host its target, JSON-RPC
/// and HTTP.
pub(super) fn managed_image(kernel: &Path, accel: Accel, ports: [u16; 3]) -> Machine {
    let mut machine = machine(kernel, accel, None, 1);
    let forwards = ports.into_iter().zip([PORT, RPC_PORT, HTTP_PORT]).collect();
    machine.nics.push(Nic { network: Network::User(forwards), mac: None });
    machine
}

/// The same with Linux; the file is to be kept as long as the machine.
pub(super) fn linux(
    files: &Files,
    accel: Accel,
    port: u16,
) -> anyhow::Result<(Machine, NamedTempFile)> {
    let script = format!("NQN={LINUX_SUBSYSTEM}\nPORT={PORT}\nMARK={LINUX_MARK}\n{SCRIPT}");
    let modules = ["nvmet", "nvmet-tcp"].map(str::to_owned);
    let boot = Boot { script: &script, with_fio: false, program: None, modules: &modules };
    let initrd = files.initrd(&boot)?;
    let mut machine = server(files.kernel(), accel, port);
    machine.memory_mib = LINUX_MEMORY_MIB;
    machine.initrd = Some(initrd.path().to_path_buf());
    machine.command_line = Some(format!("{COMMAND_LINE} basalt.address={ADDRESS}"));
    Ok((machine, initrd))
}

fn server(kernel: &Path, accel: Accel, port: u16) -> Machine {
    let mut machine = machine(kernel, accel, None, 1);
    machine.nics.push(Nic { network: Network::User(vec![(port, PORT)]), mac: None });
    machine
}
