//! Makes the linked image bootable: drops what only debuggers need and adds the table of symbols
//! that the image's own backtraces are named from.
//!
//! The result has program headers only. The linked file beside it keeps everything for `gdb` and
//! `objdump`. For firmware, [`uefi_application`] turns the result into a PE file, and
//! [`write_medium`] puts that on a disk to boot from.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

mod elf;
mod medium;
mod pe;
mod symbols;
#[cfg(test)]
mod tests;

pub use medium::{Contents as MediumContents, write as write_medium};
pub use pe::from_elf as uefi_application;
pub use symbols::{LINK_BASE, SymbolTable};

/// Reads the linked image, writes the bootable one and returns its size in bytes.
///
/// The new file replaces the old one in one step, so that a QEMU reading it is not disturbed.
///
/// # Errors
/// A file cannot be read or written, or the linked one is not an image of ours: no 64-bit ELF, no
/// PVH note, no `BASALT_SYMBOLS`, or no room for one more segment.
pub fn prepare(linked: &Path, boot: &Path) -> anyhow::Result<u64> {
    let data =
        fs::read(linked).with_context(|| format!("cannot read the image {}", linked.display()))?;
    let bytes =
        bootable(&data).with_context(|| format!("cannot make {} bootable", linked.display()))?;
    replace(boot, |partial| {
        let mut file = fs::File::create(partial)?;
        Ok(file.write_all(&bytes)?)
    })?;
    Ok(bytes.len() as u64)
}

/// Lets `write` make a file that then takes the place of `path` in one step.
///
/// # Errors
/// `write` fails, or the file cannot be put there.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let made = write(&partial).and_then(|()| Ok(fs::rename(&partial, path)?));
    made.with_context(|| format!("cannot write {}", path.display()))
}

/// The bootable form of a linked image.
///
/// # Errors
/// See [`prepare`].
pub fn bootable(linked: &[u8]) -> anyhow::Result<Vec<u8>> {
    let table = SymbolTable::read(linked)?;
    elf::Image::parse(linked)?.with_symbols(&table.to_bytes()?)
}
