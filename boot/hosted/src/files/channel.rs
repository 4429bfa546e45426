//! One core's way to a file.

use std::cell::RefCell;
use std::rc::Rc;

use basalt_bdev::{Io, IoChannel, IoError, IoStatus, Op, RejectReason};
use basalt_env::{DmaBuf, DmaPool, Work};
use basalt_hosted::{FileOp, Finished};

use super::rings::{FileIo, Ring};

/// What past the host's cache the buffers of a transfer must each be a multiple of, bytes.
const SECTOR: usize = 512;

/// A channel with a ring of its own.
pub struct FileChannel {
    ring: Rc<RefCell<Ring>>,
    pool: Rc<DmaPool>,
    block_size: u32,
}

impl FileChannel {
    /// Over `ring`, to a file in blocks of `block_size` bytes.
    pub const fn new(ring: Rc<RefCell<Ring>>, pool: Rc<DmaPool>, block_size: u32) -> Self {
        Self { ring, pool, block_size }
    }

    /// One buffer in place of several of which some are no whole sectors.
    fn bounce(&self, io: &Io) -> Result<Option<DmaBuf>, RejectReason> {
        if io.data.as_slice().iter().all(|buffer| buffer.len().is_multiple_of(SECTOR)) {
            return Ok(None);
        }
        let len = io.data.len();
        // There is a pool with room again when others have ended.
        let mut whole = self.pool.alloc(len).map_err(|_| RejectReason::QueueFull)?;
        if io.op == Op::Write {
            let mut rest = whole.as_mut_slice();
            for part in io.data.as_slice() {
                let (to, after) = rest.split_at_mut(part.len());
                to.copy_from_slice(part.as_slice());
                rest = after;
            }
        }
        Ok(Some(whole))
    }
}

impl IoChannel for FileChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let op = file_op(io, self.block_size);
        let bounce = self.bounce(io)?;
        let submitted = self.ring.borrow_mut().submit(op, FileIo { io: io.take(), bounce });
        submitted.map_err(|refused| {
            *io = refused.io;
            RejectReason::QueueFull
        })
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let count = self.ring.borrow_mut().poll(|Finished { payload, result }| {
            let FileIo { mut io, bounce } = payload;
            io.status = status(&io, result.map_err(|errno| errno as i32));
            if let Some(whole) = bounce.filter(|_| io.op == Op::Read) {
                scatter(whole.as_slice(), &mut io);
            }
            done(&mut io);
        });
        Work(count)
    }
}

/// Copies what was read to the buffers it was meant for.
fn scatter(mut bytes: &[u8], io: &mut Io) {
    for part in io.data.as_mut_slice() {
        let (from, rest) = bytes.split_at(part.len());
        part.as_mut_slice().copy_from_slice(from);
        bytes = rest;
    }
}

fn file_op(io: &Io, block_size: u32) -> FileOp {
    let bytes = |blocks| blocks * u64::from(block_size);
    match io.op {
        Op::Read => FileOp::Read { offset: bytes(io.lba) },
        Op::Write => FileOp::Write { offset: bytes(io.lba) },
        Op::Unmap | Op::WriteZeroes => {
            FileOp::Punch { offset: bytes(io.lba), len: bytes(io.blocks.into()) }
        }
        // A flush: nothing else is supported.
        _ => FileOp::Sync,
    }
}

/// How an Io ended for which the host reports so many bytes, or an error number.
///
/// A transfer that stops short met the end of a file that somebody has cut.
pub fn status(io: &Io, result: Result<u32, i32>) -> IoStatus {
    match result {
        Ok(moved) if !io.op.has_data() || moved as usize == io.data.len() => Ok(()),
        Ok(_) => Err(media_error(io.op)),
        Err(errno) => Err(error(io.op, errno)),
    }
}

/// NVMe base specification 2.0, figures 98 to 100, for Linux's error numbers (errno-base.h).
fn error(op: Op, errno: i32) -> IoError {
    const EIO: i32 = 5;
    const ENXIO: i32 = 6;
    const EAGAIN: i32 = 11;
    const ENOMEM: i32 = 12;
    const ENODEV: i32 = 19;
    const ENOSPC: i32 = 28;
    const EOPNOTSUPP: i32 = 95;
    const EDQUOT: i32 = 122;
    let generic = |sc, dnr| IoError::Nvme { sct: 0, sc, dnr };
    match errno {
        EIO => media_error(op),
        ENXIO | ENODEV => IoError::Removed,
        EAGAIN | ENOMEM => IoError::NoResources,
        ENOSPC | EDQUOT => generic(0x81, true),
        EOPNOTSUPP => generic(0x01, true),
        _ => generic(0x06, false),
    }
}

/// Unrecovered read error, or write fault.
fn media_error(op: Op) -> IoError {
    let sc = if op == Op::Read { 0x81 } else { 0x80 };
    IoError::Nvme { sct: 2, sc, dnr: false }
}
