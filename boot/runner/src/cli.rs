//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Builds Basalt and boots it in QEMU.
///
/// Without options: two cores, 512 MiB, one NVMe drive kept in target/disk.img, served by
/// NVMe/TCP on 127.0.0.1:4420, managed by JSON-RPC on 127.0.0.1:5260 and shown on a page at
/// http://127.0.0.1:9090/. Ctrl-C stops it.
#[derive(Debug, Parser)]
#[command(name = "basalt-runner", bin_name = "cargo run --", version)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do; without it the image is built and booted.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to boot it on.
    #[command(flatten)]
    pub boot: BootArguments,
}

/// Other things to do than to boot.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Only build the boot files, into target/image
    ///
    /// basalt.elf boots by PVH (QEMU's -kernel, Firecracker, Cloud Hypervisor), basalt.efi is a
    /// UEFI application, and basalt.img a disk with it, to be written to a USB stick or a drive.
    Image(ImageArguments),
    /// Check a configuration without booting anything
    ///
    /// Checks what can be known before it is carried out: JSON, structure, the names of subsystems
    /// and methods, and every method's parameters. Prints FILE:LINE:COLUMN: PATH: MESSAGE for all
    /// that is wrong, and fails if anything is. The image does the same before it does anything.
    Check(CheckArguments),
    /// Measure 4 KiB random reads beside fio on Linux; takes about two minutes
    ///
    /// Runs Basalt's image and Debian with fio (io_uring), one after the other, each on one core
    /// with the same NVMe drive, at each depth: I/Os per second, latency from submission to
    /// completion (mean, p50, p99, p99.9), and guest instructions per I/O, counted by QEMU's
    /// -icount. Waiting is left out of those: Basalt's polls that find nothing, and Linux's idle
    /// loop; Linux's interrupts count. Prints both and by what factor Basalt is better. The first
    /// run also fetches Debian's packages for the guest (some 100 MB).
    ///
    /// Rates under emulation tell little about real machines, and other load on this one disturbs
    /// them; their ratio is more telling, and instructions hardly vary.
    Bench(BenchArguments),
    /// Show what a machine that runs is busy with, second by second
    ///
    /// Its cores, their pollers, bdevs and the connections of hosts, as spdk_top does.
    Top(crate::top::TopArguments),
    /// Trace a machine that runs for some seconds, into a file for chrome://tracing and Perfetto
    ///
    /// Switches tracepoints on, takes over what they write, and switches off again what was off
    /// before, also after Ctrl-C.
    Trace(crate::trace::TraceArguments),
    /// Serve from this host instead: the same program as a process of Linux
    ///
    /// Builds the hosted twin and hands it all that follows; `hosted --help` lists its options.
    /// Without any it serves target/disk.img, as the virtual machine does.
    #[command(disable_help_flag = true)]
    Hosted(HostedArguments),
}

/// What the hosted twin is to be told.
#[derive(Debug, clap::Args)]
pub struct HostedArguments {
    /// Options of the hosted twin
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// What is to be checked.
#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// Configuration in SPDK's JSON form
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The options of building the boot files.
#[derive(Debug, clap::Args)]
pub struct ImageArguments {
    /// Build the image with an application in it: a package of this workspace, as basalt-scrub is
    #[arg(long, value_name = "PACKAGE")]
    pub application: Option<String>,

    /// Configuration in SPDK's JSON form, put on the boot disk as \basalt.json
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What fio is measured with as well.
pub const DEFAULT_WORKLOAD: &str = "randread";
/// What fio is measured with as well, bytes.
pub const DEFAULT_IO_SIZE: u32 = 4096;

/// Options that say what I/O is measured.
const WHAT_IS_MEASURED: [&str; 12] = [
    "t_io_uring",
    "time",
    "depths",
    "ios",
    "disk",
    "hosted",
    "bdev",
    "config",
    "workload",
    "rwmixread",
    "io_size",
    "cores",
];

/// The options of a benchmark.
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    /// Seconds to measure at each depth, after half a second of warming up
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub time: f64,

    /// I/Os in flight; may be repeated [default: 1 and 32]
    #[arg(long = "depth", value_name = "N")]
    pub depths: Vec<u32>,

    /// I/Os over which instructions are counted, at each depth [default: 20000]
    #[arg(long, value_name = "N")]
    pub ios: Option<u64>,

    /// Measure in the hosted twin, at the host's own speed and without a machine; instructions are
    /// counted by valgrind
    #[arg(long, conflicts_with = "disk")]
    pub hosted: bool,

    /// What is measured; the image has its drive as Nvme0n1, the hosted twin a null bdev as Null0
    #[arg(long, value_name = "NAME")]
    pub bdev: Option<String>,

    /// Configuration in SPDK's JSON form, carried out first: the bdevs to measure
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// bdevperf's workloads: randread, randwrite, randrw, read, write, rw, verify, flush, unmap or
    /// write_zeroes. All that write overwrite what is on the bdev
    #[arg(long, value_name = "NAME", default_value = DEFAULT_WORKLOAD)]
    pub workload: String,

    /// Of 100 I/Os of a mixed workload, how many read
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    pub rwmixread: u8,

    /// Bytes of each I/O
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_IO_SIZE)]
    pub io_size: u32,

    /// Cores that take part, each with its own I/Os
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cores: u32,

    /// A raw disk image or block device as the image's drive
    ///
    /// Without this option the drive has no medium and answers at once (QEMU's null-co), so that
    /// software is what is measured.
    #[arg(long, value_name = "PATH")]
    pub disk: Option<PathBuf>,

    /// What executes the guests when rates are measured; auto as for a boot
    #[arg(long, value_enum, value_name = "HOW", default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,

    /// Measure Basalt alone, in some 15 seconds; so it is unless the I/O is the default one
    #[arg(long)]
    pub skip_fio: bool,

    /// Measure beside fio's t/io_uring, polled, instead of fio, on a machine of two cores; the
    /// program, linked statically
    #[arg(long, value_name = "PATH", conflicts_with_all = ["skip_fio", "hosted"])]
    pub t_io_uring: Option<PathBuf>,

    /// Measure the boot instead: from QEMU's start to the first completed NVMe read, and beside it
    /// Linux with a small initial RAM disk
    #[arg(long, conflicts_with_all = WHAT_IS_MEASURED)]
    pub boot: bool,

    /// Measure the rest instead: the host's processor time while the machine has nothing to do, and
    /// how fast it is there when a frame comes, beside Linux
    #[arg(long, conflicts_with_all = WHAT_IS_MEASURED, conflicts_with = "boot")]
    pub idle: bool,

    /// Measure the image as a target of NVMe/TCP instead, beside Linux's nvmet-tcp: random reads
    /// and writes of 4 KiB by one and by two connections, at depths 1, 32 and 128 of each
    ///
    /// With --hosted it is the hosted twin, alone, over loopback, and the instructions that reads
    /// take, by layer.
    #[arg(long, conflicts_with_all = ["t_io_uring", "disk", "bdev", "config", "workload",
        "rwmixread", "io_size", "cores", "boot", "idle"])]
    pub nvmf: bool,

    /// With --nvmf, measure the image alone, with and without clients that call methods and read
    /// the metrics all the time
    #[arg(long, requires = "nvmf", conflicts_with = "hosted")]
    pub hammer: bool,

    /// Print JSON instead of a table; times are in nanoseconds
    #[arg(long)]
    pub json: bool,
}

/// The options of a boot.
#[derive(Debug, clap::Args)]
pub struct BootArguments {
    /// Processor cores; one reactor runs on each
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: u32,

    /// Memory: a number with M or G, such as 512M or 2G; a bare number counts MiB
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub memory: String,

    /// A raw disk image or block device to attach as an NVMe drive; may be repeated
    ///
    /// An existing file is used as it is. Without this option the drive is target/disk.img,
    /// created as a sparse file of 1 GiB when it is not there.
    #[arg(long = "disk", value_name = "PATH")]
    pub disks: Vec<PathBuf>,

    /// Configuration in SPDK's JSON form, handed to the image at boot
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Boot the image with an application in it: a package of this workspace, as basalt-scrub is
    ///
    /// Its methods are known to the image alone, so a configuration is checked there and not here.
    #[arg(long, value_name = "PACKAGE")]
    pub application: Option<String>,

    /// How the image is started
    #[arg(long, value_enum, value_name = "HOW", default_value_t = FirmwareChoice::Pvh)]
    pub firmware: FirmwareChoice,

    /// Port on 127.0.0.1 that reaches the image's NVMe/TCP port 4420
    #[arg(long, value_name = "PORT", default_value_t = 4420)]
    pub nvmf_port: u16,

    /// Port on 127.0.0.1 that reaches the image's JSON-RPC port 5260
    #[arg(long, value_name = "PORT", default_value_t = 5260)]
    pub rpc_port: u16,

    /// Port on 127.0.0.1 that reaches the image's HTTP port 9090, its page and metrics
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    pub http_port: u16,

    /// What executes the guest; auto tries KVM once and falls back to emulation
    #[arg(long, value_enum, value_name = "HOW", default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,

    /// One more argument for QEMU, as in --qemu-arg=-s; may be repeated
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<String>,

    /// Print the QEMU command instead of running it; builds and creates nothing
    #[arg(long)]
    pub print_command: bool,
}

/// What starts the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FirmwareChoice {
    /// QEMU itself, at once.
    Pvh,
    /// UEFI firmware (OVMF), from a boot disk.
    Uefi,
}

/// The user's wish for what executes the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM where a trial guest runs under it, otherwise emulation.
    Auto,
    /// The processor itself.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// Parses a memory size into MiB: `512M`, `2G`, or a bare number of MiB.
///
/// # Errors
/// Text that is no such size.
pub fn parse_memory_mib(text: &str) -> anyhow::Result<u64> {
    const MEMORY_MAX_MIB: u64 = 1 << 20;
    let (digits, unit_mib) = match text.char_indices().last() {
        Some((at, 'G' | 'g')) => (&text[..at], 1024),
        Some((at, 'M' | 'm')) => (&text[..at], 1),
        _ => (text, 1),
    };
    let size = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_mib));
    let Some(size_mib) = size.filter(|mib| *mib <= MEMORY_MAX_MIB) else {
        anyhow::bail!(
            "--memory {text}: not a memory size; give a number with M or G, such as 512M or 2G"
        );
    };
    Ok(size_mib)
}

/// Checks that the image, and the firmware that starts it, can do with `memory_mib`.
///
/// # Errors
/// They cannot; the error says how much they need.
pub fn check_memory(memory_mib: u64, cpus: u32, firmware: FirmwareChoice) -> anyhow::Result<()> {
    let image_mib = (16 * u64::from(cpus)).max(32);
    let least_mib = match firmware {
        FirmwareChoice::Pvh => image_mib,
        FirmwareChoice::Uefi => image_mib + 32,
    };
    anyhow::ensure!(
        memory_mib >= least_mib,
        "--memory {memory_mib}M: too little memory; with this firmware and --cpus {cpus}, Basalt \
         needs at least {least_mib}M (512M is the default)"
    );
    Ok(())
}

/// Checks the number of cores.
///
/// # Errors
/// None, or more than an 8-bit APIC identifier can number.
pub fn check_cpus(cpus: u32) -> anyhow::Result<u32> {
    const CPUS_MAX: u32 = 255;
    if (1..=CPUS_MAX).contains(&cpus) {
        return Ok(cpus);
    }
    anyhow::bail!("--cpus {cpus}: give a number from 1 to {CPUS_MAX}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn memory_is_read_in_megabytes_and_gigabytes() {
        assert_eq!(parse_memory_mib("512M").unwrap(), 512);
        assert_eq!(parse_memory_mib("2G").unwrap(), 2048);
        assert_eq!(parse_memory_mib("96").unwrap(), 96);
    }

    #[test]
    fn nonsense_is_no_memory_size() {
        for text in ["", "M", "12X", "-1G", "99999999999999999999G", "2048000000G"] {
            assert!(parse_memory_mib(text).is_err(), "{text}");
        }
    }

    #[test]
    fn too_little_memory_for_the_cores_or_the_firmware_is_refused() {
        let enough = |mib, cpus, firmware| check_memory(mib, cpus, firmware).is_ok();
        assert!(enough(32, 2, FirmwareChoice::Pvh) && !enough(31, 1, FirmwareChoice::Pvh));
        assert!(enough(64, 4, FirmwareChoice::Pvh) && !enough(63, 4, FirmwareChoice::Pvh));
        assert!(enough(64, 2, FirmwareChoice::Uefi) && !enough(63, 2, FirmwareChoice::Uefi));
    }

    #[test]
    fn zero_cores_are_refused() {
        assert!(check_cpus(0).is_err());
        assert!(check_cpus(256).is_err());
        assert_eq!(check_cpus(4).unwrap(), 4);
    }
}
