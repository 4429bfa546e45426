mod job;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use basalt_env::{CoreId, DmaBuf, DmaPool, OutOfDmaMemory, Work};
use basalt_metrics::Operation;
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};

use self::job::{Job, Step};
use crate::gate::{self, OpenChannels};
use crate::{BaseChannel, Descriptor, Io, IoError, IoStatus, Op, RejectReason, SgList};

/// Operations of one channel that can be emulated at a time.
const DEPTH: usize = 64;
/// How long is waited for what is under way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// NVM command set 1.0, figure 9: Compare Failure.
const COMPARE_FAILURE: IoError = IoError::Nvme { sct: 2, sc: 0x85, dnr: true };

/// Whether an operation that a bdev lacks can be made of those it does, as SPDK does it.
pub(crate) fn is_emulated(op: Op, does: impl Fn(Op) -> bool) -> bool {
    if op == Op::Reset {
        // It takes more than the bdev's own, if that has one: others have to be kept away.
        return true;
    }
    if op == Op::Copy && does(op) {
        // The bdev's own is for blocks that do not overlap.
        return true;
    }
    if does(op) {
        return false;
    }
    match op {
        Op::WriteZeroes => does(Op::Write),
        Op::Compare | Op::Verify => does(Op::Read),
        Op::Copy => does(Op::Read) && does(Op::Write),
        Op::CompareAndWrite => does(Op::Read) && does(Op::Write),
        _ => false,
    }
}

/// Does what a bdev cannot by what it can: zeroes are written, blocks to be compared or verified
/// are read, and blocks to be copied are read and written.
///
/// An operation goes in chunks, one after the other, each by way of a buffer of its own:
///
/// ```text
///   begin -> (1) step: a read or write of a chunk -> (2) its end: compare, go on -> (1) …
///                                                                        (3) ended -> poll
/// ```
///
/// Each chunk is a command of its own, so most operations are not atomic, and one that fails half
/// way has done the first half. Those that must be alone ([`gate`](crate::gate)) keep others away
/// from their blocks first: a compare and write; or from the bdev: a reset, which waits until
/// nothing is under way, or has the bdev see to that if it can.
pub(crate) struct Emulator {
    channel: BaseChannel,
    local: Local,
    pool: Rc<DmaPool>,
    jobs: Slots<Job, 32>,
    /// Jobs for whose next step there was no room, or that wait for others to be kept away.
    waiting: VecDeque<Tag<32>>,
    /// How many jobs there are that others have to wait for.
    out: Rc<Cell<u32>>,
    /// Room for chunks that have come back.
    returned: Vec<Io>,
    ended: Vec<Io>,
    block_shift: u32,
    write_unit: u32,
}

impl Emulator {
    pub(crate) fn new(descriptor: &Descriptor, local: &Local) -> Result<Self, RejectReason> {
        let pool = local.service().ok_or(RejectReason::Unsupported)?;
        let channel = descriptor.base_channel(local).map_err(|_| RejectReason::Removed)?;
        let out = Rc::new(Cell::new(0));
        OpenChannels::of(local).add(descriptor.node(), &out);
        Ok(Self {
            channel,
            local: local.clone(),
            pool,
            jobs: Slots::with_capacity(DEPTH).map_err(|_| RejectReason::QueueFull)?,
            out,
            waiting: VecDeque::with_capacity(DEPTH),
            returned: Vec::with_capacity(DEPTH),
            ended: Vec::with_capacity(DEPTH),
            block_shift: descriptor.info().block_size.trailing_zeros(),
            write_unit: descriptor.bdev().write_unit(),
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
        let job = Job::new(io.take(), self.local.now() + DRAIN_PATIENCE);
        if !job.is_alone() {
            self.out.set(self.out.get() + 1);
        }
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
        // Whoever waits for other cores asks again and again.
        let work = Work(self.ended.len().max(self.waiting.len().min(1)) as u32);
        let now = self.local.now();
        let (node, core) = (self.channel.descriptor().node(), self.local.core());
        let latencies = if self.ended.is_empty() { None } else { node.latencies() };
        for io in &mut self.ended {
            if let Some(stat) = node.stats.writer(core) {
                stat.record(io, now);
            }
            latencies.iter().for_each(|latencies| latencies.record(core, io, now));
            done(io);
        }
        self.ended.clear();
        work
    }

    /// Ends the operations with that tag after the chunk that is under way, or at once if there is
    /// none. Resets are not aborted. Whether there are any.
    #[cold]
    pub(crate) fn abort(&mut self, tag: u64) -> bool {
        let mut tags: Vec<Tag<32>> = Vec::new();
        for (job_tag, job) in self.jobs.iter_mut() {
            if job.io.tag == tag && job.io.op != Op::Reset {
                job.aborted = true;
                tags.push(job_tag);
            }
        }
        for job_tag in &tags {
            if let Some(at) = self.waiting.iter().position(|waiting| waiting == job_tag) {
                self.waiting.remove(at);
                self.end(*job_tag, Err(IoError::Aborted));
            } else {
                self.channel.abort(job_tag.as_u32().into());
            }
        }
        !tags.is_empty()
    }

    fn chunk_ended(&mut self, chunk: &mut Io) {
        let tag = Tag::from_u32(chunk.tag as u32);
        let Ok(job) = self.jobs.get_mut(tag) else { return };
        if job.step == Step::Reset {
            (job.step, job.status) = (Step::Drain, chunk.status);
            return self.go_on(tag);
        }
        if chunk.status.is_err() {
            return self.end(tag, chunk.status);
        }
        if job.aborted {
            return self.end(tag, Err(IoError::Aborted));
        }
        if let SgList::One(buf) = core::mem::take(&mut chunk.data) {
            let compares = matches!(job.io.op, Op::Compare | Op::CompareAndWrite);
            let offset = (job.done as usize) << self.block_shift;
            if compares && job.step == Step::Read {
                let operations = self.local.operations();
                operations.add(Operation::Compare, 1, buf.len());
                if !job::is_same(&job.io, offset, &buf) {
                    operations.fail(Operation::Compare);
                    return self.end(tag, Err(COMPARE_FAILURE));
                }
            }
            job.buf = Some(buf);
        }
        if job.advance(chunk.blocks) { self.go_on(tag) } else { self.end(tag, Ok(())) }
    }

    /// Does the next step of a job, or leaves it waiting.
    fn go_on(&mut self, tag: Tag<32>) {
        let Ok(job) = self.jobs.get(tag) else { return };
        let ready = match job.step {
            Step::Hold | Step::Tell(_) | Step::Drain => self.keep_others_away(tag),
            Step::Reset | Step::Read | Step::Write => true,
        };
        match self.jobs.get(tag).map(|job| job.step) {
            Ok(_) if !ready => self.waiting.push_back(tag),
            Ok(Step::Reset) => self.send(tag, Io::new(Op::Reset, 0, 0, tag.as_u32().into())),
            Ok(_) => self.send_chunk(tag),
            // It has ended.
            Err(_) => {}
        }
    }

    /// Whether a job has got so far that it can read, write or have the bdev reset itself.
    fn keep_others_away(&mut self, tag: Tag<32>) -> bool {
        let node = Arc::clone(self.channel.descriptor().node());
        let resets_itself = node.bdev.supports(Op::Reset);
        let Ok(job) = self.jobs.get_mut(tag) else { return true };
        if job.step == Step::Hold {
            if !node.try_hold(job.hold()) {
                return false;
            }
            job.step = Step::Tell(0);
        }
        while let Step::Tell(core) = job.step {
            if usize::from(core) == self.local.cores() {
                let own = job.io.op == Op::Reset && resets_itself;
                job.step = if own { Step::Reset } else { Step::Drain };
            } else if gate::tell(&self.local, CoreId(core), &node) {
                job.step = Step::Tell(core + 1);
            } else {
                return false;
            }
        }
        if job.step != Step::Drain {
            return true;
        }
        if node.gate.is_drained() {
            job.step = Step::Read;
            let status = job.status;
            if job.io.op == Op::Reset {
                self.end(tag, status);
            }
            return true;
        }
        let is_late = self.local.now() > job.late;
        if is_late {
            self.end(tag, Err(IoError::Timeout));
        }
        is_late
    }

    /// Sends the next chunk of a job.
    fn send_chunk(&mut self, tag: Tag<32>) {
        let Ok(job) = self.jobs.get_mut(tag) else { return };
        let blocks = job.chunk(self.block_shift, self.write_unit);
        let len = (blocks as usize) << self.block_shift;
        let mut buf = match job.buf.take().map_or_else(|| zeroed(&self.pool, &self.local, len), Ok)
        {
            Ok(buf) => buf,
            Err(_) => return self.end(tag, Err(IoError::NoResources)),
        };
        buf.set_len(len);
        let (op, lba) = match job.step {
            Step::Write => (Op::Write, job.io.lba + u64::from(job.offset(blocks))),
            _ => (Op::Read, job.source(blocks)),
        };
        if op == Op::Write && job.io.op == Op::CompareAndWrite {
            let offset = (job.io.blocks as usize + job.done as usize) << self.block_shift;
            job::fill(&job.io, offset, &mut buf);
            self.local.operations().add(Operation::Copy, 1, len);
        }
        let io = Io::with_data(op, lba, blocks, SgList::One(buf), tag.as_u32().into());
        self.send(tag, io);
    }

    fn send(&mut self, tag: Tag<32>, mut io: Io) {
        io.submitted = self.local.now();
        let Err(reason) = self.channel.submit(&mut io) else { return };
        if let (Ok(job), SgList::One(buf)) = (self.jobs.get_mut(tag), io.data) {
            job.buf = Some(buf);
        }
        match reason {
            RejectReason::QueueFull => self.waiting.push_back(tag),
            reason => self.end(tag, Err(reason.into())),
        }
    }

    fn end(&mut self, tag: Tag<32>, status: IoStatus) {
        if let Ok(mut job) = self.jobs.remove(tag) {
            self.let_go(&job);
            job.io.status = status;
            self.ended.push(job.io);
        }
    }

    /// Others need no longer wait for a job.
    fn let_go(&self, job: &Job) {
        if !job.is_alone() {
            self.out.set(self.out.get() - 1);
        } else if job.step != Step::Hold {
            self.channel.descriptor().node().release();
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for (_, job) in self.jobs.iter() {
            self.let_go(job);
        }
    }
}

fn zeroed(pool: &DmaPool, local: &Local, len: usize) -> Result<DmaBuf, OutOfDmaMemory> {
    let mut buf = pool.alloc(len)?;
    buf.as_mut_slice().fill(0);
    local.operations().add(Operation::Fill, 1, len);
    Ok(buf)
}
