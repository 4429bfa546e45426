//! The archives a client boots from: a base with the drivers and small tools, and one with `fio`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::cpio::Archive;
use super::libraries::{LOADER, Libraries};
use super::modules::Modules;

/// The drivers, in an order that also covers what is only looked for at run time (checksums).
const MODULES: &[&str] =
    &["crc32c_generic", "crc32c_intel", "virtio_pci", "virtio_net", "nvme", "nvme_tcp", "ext4"];

/// Beside those of busybox, which are found first where both have one.
const PROGRAMS: &[&str] = &[
    "usr/sbin/nvme",
    "sbin/mke2fs",
    "sbin/e2fsck",
    "sbin/debugfs",
    "sbin/dumpe2fs",
    "sbin/blkdiscard",
    "sbin/blkzone",
    "usr/bin/fallocate",
];

const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:5ba5a170-0000-4000-8000-000000000001\n";
const HOST_ID: &str = "5ba5a170-0000-4000-8000-000000000001\n";

/// Drivers, busybox, `nvme`, the tools of ext4 and of block devices.
pub(super) fn base(root: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("init", 0o755, include_bytes!("init.sh"));
    let busybox = root.join("bin/busybox");
    let busybox = fs::read(&busybox).with_context(|| format!("no {}", busybox.display()))?;
    archive.file("bin/busybox", 0o755, &busybox);
    archive.symlink("bin/sh", "busybox");
    archive.symlink("sbin/mkfs.ext4", "mke2fs");
    archive.file("etc/nvme/hostnqn", 0o644, HOST_NQN.as_bytes());
    archive.file("etc/nvme/hostid", 0o644, HOST_ID.as_bytes());
    archive.file("etc/mke2fs.conf", 0o644, &fs::read(root.join("etc/mke2fs.conf"))?);
    add_modules(&mut archive, root, &[])?;
    add_programs(&mut archive, root, PROGRAMS)?;
    Ok(archive.finish())
}

/// `fio` and the libraries it is linked with.
pub(super) fn fio(root: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    add_programs(&mut archive, root, &["usr/bin/fio"])?;
    Ok(archive.finish())
}

/// Adds the usual drivers and `more`. A later archive replaces the list of an earlier one.
pub(super) fn add_modules(
    archive: &mut Archive,
    root: &Path,
    more: &[String],
) -> anyhow::Result<()> {
    let wanted: Vec<&str> =
        MODULES.iter().copied().chain(more.iter().map(String::as_str)).collect();
    let mut order = String::new();
    for module in Modules::scan(root)?.in_order(&wanted)? {
        order.push_str(&module.name);
        order.push('\n');
        archive.file(&format!("modules/{}.ko", module.name), 0o644, &module.data);
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    Ok(())
}

fn add_programs(archive: &mut Archive, root: &Path, programs: &[&str]) -> anyhow::Result<()> {
    let paths: Vec<PathBuf> = programs.iter().map(|program| root.join(program)).collect();
    for (program, path) in programs.iter().zip(&paths) {
        let data = fs::read(path).with_context(|| format!("no {}", path.display()))?;
        archive.file(program, 0o755, &data);
    }
    for (name, path) in Libraries::scan(root)?.of(&paths)? {
        let data = fs::read(&path)?;
        let directory = if name == LOADER { "lib64" } else { "lib/x86_64-linux-gnu" };
        archive.file(&format!("{directory}/{name}"), 0o755, &data);
    }
    Ok(())
}
