//! Checks the disks a user passes, and creates the default one.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::Disk;

/// Size of the disk that is created when none is given, in bytes.
pub const DEFAULT_SIZE_BYTES: u64 = 1 << 30;

const BLOCK_SIZE_BYTES: u64 = 512;

/// Creates a sparse disk of `size_bytes` at `path` unless something is there already.
///
/// # Errors
/// The file cannot be created. What exists is never touched.
pub fn create_if_missing(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create the directory {}", parent.display()))?;
    }
    match File::create_new(path) {
        Ok(file) => file
            .set_len(size_bytes)
            .with_context(|| format!("cannot give {} its size", path.display())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// Checks that every path is a disk QEMU can write to, named once.
///
/// # Errors
/// The first that is not, with what to do about it.
pub fn check_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Disk>> {
    let mut seen = Vec::new();
    let mut disks = Vec::new();
    for path in paths {
        disks.push(check(path)?);
        let real = path.canonicalize()?;
        if seen.contains(&real) {
            bail!("--disk {}: given twice; two drives cannot share one disk", path.display());
        }
        seen.push(real);
    }
    Ok(disks)
}

fn check(path: &Path) -> anyhow::Result<Disk> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("--disk {shown}: no such file; create one with `truncate -s 1G {shown}`")
        }
        Err(error) => bail!("--disk {shown}: {error}; check the path and its permissions"),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        bail!("--disk {shown}: this is a directory; name a raw disk image or a block device");
    }
    if !kind.is_file() && !kind.is_block_device() {
        bail!("--disk {shown}: neither a file nor a block device; name one of them");
    }
    // Permission bits do not bind the administrator, but a file marked read-only is meant so.
    if metadata.permissions().readonly() {
        bail!("--disk {shown}: read-only; allow writing with `chmod u+w {shown}`, or copy it");
    }
    let size_bytes = writable_size(path)?;
    if size_bytes == 0 || size_bytes % BLOCK_SIZE_BYTES != 0 {
        bail!(
            "--disk {shown}: its size, {size_bytes} bytes, is not a multiple of \
             {BLOCK_SIZE_BYTES} above zero; extend it with `truncate -s %4096 {shown}` \
             or `truncate -s 1G {shown}`"
        );
    }
    Ok(Disk { path: path.to_path_buf(), direct: supports_direct(path) })
}

fn writable_size(path: &Path) -> anyhow::Result<u64> {
    let shown = path.display();
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
        anyhow::anyhow!(
            "--disk {shown}: cannot open it to read and write ({error}); correct its \
             permissions, or name another disk"
        )
    })?;
    Ok(file.seek(SeekFrom::End(0))?)
}

/// Whether the file system lets QEMU pass the host's page cache by (not every one does).
fn supports_direct(path: &Path) -> bool {
    let direct = nix::fcntl::OFlag::O_DIRECT.bits();
    OpenOptions::new().read(true).write(true).custom_flags(direct).open(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        check_all(&[path.to_path_buf()]).unwrap_err().to_string()
    }

    #[test]
    fn a_created_disk_is_sparse_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/disk.img");
        create_if_missing(&path, 1 << 20).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        fs::write(&path, [7; 512]).unwrap();
        create_if_missing(&path, 1 << 20).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; 512]);
        check_all(&[path]).unwrap();
    }

    #[test]
    fn what_cannot_be_a_disk_is_refused_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        assert!(refusal(&path).contains("truncate -s 1G"));
        assert!(refusal(directory.path()).contains("directory"));
        fs::write(&path, [0; 700]).unwrap();
        assert!(refusal(&path).contains("700 bytes"));
        fs::write(&path, []).unwrap();
        assert!(refusal(&path).contains("above zero"));
        fs::write(&path, [0; 512]).unwrap();
        let twice = [path.clone(), path.clone()];
        assert!(check_all(&twice).unwrap_err().to_string().contains("twice"));
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        assert!(refusal(&path).contains("read-only"));
        assert!(refusal(Path::new("/dev/null")).contains("block device"));
    }
}
