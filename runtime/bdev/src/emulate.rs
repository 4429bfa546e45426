use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, Work};
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};

use crate::{BaseChannel, Descriptor, Io, IoError, IoStatus, Op, RejectReason, SgList};

/// Operations of one channel that can be emulated at a time.
const DEPTH: usize = 64;
/// Most bytes read or written at once on the way.
const CHUNK_BYTES: u64 = 128 << 10;
/// NVM command set 1.0, figure 9: Compare Failure.
const COMPARE_FAILURE: IoError = IoError::Nvme { sct: 2, sc: 0x85, dnr: true };

/// Whether an operation that a bdev lacks can be made of those it does, as SPDK does it.
pub(crate) fn is_emulated(op: Op, does: impl Fn(Op) -> bool) -> bool {
    if does(op) {
        return false;
    }
    match op {
        Op::WriteZeroes => does(Op::Write),
        Op::Compare => does(Op::Read),
        Op::Copy => does(Op::Read) && does(Op::Write),
        Op::Read | Op::Write | Op::Flush | Op::Unmap => false,
    }
}

/// Does what a bdev cannot by what it can: zeroes are written, blocks to be compared are read, and
/// blocks to be copied are read and written.
///
/// An operation goes in chunks, one after the other, each by way of a buffer of its own:
///
/// ```text
///   begin -> (1) step: a read or write of a chunk -> (2) its end: compare, go on -> (1) …
///                                                                        (3) ended -> poll
/// ```
///
/// Each chunk is a command of its own, so an operation is not atomic, and one that fails half way
/// has done the first half.
pub(crate) struct Emulator {
    channel: BaseChannel,
    local: Local,
    pool: Rc<DmaPool>,
    jobs: Slots<Job, 32>,
    /// Jobs for whose next step there was no room.
    waiting: VecDeque<Tag<32>>,
    /// Room for chunks that have come back.
    returned: Vec<Io>,
    ended: Vec<Io>,
    block_shift: u32,
}

struct Job {
    io: Io,
    /// Blocks done.
    done: u32,
    step: Step,
    buf: Option<DmaBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Read,
    Write,
}

impl Emulator {
    pub(crate) fn new(descriptor: &Descriptor, local: &Local) -> Result<Self, RejectReason> {
        let pool = local.service().ok_or(RejectReason::Unsupported)?;
        let channel = descriptor.base_channel(local).map_err(|_| RejectReason::Removed)?;
        Ok(Self {
            channel,
            local: local.clone(),
            pool,
            jobs: Slots::with_capacity(DEPTH).map_err(|_| RejectReason::QueueFull)?,
            waiting: VecDeque::with_capacity(DEPTH),
            returned: Vec::with_capacity(DEPTH),
            ended: Vec::with_capacity(DEPTH),
            block_shift: descriptor.info().block_size.trailing_zeros(),
        })
    }

    /// Operations not yet handed back.
    pub(crate) fn in_flight(&self) -> u32 {
        (self.jobs.len() + self.ended.len()) as u32
    }

    /// Takes `io`, which was checked, or leaves it.
    pub(crate) fn begin(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.jobs.is_full() || self.in_flight() as usize >= DEPTH {
            return Err(RejectReason::QueueFull);
        }
        let step = if io.op == Op::WriteZeroes { Step::Write } else { Step::Read };
        let job = Job { io: io.take(), done: 0, step, buf: None };
        if let Ok(tag) = self.jobs.insert(job) {
            self.go_on(tag);
        }
        Ok(())
    }

    /// Goes on with what has come back, and shows what has ended to `done`.
    pub(crate) fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let mut returned = core::mem::take(&mut self.returned);
        let _ = self.channel.poll(|chunk| returned.push(chunk.take()));
        for mut chunk in returned.drain(..) {
            self.chunk_ended(&mut chunk);
        }
        self.returned = returned;
        for _ in 0..self.waiting.len() {
            if let Some(tag) = self.waiting.pop_front() {
                self.go_on(tag);
            }
        }
        let work = Work(self.ended.len() as u32);
        let now = self.local.now();
        let node = self.channel.descriptor().node();
        for io in &mut self.ended {
            if let Some(stat) = node.stats.writer(self.local.core()) {
                stat.record(io, self.block_shift, now);
            }
            done(io);
        }
        self.ended.clear();
        work
    }

    fn chunk_ended(&mut self, chunk: &mut Io) {
        let tag = Tag::from_u32(chunk.tag as u32);
        let Ok(job) = self.jobs.get_mut(tag) else { return };
        if chunk.status.is_err() {
            return self.end(tag, chunk.status);
        }
        if let SgList::One(buf) = core::mem::take(&mut chunk.data) {
            if job.io.op == Op::Compare
                && !is_same(&job.io, (job.done as usize) << self.block_shift, &buf)
            {
                return self.end(tag, Err(COMPARE_FAILURE));
            }
            job.buf = Some(buf);
        }
        match (job.io.op, job.step) {
            (Op::Copy, Step::Read) => job.step = Step::Write,
            (Op::Copy, Step::Write) => {
                job.done += chunk.blocks;
                job.step = Step::Read;
            }
            _ => job.done += chunk.blocks,
        }
        if job.done >= job.io.blocks {
            return self.end(tag, Ok(()));
        }
        self.go_on(tag);
    }

    /// Sends the next chunk of a job.
    fn go_on(&mut self, tag: Tag<32>) {
        let Ok(job) = self.jobs.get_mut(tag) else { return };
        let blocks = job.chunk(self.block_shift);
        let len = (blocks as usize) << self.block_shift;
        let buf = match job.buf.take() {
            Some(mut buf) => {
                buf.set_len(len);
                buf
            }
            None => match self.pool.alloc(len) {
                Ok(mut buf) => {
                    buf.as_mut_slice().fill(0);
                    buf
                }
                Err(_) => return self.end(tag, Err(IoError::NoResources)),
            },
        };
        let (op, lba) = match job.step {
            Step::Read => (Op::Read, job.source(blocks)),
            Step::Write => (Op::Write, job.io.lba + u64::from(job.offset(blocks))),
        };
        let mut chunk = Io::with_data(op, lba, blocks, SgList::One(buf), tag.as_u32().into());
        chunk.submitted = self.local.now();
        let Err(reason) = self.channel.submit(&mut chunk) else { return };
        if let SgList::One(buf) = chunk.data {
            job.buf = Some(buf);
        }
        match reason {
            RejectReason::QueueFull => self.waiting.push_back(tag),
            reason => self.end(tag, Err(reason.into())),
        }
    }

    fn end(&mut self, tag: Tag<32>, status: IoStatus) {
        if let Ok(mut job) = self.jobs.remove(tag) {
            job.io.status = status;
            self.ended.push(job.io);
        }
    }
}

impl Job {
    /// Blocks of the next chunk.
    fn chunk(&self, block_shift: u32) -> u32 {
        let most = (CHUNK_BYTES >> block_shift).max(1);
        (self.io.blocks - self.done).min(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Where in the Io the next chunk of so many blocks begins. A copy to higher blocks begins at
    /// the end, so that it reads nothing it has overwritten.
    fn offset(&self, blocks: u32) -> u32 {
        match self.io.data {
            SgList::Blocks(from) if from < self.io.lba => self.io.blocks - self.done - blocks,
            _ => self.done,
        }
    }

    /// The block that the next chunk is read from.
    fn source(&self, blocks: u32) -> u64 {
        let from = match self.io.data {
            SgList::Blocks(from) => from,
            _ => self.io.lba,
        };
        from + u64::from(self.offset(blocks))
    }
}

/// Whether the Io's data from byte `offset` on is that of `buf`.
fn is_same(io: &Io, offset: usize, buf: &DmaBuf) -> bool {
    let mut skip = offset;
    let mut rest = buf.as_slice();
    for part in io.data.as_slice() {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let part = &part.as_slice()[skip..];
        skip = 0;
        let len = part.len().min(rest.len());
        if part[..len] != rest[..len] {
            return false;
        }
        rest = &rest[len..];
    }
    rest.is_empty()
}
