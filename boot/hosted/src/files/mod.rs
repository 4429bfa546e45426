//! Bdevs over the host's files and block devices.

mod bdev;
mod channel;
mod rings;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::anyhow;
use basalt_bdev::{Bdev, BdevInfo, RegisterError, Registry};
use basalt_hosted::file::{HostFile, Mode, OpenFailure};
use basalt_reactor::Local;
use basalt_rpc::methods::{FileControl, FileOptions};
use basalt_rpc::{Config, Rpc, RpcError, errno};
use serde_json::json;

use bdev::FileBdev;
use rings::Rings;

/// Prepares a core for channels of such bdevs.
pub fn start_core(local: &Local) {
    Rings::start(local);
}

/// How the control plane makes such bdevs.
pub fn control(local: &Local) -> FileControl {
    let local = local.clone();
    let create = move |options| {
        let registry = local.service::<Registry>();
        let registry = registry.ok_or_else(|| RpcError::errno(errno::ENODEV, "no bdevs here"))?;
        create(&registry, options)
    };
    FileControl::new(create, |filename| Ok(open(filename, Mode::ReadOnly)?.size_bytes))
}

fn open(filename: &str, mode: Mode) -> Result<HostFile, RpcError> {
    HostFile::open(Path::new(filename), mode).map_err(|error| {
        RpcError::errno(errno_of(&error), format!("cannot open '{filename}': {error}"))
    })
}

/// Makes a bdev of each of `paths`, by the calls a client would make.
pub async fn create_all(rpc: &Rc<Rpc>, paths: &[PathBuf]) -> anyhow::Result<()> {
    for (index, path) in paths.iter().enumerate() {
        let name = name(index);
        // A saved configuration is to hold wherever the program is started.
        let absolute = std::path::absolute(path)?;
        let filename = absolute.to_string_lossy();
        let params = json!({"name": name, "filename": filename});
        let created = rpc.call_at_boot("bdev_aio_create", Some(params)).await;
        created.map_err(|error| anyhow!("--file {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Takes away those of them that the configuration makes as well, as one that was saved here does:
/// it says more of them, such as their UUIDs.
pub async fn give_way(rpc: &Rc<Rpc>, paths: &[PathBuf], config: &Config) -> Result<(), RpcError> {
    let names = (0..paths.len()).map(name);
    for name in names.filter(|name| config.makes("bdev_aio_create", name)) {
        rpc.call_at_boot("bdev_aio_delete", Some(json!({"name": name}))).await?;
    }
    Ok(())
}

/// What the bdev of a file is called that is served without being configured.
fn name(index: usize) -> String {
    format!("Aio{index}")
}

fn create(registry: &Registry, options: FileOptions) -> Result<Arc<dyn Bdev>, RpcError> {
    let FileOptions { module, name, filename, block_size, readonly, uuid } = options;
    let mode = if readonly { Mode::ReadOnly } else { Mode::ReadWrite };
    let file = open(&filename, mode)?;
    let geometry = geometry(&file, block_size)
        .map_err(|why| RpcError::errno(errno::EINVAL, format!("'{filename}': {why}")))?;
    if geometry.block_size >= file.block_size {
        file.bypass_cache();
    }
    let info = BdevInfo {
        product_name: module.product_name(),
        block_size: geometry.block_size,
        num_blocks: geometry.num_blocks.into(),
        uuid: uuid.unwrap_or_else(|| registry.make_uuid(&name)),
        optimal_io_boundary: 0,
        name,
    };
    let bdev = FileBdev::new(info, file, module, filename, mode)
        .map_err(|error| RpcError::errno(errno::EIO, format!("io_uring does not work: {error}")))?;
    let bdev: Arc<dyn Bdev> = Arc::new(bdev);
    registry.register(Arc::clone(&bdev)).map_err(|error| {
        let errno = match error {
            RegisterError::BadGeometry => errno::EINVAL,
            RegisterError::NameTaken | RegisterError::UuidTaken => errno::EEXIST,
        };
        RpcError::errno(errno, error)
    })?;
    Ok(bdev)
}

#[derive(PartialEq, Eq, Debug)]
struct Geometry {
    block_size: u32,
    num_blocks: u64,
}

/// The file in blocks; a rest at its end that is no whole block is refused, not hidden.
fn geometry(file: &HostFile, block_size: Option<u32>) -> Result<Geometry, String> {
    const BLOCK_SIZE_MAX: u32 = 4096;
    let (size, own) = (file.size_bytes, file.block_size);
    // Files are often made in sectors, and those may not fit a block of the file system.
    let fitting = if size.is_multiple_of(own.into()) { own } else { 512 };
    let block_size = block_size.unwrap_or(fitting);
    if !block_size.is_power_of_two() || !(512..=BLOCK_SIZE_MAX).contains(&block_size) {
        return Err(format!("block size {block_size} is not one of 512, 1024, 2048, 4096"));
    }
    if file.block_size_is_least && block_size < own {
        return Err(format!("block size {block_size} is below the device's own {own}"));
    }
    if size == 0 {
        return Err("it is empty; make it as large as the bdev is to be (truncate -s)".into());
    }
    if !size.is_multiple_of(block_size.into()) {
        return Err(format!("its size, {size} bytes, is no multiple of block size {block_size}"));
    }
    Ok(Geometry { block_size, num_blocks: size / u64::from(block_size) })
}

fn errno_of(error: &OpenFailure) -> i64 {
    match error {
        OpenFailure::Host(error) => error.raw_os_error().map_or(errno::EIO, i64::from),
        OpenFailure::NotStorage => errno::EINVAL,
    }
}
