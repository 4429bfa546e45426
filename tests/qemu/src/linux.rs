//! A machine that boots Debian's kernel and runs a script: the client of the tests.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use basalt_runner::{Disk, Machine, Nic};
use tempfile::NamedTempFile;

use crate::{Guest, host};

mod cpio;
mod initramfs;
mod kernel;
mod libraries;
mod modules;
mod packages;

/// What is printed by a script's `step` that went well, before its name.
const STEP_OK: &str = "BASALT-STEP-OK";
/// The last line of a script that reached its end.
const RESULT_OK: &str = "BASALT-RESULT 0";
/// Starts the last line of any script.
const RESULT: &str = "BASALT-RESULT";

/// The files every client boots from, made once.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    kernel: PathBuf,
    base: PathBuf,
    fio: PathBuf,
}

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
            machine: Machine::new(&files().kernel, host().accel),
            script: script.to_owned(),
            address: None,
            with_fio: false,
            modules: Vec::new(),
        }
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
        let initrd = self.initrd().unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
        let mut line = "console=ttyS0 quiet panic=-1 tsc=reliable clocksource=tsc".to_owned();
        if let Some(address) = &self.address {
            line.push_str(&format!(" basalt.address={address}"));
        }
        self.machine.command_line = Some(line);
        self.machine.initrd = Some(initrd.path().to_path_buf());
        Guest::start(&self.name, &self.machine).keep(initrd)
    }

    /// The kernel unpacks archives that follow one another into one tree.
    fn initrd(&self) -> anyhow::Result<NamedTempFile> {
        let mut archive = cpio::Archive::default();
        archive.file("script", 0o755, self.script.as_bytes());
        if !self.modules.is_empty() {
            initramfs::add_modules(&mut archive, &files().root, &self.modules)?;
        }
        let mut all = NamedTempFile::new().context("no place for the initial RAM disk")?;
        let mut parts = vec![&files().base];
        parts.extend(self.with_fio.then_some(&files().fio));
        for part in parts {
            let mut file = std::fs::File::open(part)?;
            std::io::copy(&mut file, &mut all)?;
        }
        std::io::Write::write_all(&mut all, &archive.finish())?;
        Ok(all)
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
        make_files().unwrap_or_else(|error| panic!("no files for a Linux client: {error:#}"))
    })
}

/// Fetches and makes the files, unless an earlier run did.
fn make_files() -> anyhow::Result<Files> {
    let workspace = &host().workspace;
    let directory = workspace.target().join("guest");
    let _lock = workspace.lock("guest")?;
    let root = packages::fetch(&directory)?;
    let files = Files {
        root: root.clone(),
        kernel: directory.join("vmlinux"),
        base: directory.join("base.cpio"),
        fio: directory.join("fio.cpio"),
    };
    // Made anew at each run of the tests: that takes a moment, and they can never be stale.
    write(&files.kernel, &kernel::extract(&root)?)?;
    write(&files.base, &initramfs::base(&root)?)?;
    write(&files.fio, &initramfs::fio(&root)?)?;
    Ok(files)
}

/// Replaces `path` in one step: a guest of another test process may be reading it.
fn write(path: &std::path::Path, data: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let result = std::fs::write(&partial, data).and_then(|()| std::fs::rename(&partial, path));
    result.with_context(|| format!("cannot write {}", path.display()))
}
