use basalt_env::{DmaBuf, Instant};

use crate::gate::Hold;
use crate::{Io, IoStatus, Op, SgList};

/// Most bytes read or written at once on the way.
const CHUNK_BYTES: u64 = 128 << 10;

/// An operation that is made of others.
pub(super) struct Job {
    pub(super) io: Io,
    /// Blocks done in this step.
    pub(super) done: u32,
    pub(super) step: Step,
    pub(super) buf: Option<DmaBuf>,
    /// How the bdev's own reset ended.
    pub(super) status: IoStatus,
    /// When it is given up.
    pub(super) late: Instant,
    /// Whether it is to end with what is under way of it.
    pub(super) aborted: bool,
}

/// What is to be done next of a job.
///
/// ```text
///   write zeroes        Write …
///   compare, verify     Read …
///   copy                Read, Write, Read, Write …
///   compare and write   Hold, Tell, Drain, Read …, Write …
///   reset               Hold, Tell, (Reset,) Drain
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Take the bdev's gate.
    Hold,
    /// Tell this core and those after it.
    Tell(u16),
    /// Have the bdev reset itself.
    Reset,
    /// Wait until nothing is under way.
    Drain,
    /// Read a chunk.
    Read,
    /// Write one.
    Write,
}

impl Job {
    pub(super) fn new(io: Io, late: Instant) -> Self {
        let step = match io.op {
            Op::CompareAndWrite | Op::Reset => Step::Hold,
            Op::WriteZeroes => Step::Write,
            _ => Step::Read,
        };
        Self { io, done: 0, step, buf: None, status: Ok(()), late, aborted: false }
    }

    /// Whether it keeps others away.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.io.op, Op::CompareAndWrite | Op::Reset)
    }

    /// What it keeps others from.
    pub(super) fn hold(&self) -> Hold {
        match self.io.op {
            Op::Reset => Hold::All,
            _ => Hold::Blocks(self.io.lba..self.io.lba + u64::from(self.io.blocks)),
        }
    }

    /// Goes on to what comes after a chunk of so many blocks; whether anything does.
    pub(super) fn advance(&mut self, blocks: u32) -> bool {
        self.step = match (self.io.op, self.step) {
            (Op::Copy, Step::Read) => {
                self.step = Step::Write;
                return true;
            }
            (Op::Copy, _) => Step::Read,
            (_, step) => step,
        };
        self.done += blocks;
        if self.done < self.io.blocks {
            return true;
        }
        let writes_next = self.io.op == Op::CompareAndWrite && self.step == Step::Read;
        if writes_next {
            (self.step, self.done) = (Step::Write, 0);
        }
        writes_next
    }

    /// Blocks of the next chunk, whole write units of the bdev.
    pub(super) fn chunk(&self, block_shift: u32, write_unit: u32) -> u32 {
        let most = u32::try_from(CHUNK_BYTES >> block_shift).unwrap_or(u32::MAX);
        (self.io.blocks - self.done).min((most / write_unit).max(1) * write_unit)
    }

    /// Where in the Io the next chunk of so many blocks begins. A copy to higher blocks begins at
    /// the end, so that it reads nothing it has overwritten.
    pub(super) fn offset(&self, blocks: u32) -> u32 {
        match self.io.data {
            SgList::Blocks(from) if from < self.io.lba => self.io.blocks - self.done - blocks,
            _ => self.done,
        }
    }

    /// The block that the next chunk is read from.
    pub(super) fn source(&self, blocks: u32) -> u64 {
        let from = match self.io.data {
            SgList::Blocks(from) => from,
            _ => self.io.lba,
        };
        from + u64::from(self.offset(blocks))
    }
}

/// Whether the Io's data from byte `offset` on is that of `buf`.
pub(super) fn is_same(io: &Io, offset: usize, buf: &DmaBuf) -> bool {
    let mut rest = buf.as_slice();
    let same = |part: &[u8]| {
        let (now, later) = rest.split_at(part.len());
        rest = later;
        part == now
    };
    parts(io, offset, buf.len()).all(same)
}

/// Copies the Io's data from byte `offset` on to all of `buf`.
pub(super) fn fill(io: &Io, offset: usize, buf: &mut DmaBuf) {
    let len = buf.len();
    let mut rest = buf.as_mut_slice();
    for part in parts(io, offset, len) {
        let (now, later) = rest.split_at_mut(part.len());
        now.copy_from_slice(part);
        rest = later;
    }
}

/// `len` bytes of the Io's data from byte `offset` on, as they lie.
fn parts(io: &Io, offset: usize, len: usize) -> impl Iterator<Item = &[u8]> {
    let (mut skip, mut left) = (offset, len);
    io.data.as_slice().iter().filter_map(move |buf| {
        let from = skip.min(buf.len());
        skip -= from;
        let part = &buf.as_slice()[from..];
        let part = &part[..part.len().min(left)];
        left -= part.len();
        (!part.is_empty()).then_some(part)
    })
}
