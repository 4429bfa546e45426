#![expect(unsafe_code, reason = "asks the host about a file; DESIGN §5 allows it here")]

//! Files and block devices of the host, opened for a bdev.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

mod request {
    nix::ioctl_read_bad!(logical_block_size, libc::BLKSSZGET, libc::c_int);
}

/// May the file be written?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It may.
    ReadWrite,
    /// It is only read.
    ReadOnly,
}

/// An open file or block device.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    /// Its length, bytes.
    pub size_bytes: u64,
    /// Bytes that are read and written at once: a device's logical block, or what suits the file
    /// system best.
    pub block_size: u32,
    /// Whether `block_size` is the least there is.
    pub block_size_is_least: bool,
    /// Whether ranges can be given back, and read as zeroes then ([`FileOp`](crate::FileOp)).
    pub can_punch: bool,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum OpenFailure {
    /// The host refuses it.
    Host(io::Error),
    /// It is neither a file nor a block device.
    NotStorage,
}

impl fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::NotStorage => f.write_str("neither a regular file nor a block device"),
        }
    }
}

impl HostFile {
    /// Opens what is at `path`.
    ///
    /// # Errors
    /// The host refuses it, or it is something else.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, OpenFailure> {
        let kind = std::fs::metadata(path).map_err(OpenFailure::Host)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenFailure::NotStorage);
        }
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(mode == Mode::ReadWrite).open(path);
        let mut file = opened.map_err(OpenFailure::Host)?;
        let metadata = file.metadata().map_err(OpenFailure::Host)?;
        let is_device = metadata.file_type().is_block_device();
        let size_bytes = file.seek(SeekFrom::End(0)).map_err(OpenFailure::Host)?;
        let block_size = if is_device {
            device_block_size(&file).map_err(|errno| OpenFailure::Host(errno.into()))?
        } else {
            metadata.blksize().clamp(512, 4096) as u32
        };
        // Whether a device can do it shows only when it is done.
        let can_punch = mode == Mode::ReadWrite && !is_device && can_punch(&file, size_bytes);
        Ok(Self { file, size_bytes, block_size, block_size_is_least: is_device, can_punch })
    }

    /// Reads and writes past the host's cache from now on, where the file system can do that.
    /// Transfers must then be of whole blocks, as [`Self::block_size`] has them.
    pub fn bypass_cache(&self) {
        let flags = fcntl(&self.file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        // A refusal only costs speed.
        let _ =
            flags.and_then(|flags| fcntl(&self.file, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)));
    }

    /// One more handle on it, for another core.
    ///
    /// # Errors
    /// The process may open no more files.
    pub fn another(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn device_block_size(file: &File) -> Result<u32, Errno> {
    let mut size = 0;
    // SAFETY: BLKSSZGET writes an int to where it is told.
    unsafe { request::logical_block_size(file.as_raw_fd(), &raw mut size) }?;
    u32::try_from(size).map_err(|_| Errno::EINVAL)
}

/// Tries it beyond the end, where it changes nothing.
fn can_punch(file: &File, size_bytes: u64) -> bool {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let beyond = i64::try_from(size_bytes.next_multiple_of(4096));
    beyond.is_ok_and(|beyond| fallocate(file, flags, beyond, 4096).is_ok())
}
