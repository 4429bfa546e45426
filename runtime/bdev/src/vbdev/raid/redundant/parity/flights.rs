use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

use basalt_env::DmaPool;
use basalt_metrics::Operation;
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};

use super::super::Serial;
use super::super::legs::View;
use super::super::stripes::{Piece, Stripes};
use super::super::votes::{Vote, Votes};
use super::{add_parity, xor};
use crate::scatter::{Bounce, Run, Scattered};
use crate::vbdev::frames::Frames;
use crate::{Io, IoError, IoStatus, Op, OpenError, RejectReason, SgList};

/// NVM command set 1.0, figure 9: Unrecovered Read Error.
const UNRECOVERED: IoError = IoError::Nvme { sct: 2, sc: 0x81, dnr: false };

/// What is under way.
pub(super) struct Flights {
    pub(super) stripes: Stripes,
    block_shift: u32,
    pool: Rc<DmaPool>,
    local: Local,
    slots: Slots<Flight, 32>,
    /// What bases are to get. While there is any, the channel takes no more Ios.
    pub(super) outbox: VecDeque<(Serial, Io)>,
    /// To be used again, so that nothing is allocated in the end.
    spare: Spare,
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
    data: Scattered,
    status: IoStatus,
    /// Of a read, how many pieces are not there.
    left: usize,
    rescues: Vec<Rescue>,
    /// Of any other, what the bases make of it.
    votes: Votes,
    lot: usize,
}

/// A piece that is made of all other strips of its stripe.
struct Rescue {
    piece: usize,
    target: SgList,
    status: IoStatus,
    /// How many of them are not there.
    left: usize,
}

/// What a child is, as its tag tells it.
#[derive(Clone, Copy)]
struct Child {
    flight: Tag<32>,
    /// Which piece of a read, or which base of any other.
    part: usize,
    is_rescue: bool,
}

impl Child {
    fn tag(self) -> u64 {
        let high = (self.part as u64) << 1 | u64::from(self.is_rescue);
        high << 32 | u64::from(self.flight.as_u32())
    }

    fn of(tag: u64) -> Self {
        let part = (tag >> 33) as usize;
        Self { flight: Tag::from_u32(tag as u32), part, is_rescue: tag >> 32 & 1 == 1 }
    }
}

impl Default for Parent {
    fn default() -> Self {
        Self {
            io: Io::new(Op::Flush, 0, 0, 0),
            data: Scattered::default(),
            status: Ok(()),
            left: 0,
            rescues: Vec::new(),
            votes: Votes::default(),
            lot: 0,
        }
    }
}

impl Parent {
    fn blocks(&self) -> Range<u64> {
        blocks_of(&self.io)
    }

    /// A piece is there, or never will be. Whether it was the last.
    fn piece_ended(&mut self, piece: usize, data: SgList, status: IoStatus) -> bool {
        self.data.give_back(piece, data);
        self.status = self.status.and(status);
        self.left -= 1;
        self.left == 0
    }
}

impl Flights {
    pub(super) fn new(
        stripes: Stripes,
        block_shift: u32,
        pool: Rc<DmaPool>,
        local: &Local,
    ) -> Result<Self, OpenError> {
        let slots = Slots::with_capacity(Frames::<()>::DEPTH).map_err(|_| OpenError::NoMemory)?;
        let (outbox, spare) = (VecDeque::new(), Vec::new());
        let local = local.clone();
        Ok(Self { stripes, block_shift, pool, local, slots, outbox, spare })
    }

    /// Lots of the writes that are under way.
    pub(super) fn lots(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter().filter_map(|(_, flight)| match flight {
            Flight::Parent(parent) if parent.io.op != Op::Read => Some(parent.lot),
            _ => None,
        })
    }

    /// Makes `io` one that can be passed on to the base that has its blocks from `at` on.
    pub(super) fn mark(&mut self, io: &mut Io, at: u64) -> Result<(), RejectReason> {
        let flight = self.slots.insert(Flight::Whole(io.tag, io.lba));
        let flight = flight.map_err(|_| RejectReason::QueueFull)?;
        io.tag = Child { flight, part: 0, is_rescue: false }.tag();
        io.lba = at;
        Ok(())
    }

    /// It was not passed on.
    pub(super) fn unmark(&mut self, io: &mut Io, tag: u64, lba: u64) {
        let _ = self.slots.remove(Child::of(io.tag).flight);
        (io.tag, io.lba) = (tag, lba);
    }

    /// Reads the pieces of `io`. If a base has failed it already, it is one piece, which is made of
    /// others. Gives it back if it has ended.
    pub(super) fn read_in_pieces(
        &mut self,
        view: &View<'_>,
        io: &mut Io,
        failed: Option<IoError>,
    ) -> Result<Option<Io>, RejectReason> {
        if self.slots.is_full() {
            return Err(RejectReason::QueueFull);
        }
        let (stripes, shift, blocks) = (self.stripes, self.block_shift, blocks_of(io));
        let count = stripes.pieces(blocks.clone()).count();
        let mut parent = self.spare.pop().unwrap_or_default();
        let runs = || read_runs(stripes, shift, blocks.clone());
        if parent.data.scatter(&mut io.data, count, runs, &self.pool, Bounce::IfNeeded).is_err() {
            self.spare.push(parent);
            return Err(RejectReason::QueueFull);
        }
        (parent.status, parent.left) = (Ok(()), count);
        parent.io = io.take();
        let flight = self.slots.insert(Flight::Parent(parent));
        let flight = flight.map_err(|_| RejectReason::QueueFull)?;
        let mut is_ended = false;
        for (part, piece) in stripes.pieces(blocks).enumerate() {
            let reader = view.readers.iter().find(|(place, _)| *place == piece.place);
            let child = Child { flight, part, is_rescue: false };
            let data = self.parent(flight).map_or(SgList::Empty, |parent| parent.data.take(part));
            match reader.filter(|_| failed.is_none()) {
                Some((_, serial)) => self.send_later(*serial, child, piece, data),
                None => {
                    is_ended = self.rescue(view, child, data, failed.unwrap_or(UNRECOVERED));
                }
            }
        }
        Ok(if is_ended { self.end(view, flight) } else { None })
    }

    fn parent(&mut self, flight: Tag<32>) -> Option<&mut Parent> {
        match self.slots.get_mut(flight) {
            Ok(Flight::Parent(parent)) => Some(parent),
            _ => None,
        }
    }

    fn send_later(&mut self, serial: Serial, child: Child, piece: Piece, data: SgList) {
        let submitted = self.parent(child.flight).map(|parent| parent.io.submitted);
        let mut io = Io::with_data(Op::Read, piece.at, piece.blocks as u32, data, child.tag());
        io.submitted = submitted.unwrap_or(io.submitted);
        self.outbox.push_back((serial, io));
    }

    /// Makes a piece that cannot be read of all other strips of its stripe. Whether that has ended
    /// the read, because there is not enough for that.
    fn rescue(&mut self, view: &View<'_>, child: Child, data: SgList, why: IoError) -> bool {
        let stripes = self.stripes;
        let Some(parent) = self.parent(child.flight) else { return false };
        let Some(piece) = stripes.pieces(parent.blocks()).nth(child.part) else { return false };
        let others = view.readers.iter().filter(|(place, _)| *place != piece.place);
        let left = others.clone().count();
        if left < stripes.data_places() as usize {
            return parent.piece_ended(child.part, data, Err(why));
        }
        let mut rescue = Rescue { piece: child.part, target: data, status: Ok(()), left };
        rescue.target.as_mut_slice().iter_mut().for_each(|buf| buf.as_mut_slice().fill(0));
        parent.rescues.push(rescue);
        let before = self.outbox.len();
        for (_, serial) in others {
            let Ok(buf) = self.pool.alloc((piece.blocks as usize) << self.block_shift) else {
                self.outbox.truncate(before);
                let Some(parent) = self.parent(child.flight) else { return false };
                let target = parent.rescues.pop().map_or(SgList::Empty, |rescue| rescue.target);
                return parent.piece_ended(child.part, target, Err(IoError::NoResources));
            };
            let child = Child { is_rescue: true, ..child };
            self.send_later(*serial, child, piece, SgList::One(buf));
        }
        false
    }

    /// Has `bases` do what is no read: place and serial number of each. `begin` counts it.
    pub(super) fn write(
        &mut self,
        io: &mut Io,
        bases: impl ExactSizeIterator<Item = (usize, Serial)>,
        begin: impl FnOnce() -> usize,
    ) -> Result<(), RejectReason> {
        if self.slots.is_full() {
            return Err(RejectReason::QueueFull);
        }
        let mut parent = self.spare.pop().unwrap_or_default();
        if io.op == Op::Write && self.deal_out(&mut parent, io).is_none() {
            parent.data.extras.clear();
            self.spare.push(parent);
            return Err(RejectReason::QueueFull);
        }
        parent.votes.begin(bases.len());
        parent.io = io.take();
        parent.lot = begin();
        let Io { op, submitted, .. } = parent.io;
        let there = if op == Op::Flush { 0..0 } else { self.stripes.on_bases(parent.blocks()) };
        let flight = self.slots.insert(Flight::Parent(parent));
        let flight = flight.map_err(|_| RejectReason::QueueFull)?;
        for (place, serial) in bases {
            let parent = self.parent(flight).filter(|_| op == Op::Write);
            let data = parent.map_or(SgList::Empty, |parent| parent.data.take(place));
            let (tag, blocks) =
                (Child { flight, part: place, is_rescue: false }.tag(), there.end - there.start);
            let io = Io::with_data(op, there.start, blocks as u32, data, tag);
            self.outbox.push_back((serial, Io { submitted, ..io }));
        }
        Ok(())
    }

    /// Deals out the data of a write, with its parity, by place; `None` if there is no memory.
    fn deal_out(&self, parent: &mut Parent, io: &mut Io) -> Option<()> {
        let (stripes, shift, blocks) = (self.stripes, self.block_shift, blocks_of(io));
        let (strips, strip_len) = (stripes.data_places() as usize, strip_len(stripes, shift));
        let Scattered { extras, .. } = &mut parent.data;
        add_parity(io.data.as_slice(), strips, strip_len, &self.pool, extras).ok()?;
        let (times, bytes) = (extras.len(), extras.len() * strip_len);
        self.local.operations().add(Operation::Xor, times, bytes);
        let runs = || write_runs(stripes, shift, blocks.clone());
        parent.data.scatter(&mut io.data, strips + 1, runs, &self.pool, Bounce::IfNeeded).ok()
    }

    /// Takes what a base has handed back. Whether `io` is now one that was submitted here and has
    /// ended.
    pub(super) fn judge(
        &mut self,
        view: &View<'_>,
        serial: Serial,
        in_sync: bool,
        io: &mut Io,
    ) -> bool {
        let child = Child::of(io.tag);
        let is_last = match self.slots.get_mut(child.flight) {
            Ok(Flight::Whole(tag, lba)) => {
                (io.tag, io.lba) = (*tag, *lba);
                let _ = self.slots.remove(child.flight);
                return self.whole_ended(view, io);
            }
            Ok(Flight::Parent(parent)) if parent.io.op == Op::Read => {
                self.piece_read(view, child, io)
            }
            Ok(Flight::Parent(parent)) => match parent.votes.count(serial, in_sync, io.status) {
                Vote::Again => {
                    io.status = Ok(());
                    self.outbox.push_back((serial, io.take()));
                    return false;
                }
                vote => {
                    parent.data.give_back(child.part, core::mem::take(&mut io.data));
                    vote == Vote::Last
                }
            },
            Err(_) => false,
        };
        if is_last && let Some(ended) = self.end(view, child.flight) {
            *io = ended;
        }
        is_last
    }

    /// Whether a read that was passed on has ended: it has if it was read, or cannot be.
    fn whole_ended(&mut self, view: &View<'_>, io: &mut Io) -> bool {
        let Err(error) = io.status else { return true };
        match self.read_in_pieces(view, io, Some(error)) {
            Ok(None) => false,
            Ok(Some(ended)) => {
                *io = ended;
                true
            }
            Err(_) => true,
        }
    }

    /// Whether that was the last of a read.
    fn piece_read(&mut self, view: &View<'_>, child: Child, io: &mut Io) -> bool {
        let data = core::mem::take(&mut io.data);
        if !child.is_rescue {
            return match io.status {
                Err(error) => self.rescue(view, child, data, error),
                Ok(()) => self
                    .parent(child.flight)
                    .is_some_and(|parent| parent.piece_ended(child.part, data, Ok(()))),
            };
        }
        let local = self.local.clone();
        let Some(parent) = self.parent(child.flight) else { return false };
        let of_it = |rescue: &Rescue| rescue.piece == child.part;
        let Some(at) = parent.rescues.iter().position(of_it) else { return false };
        let rescue = &mut parent.rescues[at];
        match io.status {
            Ok(()) => rescue.take(&data),
            Err(_) => rescue.status = rescue.status.and(io.status),
        }
        rescue.left -= 1;
        if rescue.left > 0 {
            return false;
        }
        let rescue = parent.rescues.swap_remove(at);
        if rescue.status.is_ok() {
            local.operations().add(Operation::Xor, 1, rescue.target.len());
        }
        parent.piece_ended(child.part, rescue.target, rescue.status)
    }

    /// Puts an Io together of which nothing is out.
    fn end(&mut self, view: &View<'_>, flight: Tag<32>) -> Option<Io> {
        let Ok(Flight::Parent(mut parent)) = self.slots.remove(flight) else { return None };
        let (stripes, shift, blocks) = (self.stripes, self.block_shift, parent.blocks());
        let mut io = parent.io.take();
        if io.op == Op::Read {
            io.status = parent.status;
            io.data =
                parent.data.gather(read_runs(stripes, shift, blocks.clone()), io.status.is_ok());
        } else {
            io.status = parent.votes.outcome(view.group);
            view.group.end_write(view.core, parent.lot);
        }
        if io.op == Op::Write {
            io.data = parent.data.gather(write_runs(stripes, shift, blocks), false);
            parent.data.extras.clear();
        }
        self.spare.push(parent);
        Some(io)
    }
}

impl Rescue {
    /// One of the other strips is there.
    fn take(&mut self, data: &SgList) {
        let mut bytes = data.as_slice().first().map_or(&[][..], |buf| buf.as_slice());
        for buf in self.target.as_mut_slice() {
            let (now, later) = bytes.split_at(buf.len().min(bytes.len()));
            xor(buf.as_mut_slice(), now);
            bytes = later;
        }
    }
}

fn blocks_of(io: &Io) -> Range<u64> {
    io.lba..io.lba.saturating_add(u64::from(io.blocks))
}

fn strip_len(stripes: Stripes, block_shift: u32) -> usize {
    (stripes.strip() as usize) << block_shift
}

/// A list for each piece.
fn read_runs(stripes: Stripes, block_shift: u32, blocks: Range<u64>) -> impl Iterator<Item = Run> {
    let pieces = stripes.pieces(blocks).enumerate();
    pieces.map(move |(number, piece)| Run::of_data(number, (piece.blocks as usize) << block_shift))
}

/// A list for each place.
fn write_runs(stripes: Stripes, block_shift: u32, blocks: Range<u64>) -> impl Iterator<Item = Run> {
    let len = strip_len(stripes, block_shift);
    stripes.strips(blocks).map(move |(list, is_extra)| Run { list, len, is_extra })
}
