//! What each command does, in order: check, build, start, and say how it ended.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::accel::{self, Accel};
use crate::cli::{
    self, AccelChoice, Arguments, BootArguments, Command, FirmwareChoice, ImageArguments,
};
use crate::firmware::Firmware;
use crate::launch::{self, Ending};
use crate::packages::{self, QEMU, find_program};
use crate::{Bus, DebugExit, Machine, Medium, Network, Nic, Uefi, Workspace, config, disk, ports};

/// The image's NVMe/TCP port.
const GUEST_NVMF_PORT: u16 = 4420;
/// The image's JSON-RPC port.
const GUEST_RPC_PORT: u16 = 5260;
/// The image's HTTP port.
const GUEST_HTTP_PORT: u16 = 9090;

/// Does what the command line asks; the code is what the process is to exit with.
///
/// # Errors
/// Anything that keeps it from being done, as a sentence with a remedy.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let application = match &arguments.command {
        Some(Command::Image(image)) => image.application.as_deref(),
        _ => arguments.boot.application.as_deref(),
    };
    let workspace = Workspace::locate()?.with_application(application);
    match arguments.command {
        None if arguments.boot.print_command => print_command(&workspace, &arguments.boot),
        None => boot(&workspace, &arguments.boot),
        Some(Command::Image(arguments)) => image(&workspace, &arguments),
        Some(Command::Check(arguments)) => config::report(&arguments.file),
        Some(Command::Bench(bench)) => crate::bench::run(&workspace, &bench),
        Some(Command::Top(arguments)) => crate::top::run(&arguments),
        Some(Command::Trace(arguments)) => crate::trace::run(&arguments),
        Some(Command::Hosted(hosted)) => crate::hosted::run(&workspace, &hosted.arguments),
    }
}

fn image(workspace: &Workspace, arguments: &ImageArguments) -> anyhow::Result<ExitCode> {
    check_config(arguments.config.as_deref(), arguments.application.as_deref())?;
    for path in workspace.build_boot_files(arguments.config.as_deref())? {
        let size_bytes = fs::metadata(&path)?.len();
        println!("{} ({} KiB)", path.display(), size_bytes.div_ceil(1024));
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks a configuration, unless an application has methods of its own to be called.
fn check_config(config: Option<&Path>, application: Option<&str>) -> anyhow::Result<()> {
    match (config, application) {
        (Some(path), None) => config::check(path),
        (Some(path), Some(_)) => {
            fs::metadata(path).with_context(|| format!("--config {}", path.display()))?;
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

fn boot(workspace: &Workspace, arguments: &BootArguments) -> anyhow::Result<ExitCode> {
    let checked = Checked::new(workspace, arguments)?;
    check_ports(arguments)?;
    if checked.disks.contains(&default_disk(workspace)) {
        disk::create_if_missing(&default_disk(workspace), disk::DEFAULT_SIZE_BYTES)?;
    }
    let disks = disk::check_all(&checked.disks)?;
    packages::ensure_qemu(workspace)?;
    let accel = accel::choose(workspace, arguments.accel)?;
    let mut machine = Machine { disks, ..checked.machine(workspace, arguments, accel) };
    let size_bytes = match arguments.firmware {
        FirmwareChoice::Pvh => workspace.build_image()?.1,
        FirmwareChoice::Uefi => {
            machine.uefi = Some(uefi(workspace, Firmware::ensure(workspace)?));
            let [_, application, _] = workspace.build_boot_files(None)?;
            fs::metadata(application)?.len()
        }
    };
    banner(&machine, arguments, size_bytes);
    report(launch::foreground(&machine.command())?)
}

fn print_command(workspace: &Workspace, arguments: &BootArguments) -> anyhow::Result<ExitCode> {
    let checked = Checked::new(workspace, arguments)?;
    let accel = match arguments.accel {
        AccelChoice::Auto if find_program(QEMU).is_none() => Accel::Tcg,
        AccelChoice::Kvm => Accel::Kvm,
        choice => accel::choose(workspace, choice)?,
    };
    let absent = |path: &PathBuf| !path.exists();
    let disks = match checked.disks.as_slice() {
        [only] if *only == default_disk(workspace) && absent(only) => {
            vec![crate::Disk { path: only.clone(), direct: false }]
        }
        given => disk::check_all(given)?,
    };
    let mut machine = Machine { disks, ..checked.machine(workspace, arguments, accel) };
    if arguments.firmware == FirmwareChoice::Uefi {
        let firmware = Firmware::find().unwrap_or_else(Firmware::usual);
        machine.uefi = Some(uefi(workspace, firmware));
    }
    println!("{}", machine.shell_command());
    let medium = machine.uefi.as_ref().and_then(|uefi| uefi.medium.as_ref());
    if absent(medium.map_or(&machine.kernel, |medium| &medium.path)) {
        eprintln!("note: the image is not built yet; `cargo run -- image` builds it");
    }
    for missing in machine.disks.iter().map(|disk| &disk.path).filter(|path| absent(path)) {
        eprintln!("note: the disk is not there yet; `truncate -s 1G {}`", missing.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What can be checked without touching anything.
struct Checked {
    memory_mib: u64,
    cpus: u32,
    disks: Vec<PathBuf>,
}

impl Checked {
    fn new(workspace: &Workspace, arguments: &BootArguments) -> anyhow::Result<Self> {
        let memory_mib = cli::parse_memory_mib(&arguments.memory)?;
        let cpus = cli::check_cpus(arguments.cpus)?;
        cli::check_memory(memory_mib, cpus, arguments.firmware)?;
        check_config(arguments.config.as_deref(), arguments.application.as_deref())?;
        let mut disks = arguments.disks.clone();
        if disks.is_empty() {
            disks.push(default_disk(workspace));
        }
        let given: Vec<_> = disks
            .iter()
            .filter(|path| **path != default_disk(workspace) || path.exists())
            .cloned()
            .collect();
        disk::check_all(&given)?;
        Ok(Self { memory_mib, cpus, disks })
    }

    fn machine(&self, workspace: &Workspace, arguments: &BootArguments, accel: Accel) -> Machine {
        let mut machine = Machine::new(&workspace.boot_elf(), accel);
        machine.initrd.clone_from(&arguments.config);
        machine.cpus = self.cpus;
        machine.memory_mib = self.memory_mib;
        let network = Network::User(vec![
            (arguments.nvmf_port, GUEST_NVMF_PORT),
            (arguments.rpc_port, GUEST_RPC_PORT),
            (arguments.http_port, GUEST_HTTP_PORT),
        ]);
        machine.nics.push(Nic { network, mac: None });
        machine.extra = arguments.qemu_args.iter().map(OsString::from).collect();
        machine
    }
}

/// The subsystem that the image exports its drives in unless a configuration says otherwise.
const DEFAULT_NQN: &str = "nqn.2026-11.io.basalt:storage";

/// The boot disk as a USB stick.
fn uefi(workspace: &Workspace, firmware: Firmware) -> Uefi {
    Uefi { firmware, medium: Some(Medium { path: workspace.boot_disk(), bus: Bus::Usb }) }
}

pub(crate) fn default_disk(workspace: &Workspace) -> PathBuf {
    workspace.target().join("disk.img")
}

fn check_ports(arguments: &BootArguments) -> anyhow::Result<()> {
    let options = [
        ("--nvmf-port", arguments.nvmf_port),
        ("--rpc-port", arguments.rpc_port),
        ("--http-port", arguments.http_port),
    ];
    for (at, (option, port)) in options.into_iter().enumerate() {
        ports::check_free(option, port)?;
        if let Some((other, _)) = options[..at].iter().find(|(_, other)| *other == port) {
            bail!("{other} and {option} are both {port}; choose two ports");
        }
    }
    Ok(())
}

fn banner(machine: &Machine, arguments: &BootArguments, size_bytes: u64) {
    let disks: Vec<_> = machine.disks.iter().map(|disk| disk.path.display().to_string()).collect();
    eprintln!(
        "Basalt ({} KiB) on {} cores, {} MiB, {}; drives: {}",
        size_bytes.div_ceil(1024),
        machine.cpus,
        machine.memory_mib,
        machine.accel.name(),
        disks.join(", ")
    );
    eprintln!(
        "NVMe/TCP on 127.0.0.1:{}, JSON-RPC on 127.0.0.1:{}; Ctrl-C to stop",
        arguments.nvmf_port, arguments.rpc_port
    );
    eprintln!("page on http://127.0.0.1:{}/", arguments.http_port);
    if arguments.config.is_none() {
        eprintln!(
            "from this host: nvme connect -t tcp -a 127.0.0.1 -s {} -n {DEFAULT_NQN}",
            arguments.nvmf_port
        );
    }
}

fn report(ending: Ending) -> anyhow::Result<ExitCode> {
    let (code, stderr) = match ending {
        Ending::Stopped => {
            eprintln!("\nstopped");
            return Ok(ExitCode::SUCCESS);
        }
        Ending::Ended { code, stderr } => (code, stderr),
    };
    match DebugExit::decode(code, &stderr) {
        DebugExit::PoweredOff | DebugExit::Value(0) => {
            eprintln!("Basalt ended");
            Ok(ExitCode::SUCCESS)
        }
        DebugExit::Value(value) => {
            eprintln!("error: Basalt failed with status {value}; its console above says why");
            Ok(ExitCode::from(value))
        }
        DebugExit::Failed if stderr.is_empty() => match code {
            Some(code) => bail!("QEMU ended with code {code} and no word"),
            None => bail!("QEMU was killed by a signal"),
        },
        DebugExit::Failed => bail!("QEMU could not run the machine; it says why above"),
    }
}
