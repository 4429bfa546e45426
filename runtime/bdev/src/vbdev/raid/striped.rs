//! raid0 and concat: each block on one of several bases.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use basalt_env::{DmaPool, Work};
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};

use super::layout::Layout;
use crate::scatter::{Bounce, Run, Scattered};
use crate::vbdev::base::Base;
use crate::vbdev::frames::Frames;
use crate::{
    BaseChannel, Bdev, BdevInfo, Io, IoChannel, IoError, IoStatus, Op, OpenError, RejectReason,
};

/// A bdev over others.
pub(super) struct Striped {
    pub(super) info: BdevInfo,
    pub(super) bases: Vec<Base>,
    pub(super) layout: Arc<Layout>,
    /// As it is shown, which never changes.
    pub(super) json: String,
}

impl Bdev for Striped {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        let all = || self.bases.iter().all(|base| base.descriptor.bdev().supports(op));
        match op {
            Op::Read | Op::Write => true,
            Op::Flush | Op::Unmap | Op::WriteZeroes => all(),
            // These are made of reads and writes, or of the end of all that is under way.
            Op::Compare | Op::Verify | Op::Copy => false,
            Op::CompareAndWrite | Op::Reset => false,
            // There is no single device that they could be for.
            Op::NvmeIo | Op::NvmeAdmin => false,
            _ => false,
        }
    }

    fn can_abort(&self) -> bool {
        self.bases.iter().all(|base| base.descriptor.bdev().can_abort())
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let bases = self.bases.iter().map(|base| base.descriptor.base_channel(local));
        Ok(Box::new(StripedChannel {
            bases: bases.collect::<Result<_, _>>()?,
            flights: Slots::with_capacity(Frames::<()>::DEPTH).map_err(|_| OpenError::NoMemory)?,
            layout: Arc::clone(&self.layout),
            pool: local.service().ok_or(OpenError::NoMemory)?,
            outbox: VecDeque::new(),
            ended: Vec::new(),
            spare: Vec::new(),
            block_shift: self.info.block_size.trailing_zeros(),
        }))
    }

    fn driver_specific(&self) -> String {
        self.json.clone()
    }
}

/// ```text
///   an Io on one base    passed on with another block number, and back
///   any other            (1) its data dealt out, a child for each base, in the outbox
///                        (2) children sent as bases take them, and taken back
///                        (3) all are back: its data put together, ended
/// ```
struct StripedChannel {
    bases: Box<[BaseChannel]>,
    layout: Arc<Layout>,
    pool: Rc<DmaPool>,
    flights: Slots<Flight, 32>,
    /// Children that no base has taken yet. While there are any, the channel takes no more Ios.
    outbox: VecDeque<(usize, Io)>,
    ended: Vec<Io>,
    /// To be used again, so that nothing is allocated in the end.
    spare: Spare,
    block_shift: u32,
}

type Spare = Vec<Box<Parent>>;

enum Flight {
    /// Passed on; its own tag and first block.
    Whole(u64, u64),
    Parent(Box<Parent>),
}

/// An Io that several bases have a part in.
struct Parent {
    io: Io,
    status: IoStatus,
    /// Children that are not back.
    left: usize,
    data: Scattered,
}

impl StripedChannel {
    fn pass_on(&mut self, io: &mut Io, base: usize, at: u64) -> Result<(), RejectReason> {
        let (tag, lba) = (io.tag, io.lba);
        let flight = self.flights.insert(Flight::Whole(tag, lba));
        io.tag = u64::from(flight.map_err(|_| RejectReason::QueueFull)?.as_u32());
        io.lba = at;
        self.bases[base].submit(io).inspect_err(|_| {
            let _ = self.flights.remove(Tag::from_u32(io.tag as u32));
            (io.tag, io.lba) = (tag, lba);
        })
    }

    #[cold]
    fn deal_out(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.flights.is_full() {
            return Err(RejectReason::QueueFull);
        }
        let mut parent = self.spare.pop().unwrap_or_else(|| {
            let io = Io::new(Op::Flush, 0, 0, 0);
            Box::new(Parent { io, status: Ok(()), left: 0, data: Scattered::default() })
        });
        let blocks = io.lba..io.lba.saturating_add(u64::from(io.blocks));
        if io.op.has_data() {
            let runs = || byte_runs(&self.layout, blocks.clone(), self.block_shift);
            let bases = self.bases.len();
            if parent.data.scatter(&mut io.data, bases, runs, &self.pool, Bounce::IfNeeded).is_err()
            {
                self.spare.push(parent);
                return Err(RejectReason::QueueFull);
            }
        }
        (parent.status, parent.left) = (Ok(()), 0);
        parent.io = io.take();
        let Ok(tag) = self.flights.insert(Flight::Parent(parent)) else {
            return Err(RejectReason::QueueFull);
        };
        for base in 0..self.bases.len() {
            self.make_child(tag, base, blocks.clone());
        }
        self.send();
        Ok(())
    }

    fn make_child(&mut self, tag: Tag<32>, base: usize, blocks: Range<u64>) {
        let Ok(Flight::Parent(parent)) = self.flights.get_mut(tag) else { return };
        let op = parent.io.op;
        let there = match op {
            Op::Flush => 0..0,
            _ => self.layout.on_base(base, blocks),
        };
        if there.is_empty() && op != Op::Flush {
            return;
        }
        let data = if op.has_data() { parent.data.take(base) } else { crate::SgList::Empty };
        // No base has more of them than there are.
        let count = (there.end - there.start) as u32;
        let mut child = Io::with_data(op, there.start, count, data, tag.as_u32().into());
        child.submitted = parent.io.submitted;
        parent.left += 1;
        self.outbox.push_back((base, child));
    }

    fn send(&mut self) {
        while let Some((base, mut child)) = self.outbox.pop_front() {
            if child.status.is_err() {
                self.take_back(base, &mut child);
                continue;
            }
            match self.bases[base].submit(&mut child) {
                Ok(()) => {}
                Err(RejectReason::QueueFull) => {
                    return self.outbox.push_front((base, child));
                }
                Err(reason) => {
                    child.status = Err(reason.into());
                    self.take_back(base, &mut child);
                }
            }
        }
    }

    fn take_back(&mut self, base: usize, child: &mut Io) {
        let Self { flights, layout, spare, block_shift, ended, .. } = self;
        let tools = Tools { layout, block_shift: *block_shift, spare };
        child_ended(flights, tools, base, child, &mut |io| ended.push(io.take()));
    }
}

/// What a parent is ended with.
struct Tools<'a> {
    layout: &'a Layout,
    block_shift: u32,
    spare: &'a mut Spare,
}

/// Takes a child back; shows the Io it is of to `done` if it was the last one. How many ended.
fn child_ended(
    flights: &mut Slots<Flight, 32>,
    tools: Tools<'_>,
    base: usize,
    child: &mut Io,
    done: &mut dyn FnMut(&mut Io),
) -> u32 {
    let tag = Tag::from_u32(child.tag as u32);
    let is_last = match flights.get_mut(tag) {
        Ok(Flight::Parent(parent)) => {
            parent.data.give_back(base, core::mem::take(&mut child.data));
            parent.status = parent.status.and(child.status);
            parent.left -= 1;
            parent.left == 0
        }
        Ok(Flight::Whole(..)) => true,
        Err(_) => return 0,
    };
    if !is_last {
        return 0;
    }
    match flights.remove(tag) {
        Ok(Flight::Whole(tag, lba)) => {
            (child.tag, child.lba) = (tag, lba);
            done(child);
        }
        Ok(Flight::Parent(mut parent)) => {
            let Parent { io, status, data, .. } = &mut *parent;
            if io.op.has_data() {
                let blocks = io.lba..io.lba + u64::from(io.blocks);
                let runs = byte_runs(tools.layout, blocks, tools.block_shift);
                io.data = data.gather(runs, io.op == Op::Read && status.is_ok());
            }
            io.status = *status;
            done(io);
            tools.spare.push(parent);
        }
        Err(_) => {}
    }
    1
}

fn byte_runs(
    layout: &Layout,
    blocks: Range<u64>,
    block_shift: u32,
) -> impl Iterator<Item = Run> + '_ {
    layout
        .runs(blocks)
        .map(move |(base, blocks)| Run::of_data(base, (blocks as usize) << block_shift))
}

impl IoChannel for StripedChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if !self.outbox.is_empty() {
            return Err(RejectReason::QueueFull);
        }
        if io.op != Op::Flush {
            let (base, at, run) = self.layout.place(io.lba);
            if u64::from(io.blocks) <= run {
                return self.pass_on(io, base, at);
            }
        }
        self.deal_out(io)
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let mut count = 0;
        let Self { bases, flights, layout, spare, block_shift, .. } = self;
        for (number, base) in bases.iter_mut().enumerate() {
            let _ = base.poll(|child| {
                let tools = Tools { layout, block_shift: *block_shift, spare };
                count += child_ended(flights, tools, number, child, done);
            });
        }
        if !self.outbox.is_empty() {
            self.send();
        }
        for mut io in self.ended.drain(..) {
            count += 1;
            done(&mut io);
        }
        Work(count)
    }

    fn abort(&mut self, tag: u64) -> bool {
        let Self { bases, flights, outbox, .. } = self;
        let is_it = |flight: &Flight| match flight {
            Flight::Whole(own, _) => *own == tag,
            Flight::Parent(parent) => parent.io.tag == tag,
        };
        let mut found = false;
        for (mark, _) in flights.iter_mut().filter(|(_, flight)| is_it(flight)) {
            let mark = u64::from(mark.as_u32());
            for base in bases.iter_mut() {
                found |= base.abort(mark);
            }
            for (_, child) in outbox.iter_mut().filter(|(_, child)| child.tag == mark) {
                // It need not be sent.
                child.status = Err(IoError::Aborted);
                found = true;
            }
        }
        found
    }
}
