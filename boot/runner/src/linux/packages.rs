//! Fetches the packages a client is made of and unpacks them, without installing anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::packages::{apt_update, is_debian};
use anyhow::{Context as _, bail};

/// The cloud variant has all the drivers needed and is half as large.
const KERNEL: &str = "linux-image-cloud-amd64";
const PROGRAMS: &[&str] = &["busybox-static", "nvme-cli", "fio", "e2fsprogs", "util-linux"];
/// Changes when what is fetched does, so that older trees are not used.
const TREE: &str = "root-2";

/// The directory with the unpacked packages; fetched if it is not there.
pub(super) fn fetch(directory: &Path) -> anyhow::Result<PathBuf> {
    let root = directory.join(TREE);
    if root.is_dir() {
        return Ok(root.canonicalize()?);
    }
    if !is_debian() {
        bail!("the Linux guest is made of Debian's packages; this needs Debian");
    }
    eprintln!("fetching packages for a Linux guest into {}", root.display());
    if let Err(error) = fetch_once(directory, &root) {
        // No lists of packages, or outdated ones.
        eprintln!("{error:#}; running: apt-get update");
        apt_update().context("run as root, or type: sudo apt-get update")?;
        fetch_once(directory, &root)?;
    }
    Ok(root.canonicalize()?)
}

fn fetch_once(directory: &Path, root: &Path) -> anyhow::Result<()> {
    let names = closure()?;
    let downloads = directory.join("packages");
    if downloads.exists() {
        fs::remove_dir_all(&downloads)?;
    }
    fs::create_dir_all(&downloads)
        .with_context(|| format!("cannot create {}", downloads.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download"]);
    output(download.args(&names).current_dir(&downloads))?;
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    for entry in fs::read_dir(&downloads)? {
        output(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&partial))?;
    }
    fs::rename(&partial, root)?;
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// The packages, and the libraries they depend on.
fn closure() -> anyhow::Result<BTreeSet<String>> {
    let is_kernel = |name: &str| name.starts_with("linux-image-");
    let mut all = depends(&[KERNEL.to_owned()].into(), is_kernel)?;
    if all.is_empty() {
        bail!("no package {KERNEL} is known");
    }
    all.insert("libgcc-s1".to_owned());
    let mut added: BTreeSet<String> = PROGRAMS.iter().map(|name| (*name).to_owned()).collect();
    while !added.is_empty() {
        let is_library = |name: &str| name.starts_with("lib") || name.starts_with("zlib");
        let next = depends(&added, is_library)?;
        all.append(&mut added);
        added = next.difference(&all).cloned().collect();
    }
    Ok(all)
}

/// What these packages depend on, as far as `wanted`.
fn depends(
    packages: &BTreeSet<String>,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<BTreeSet<String>> {
    let text = output(Command::new("apt-cache").args(["depends", "--important"]).args(packages))?;
    let names = text.lines().filter_map(|line| line.split_once("Depends: "));
    Ok(names.map(|(_, name)| name.trim().to_owned()).filter(|name| wanted(name)).collect())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
