//! A machine that boots Debian's kernel and runs a script: the client of the tests.

use std::sync::OnceLock;
use std::time::Duration;

use basalt_runner::linux::{Boot, COMMAND_LINE, Files, RESULT, RESULT_OK, STEP_OK};
use basalt_runner::{Disk, Machine, Nic};

use crate::{Guest, host};

/// For scripts: `disk N` prints the path of namespace N of subsystem `$nqn`, if it is there; `gone
/// N` says whether it is not.
pub const FIND_DISK: &str = r#"
    disk() {
        for found in /sys/class/nvme-subsystem/*/nvme*n*; do
            grep -qx $nqn ${found%/*}/subsysnqn && grep -qx $1 $found/nsid &&
                test -b /dev/${found##*/} && echo /dev/${found##*/} && return
        done 2>/dev/null
        return 1
    }
    gone() { ! disk $1; }
"#;

/// Describes a machine that boots Linux, loads the NVMe/TCP initiator and runs a script.
///
/// The script is run by busybox's shell with `step NAME COMMAND…` defined: it runs the command,
/// and ends the script if that fails. Reaching its end, the script has succeeded and the machine
/// powers off.
#[derive(Debug)]
pub struct LinuxGuest {
    name: String,
    machine: Machine,
    script: String,
    address: Option<String>,
    with_fio: bool,
    modules: Vec<String>,
}

impl LinuxGuest {
    /// Two cores, 512 MiB, no drive and no network, running `script`.
    ///
    /// # Panics
    /// The client's files cannot be fetched or made.
    #[must_use]
    pub fn new(name: &str, script: &str) -> Self {
        Self {
            name: name.to_owned(),
            machine: Machine::new(files().kernel(), host().accel),
            script: script.to_owned(),
            address: None,
            with_fio: false,
            modules: Vec::new(),
        }
    }

    /// Sets the number of cores.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.machine.cpus = cpus;
        self
    }

    /// Adds a network card with a static address, such as `10.0.0.2/24`.
    #[must_use]
    pub fn nic(mut self, nic: Nic, address: &str) -> Self {
        self.machine.nics.push(nic);
        self.address = Some(address.to_owned());
        self
    }

    /// Attaches the raw image at `path` as an NVMe drive of its own.
    #[must_use]
    pub fn disk(mut self, path: &std::path::Path) -> Self {
        self.machine.disks.push(Disk { path: path.to_path_buf(), direct: false });
        self
    }

    /// Puts `fio` in reach of the script. It needs many libraries, so it is left out otherwise.
    #[must_use]
    pub fn with_fio(mut self) -> Self {
        self.with_fio = true;
        self
    }

    /// Loads one more kernel module (and those it needs) before the script runs.
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// QEMU does not start.
    #[must_use]
    pub fn start(mut self) -> Guest {
        let boot = Boot {
            script: &self.script,
            with_fio: self.with_fio,
            program: None,
            modules: &self.modules,
        };
        let initrd =
            files().initrd(&boot).unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
        let mut line = COMMAND_LINE.to_owned();
        if let Some(address) = &self.address {
            line.push_str(&format!(" basalt.address={address}"));
        }
        self.machine.command_line = Some(line);
        self.machine.initrd = Some(initrd.path().to_path_buf());
        Guest::start(&self.name, &self.machine).keep(initrd)
    }
}

impl Guest {
    /// Waits until the script of a Linux guest has passed the step `name`.
    ///
    /// # Panics
    /// The script ends or fails before, or the time runs out.
    #[track_caller]
    pub fn wait_for_step(&self, name: &str, timeout: Duration) {
        self.wait_for_line(&format!("{STEP_OK} {name}."), timeout);
    }

    /// Waits until the script of a Linux guest has ended, and the machine is off.
    ///
    /// # Panics
    /// The script failed, or the time ran out.
    #[track_caller]
    pub fn wait_for_success(&mut self, timeout: Duration) {
        let last = self.wait_for_line(RESULT, timeout);
        assert!(last.contains(RESULT_OK), "the script failed: {last}");
        self.wait_for_exit(Duration::from_secs(30));
    }
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        Files::make(&host().workspace)
            .unwrap_or_else(|error| panic!("no files for a Linux client: {error:#}"))
    })
}
