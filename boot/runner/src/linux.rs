//! Linux to compare with and to test against: Debian's kernel, busybox, the NVMe/TCP initiator and
//! fio, taken from Debian's packages without installing them, and a script to run.
//!
//! The script is run by busybox's shell with `step NAME COMMAND…` defined: it runs the command,
//! and ends the script if that fails; and `waits SECONDS COMMAND…`: until it succeeds. Reaching its
//! end, the script has succeeded and the machine powers off.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::Workspace;

mod cpio;
mod initramfs;
mod kernel;
mod libraries;
mod modules;
mod packages;

/// What is printed by a script's `step` that went well, before its name.
pub const STEP_OK: &str = "BASALT-STEP-OK";
/// Starts the last line of any script.
pub const RESULT: &str = "BASALT-RESULT";
/// The last line of a script that reached its end.
pub const RESULT_OK: &str = "BASALT-RESULT 0";

/// The kernel's command line; more may follow.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 tsc=reliable clocksource=tsc";

/// The files every Linux guest boots from.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    kernel: PathBuf,
    base: PathBuf,
    fio: PathBuf,
}

/// What one guest is to do.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// What it runs.
    pub script: &'a str,
    /// Puts `fio` in reach of the script. It needs many libraries, so it is left out otherwise.
    pub with_fio: bool,
    /// A program of the host's to put in reach of the script, linked statically.
    pub program: Option<&'a Path>,
    /// Kernel modules to load besides the usual drivers.
    pub modules: &'a [String],
}

impl Files {
    /// Fetches the packages, unless an earlier run did, and makes the files.
    ///
    /// # Errors
    /// The packages cannot be fetched, or lack what is expected of them.
    pub fn make(workspace: &Workspace) -> anyhow::Result<Self> {
        let directory = workspace.target().join("guest");
        let _lock = workspace.lock("guest")?;
        let root = packages::fetch(&directory)?;
        let files = Self {
            kernel: directory.join("vmlinux"),
            base: directory.join("base.cpio"),
            fio: directory.join("fio.cpio"),
            root,
        };
        // Made anew by each process: that takes a moment, and they can never be stale.
        write(&files.kernel, &kernel::extract(&files.root)?)?;
        write(&files.base, &initramfs::base(&files.root)?)?;
        write(&files.fio, &initramfs::fio(&files.root)?)?;
        Ok(files)
    }

    /// The kernel, to be entered directly.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Makes the initial RAM disk of one guest.
    ///
    /// # Errors
    /// It cannot be written, or the kernel lacks a module.
    pub fn initrd(&self, boot: &Boot<'_>) -> anyhow::Result<NamedTempFile> {
        let mut archive = cpio::Archive::default();
        archive.file("script", 0o755, boot.script.as_bytes());
        if let Some(path) = boot.program {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let data = fs::read(path).with_context(|| format!("no {}", path.display()))?;
            archive.file(&format!("usr/bin/{name}"), 0o755, &data);
        }
        if !boot.modules.is_empty() {
            initramfs::add_modules(&mut archive, &self.root, boot.modules)?;
        }
        let mut all = NamedTempFile::new().context("no place for the initial RAM disk")?;
        let mut parts = vec![&self.base];
        parts.extend(boot.with_fio.then_some(&self.fio));
        // The kernel unpacks archives that follow one another into one tree.
        for part in parts {
            io::copy(&mut File::open(part)?, &mut all)?;
        }
        all.write_all(&archive.finish())?;
        Ok(all)
    }
}

/// Replaces `path` in one step: a guest of another process may be reading it.
fn write(path: &Path, data: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let result = fs::write(&partial, data).and_then(|()| fs::rename(&partial, path));
    result.with_context(|| format!("cannot write {}", path.display()))
}
