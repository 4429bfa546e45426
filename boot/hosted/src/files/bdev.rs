//! The bdev: a file as seen by all cores.

use std::io;

use basalt_bdev::{Bdev, BdevInfo, IoChannel, Op, OpenError};
use basalt_env::DmaPool;
use basalt_hosted::file::{HostFile, Mode};
use basalt_reactor::Local;
use basalt_rpc::methods::FileModule;
use serde_json::json;

use super::channel::FileChannel;
use super::rings::{Rings, make_ring};

/// A file or block device of the host.
pub struct FileBdev {
    info: BdevInfo,
    file: HostFile,
    module: FileModule,
    filename: String,
    mode: Mode,
}

impl FileBdev {
    /// Of a file that is open. Tries whether the host offers io_uring at all, so that this is known
    /// now and not when the first channel is made.
    pub fn new(
        info: BdevInfo,
        file: HostFile,
        module: FileModule,
        filename: String,
        mode: Mode,
    ) -> io::Result<Self> {
        drop(make_ring(&file)?);
        Ok(Self { info, file, module, filename, mode })
    }
}

impl Bdev for FileBdev {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        match op {
            Op::Read | Op::Flush => true,
            Op::Write => self.mode == Mode::ReadWrite,
            Op::Unmap | Op::WriteZeroes => self.file.can_punch,
            _ => false,
        }
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let rings = local.service::<Rings>().ok_or(OpenError::NoQueueOnCore)?;
        let ring = rings.add(local, &self.file).map_err(|error| {
            log::error!(target: "bdev", "{}: no ring: {error}", self.info.name);
            OpenError::NoMemory
        })?;
        let pool = local.service::<DmaPool>().ok_or(OpenError::NoMemory)?;
        Ok(Box::new(FileChannel::new(ring, pool, self.info.block_size)))
    }

    fn driver_specific(&self) -> String {
        let filename = self.filename.as_str();
        let specific = match self.module {
            FileModule::Aio => json!({"aio": {
                "filename": filename,
                "readonly": self.mode == Mode::ReadOnly,
                "fallocate": self.file.can_punch,
            }}),
            FileModule::Uring => json!({"uring": {"filename": filename}}),
        };
        specific.to_string()
    }
}
