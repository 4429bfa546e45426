//! Debian packages: installs what is missing where that is possible, and otherwise names the one
//! command to type.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::Workspace;

/// The name of QEMU's program.
pub const QEMU: &str = "qemu-system-x86_64";

/// Makes sure QEMU is installed.
///
/// # Errors
/// It is missing and cannot be installed; the error names the command that would.
pub fn ensure_qemu(workspace: &Workspace) -> anyhow::Result<()> {
    ensure(workspace, QEMU, &["qemu-system-x86"])
}

/// Makes sure `program` is in `PATH`, installing `packages` when it is not.
///
/// # Errors
/// It is missing and cannot be installed; the error names the command that would.
pub fn ensure(workspace: &Workspace, program: &str, packages: &[&str]) -> anyhow::Result<()> {
    ensure_that(workspace, program, packages, || find_program(program).is_some())
}

/// Makes sure `what` is there, installing `packages` when it is not.
///
/// # Errors
/// It is missing and cannot be installed; the error names the command that would.
pub fn ensure_that(
    workspace: &Workspace,
    what: &str,
    packages: &[&str],
    is_there: impl Fn() -> bool,
) -> anyhow::Result<()> {
    if is_there() {
        return Ok(());
    }
    let by_hand = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !is_debian() || !nix::unistd::geteuid().is_root() {
        bail!("{what} is not installed; install it with: sudo {by_hand}");
    }
    let _lock = workspace.lock("packages")?;
    if is_there() {
        return Ok(());
    }
    eprintln!("{what} is not installed; running: apt-get update && {by_hand}");
    apt_update().with_context(|| format!("install {what} by hand with: {by_hand}"))?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
        .with_context(|| format!("install {what} by hand with: {by_hand}"))?;
    if !is_there() {
        bail!("{what} is still missing after: {by_hand}");
    }
    Ok(())
}

/// Fetches the lists of packages. Only the administrator can.
///
/// # Errors
/// apt-get fails; its last words are in the error.
pub fn apt_update() -> anyhow::Result<()> {
    apt(&["update"])
}

/// Whether this is Debian or one of its descendants.
#[must_use]
pub fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && find_program("apt-get").is_some()
}

/// Finds `program` in `PATH`, or in the administrator's directories.
#[must_use]
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| fs::metadata(candidate).is_ok_and(|found| found.is_file()))
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    bail!("apt-get {} failed: {}", arguments.join(" "), words.trim());
}
