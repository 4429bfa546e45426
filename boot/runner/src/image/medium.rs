//! The boot disk: a GPT with an EFI system partition, which has a FAT32 file system with the UEFI
//! application under the name that firmware looks for on any disk (UEFI 2.10 §3.5.1.1, §13.3), and
//! a partition that the machine saves its configuration in.

use std::fs::File;
use std::io::{self, Cursor, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use basalt_bdev::uuid;
use basalt_bdev::vbdev::gpt::CONFIG_KIND;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::OperatingSystem;
use gpt::{GptConfig, partition_types};

#[cfg(test)]
mod tests;

const BLOCK_SIZE: u64 = 512;
const MIB: u64 = 1 << 20;
/// Where the partitions begin, and what is left behind them for the other copy of the table.
const MARGIN_BYTES: u64 = MIB;
/// Two slots of the largest size.
const CONFIG_BYTES: u64 = MIB;
/// Smaller ones hold too few clusters to be FAT32.
const ESP_BYTES_MIN: u64 = 64 * MIB;
/// Room that stays free for a configuration put there by hand.
const SPARE_BYTES: u64 = 16 * MIB;
/// With 512 bytes, 64 MiB make clusters enough to count as FAT32.
const CLUSTER_BYTES: u32 = 512;
/// Zeros in units of this are left out of the file.
const HOLE_BYTES: usize = 64 << 10;

/// What the EFI system partition holds.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The UEFI application, as `\EFI\BOOT\BOOTX64.EFI`.
    pub application: &'a [u8],
    /// The configuration, as `\basalt.json`.
    pub config: Option<&'a [u8]>,
}

/// Writes the disk to `path`, a new or empty file.
///
/// # Errors
/// The file cannot be written, or the disk would be larger than FAT32 can be.
pub fn write(path: &Path, contents: Contents<'_>) -> anyhow::Result<()> {
    let disk = disk(contents)?;
    let copy = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.set_len(disk.len() as u64)?;
        for (index, part) in disk.chunks(HOLE_BYTES).enumerate() {
            if part.iter().any(|&byte| byte != 0) {
                file.seek(SeekFrom::Start((index * HOLE_BYTES) as u64))?;
                file.write_all(part)?;
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot write {}", path.display()))
}

/// All bytes of the disk.
fn disk(contents: Contents<'_>) -> anyhow::Result<Vec<u8>> {
    let files = contents.application.len() + contents.config.map_or(0, <[u8]>::len);
    let esp_bytes = (files as u64 + SPARE_BYTES).next_multiple_of(MIB).max(ESP_BYTES_MIN);
    let disk_bytes = esp_bytes + CONFIG_BYTES + 2 * MARGIN_BYTES;
    let Ok(blocks) = u32::try_from(disk_bytes / BLOCK_SIZE) else {
        bail!("{disk_bytes} bytes are more than a FAT32 boot disk can have");
    };
    let mut device = Cursor::new(vec![0; usize::try_from(disk_bytes)?]);
    ProtectiveMBR::with_lb_size(blocks - 1).overwrite_lba0(&mut device)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(device, None)?;
    let align = Some(MARGIN_BYTES / BLOCK_SIZE);
    let id = table.add_partition("Basalt", esp_bytes, partition_types::EFI, 0, align)?;
    let start = table.partitions().get(&id).map(|partition| partition.first_lba * BLOCK_SIZE);
    let start = usize::try_from(start.context("no partition in the table")?)?;
    let kept = partition_types::Type {
        guid: uuid::format(&CONFIG_KIND).parse()?,
        os: OperatingSystem::None,
    };
    table.add_partition("Basalt configuration", CONFIG_BYTES, kept, 0, align)?;
    let volume_id = table.guid().as_fields().0;
    let mut disk = table.write()?.into_inner();
    let esp =
        esp(contents, esp_bytes, volume_id).context("cannot make the EFI system partition")?;
    disk[start..start + esp.len()].copy_from_slice(&esp);
    Ok(disk)
}

fn esp(contents: Contents<'_>, bytes: u64, volume_id: u32) -> anyhow::Result<Vec<u8>> {
    let mut volume = Cursor::new(vec![0; usize::try_from(bytes)?]);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER_BYTES)
        .volume_id(volume_id)
        .volume_label(*b"BASALT     ");
    fatfs::format_volume(&mut volume, options)?;
    {
        let system = FileSystem::new(&mut volume, FsOptions::new())?;
        let root = system.root_dir();
        let boot = root.create_dir("EFI")?.create_dir("BOOT")?;
        boot.create_file("BOOTX64.EFI")?.write_all(contents.application)?;
        if let Some(config) = contents.config {
            root.create_file("basalt.json")?.write_all(config)?;
        }
    }
    Ok(volume.into_inner())
}
