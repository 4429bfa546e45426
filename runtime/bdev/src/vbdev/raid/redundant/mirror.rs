//! raid1: a write goes to all bases, a read to one of them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_env::{DmaBuf, Work};
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};

use super::legs::{Leg, Legs, View};
use super::votes::{Vote, Votes};
use super::{Redundant, Serial};
use crate::vbdev::frames::Frames;
use crate::{Io, IoChannel, Op, OpenError, RejectReason, SgList};

/// One core's way to all bases.
///
/// ```text
///   a read      to the base with the least to do; if it fails there, to the next, and so on
///   any other   (1) its data shared, a child for each base
///               (2) all are back: bases that failed it are left out, unless all have; ended
/// ```
pub(super) struct MirrorChannel {
    legs: Legs,
    flights: Flights,
    /// What the next base to take it is to get. While there is any, the channel takes no more Ios.
    outbox: VecDeque<(Serial, Io)>,
    ended: Vec<Io>,
}

/// What is under way.
struct Flights {
    slots: Slots<Flight, 32>,
    /// To be used again, so that nothing is allocated in the end.
    spare: Spare,
}

type Spare = Vec<Box<Write>>;

enum Flight {
    /// Its own tag, and how many bases were tried.
    Read(u64, usize),
    Write(Box<Write>),
}

struct Write {
    io: Io,
    /// Its buffers meanwhile, and whether they were one that was no list.
    shared: Rc<Vec<DmaBuf>>,
    was_one: bool,
    votes: Votes,
    lot: usize,
}

/// What becomes of an Io that a base has handed back.
enum Verdict {
    /// It is a whole one, and has ended.
    Ended,
    /// It is the last child of one, which was put in its place and has ended.
    ParentEnded,
    /// It goes to that base.
    Again(Serial),
    /// It is a child; others are out.
    Waits,
}

impl MirrorChannel {
    pub(super) fn new(group: Arc<Redundant>, local: &Local) -> Result<Self, OpenError> {
        let slots = Slots::with_capacity(Frames::<()>::DEPTH).map_err(|_| OpenError::NoMemory)?;
        let legs = Legs::new(group, local);
        if !legs.suffice() {
            return Err(OpenError::NoMemory);
        }
        let flights = Flights { slots, spare: Vec::new() };
        Ok(Self { legs, flights, outbox: VecDeque::new(), ended: Vec::new() })
    }

    fn read(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let readers = self.legs.list.iter_mut().filter(|leg| leg.in_sync);
        let least = readers.min_by_key(|leg| leg.channel.in_flight());
        let leg = least.ok_or(RejectReason::Removed)?;
        let tag = io.tag;
        let slot = self.flights.slots.insert(Flight::Read(tag, 1));
        let slot = slot.map_err(|_| RejectReason::QueueFull)?;
        io.tag = u64::from(slot.as_u32());
        let Err(reason) = leg.channel.submit(io) else { return Ok(()) };
        if reason == RejectReason::QueueFull {
            io.tag = tag;
            let _ = self.flights.slots.remove(slot);
            return Err(reason);
        }
        // As if it had taken the read and failed it.
        let serial = leg.serial;
        let mut io = io.take();
        io.status = Err(reason.into());
        self.take_back(serial, true, io);
        Ok(())
    }

    fn write(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let blocks = if io.op == Op::Flush { 0 } else { u64::from(io.blocks) };
        if !self.legs.suffice() {
            return Err(RejectReason::Removed);
        }
        let group = &self.legs.group;
        let full = self.flights.slots.is_full() || group.is_in_window(io.lba, blocks);
        let counts = group.writes(self.legs.local.core());
        let Some(counts) = counts.filter(|_| !full) else { return Err(RejectReason::QueueFull) };
        let mut write = self.flights.spare.pop().unwrap_or_default();
        write.begin(io, self.legs.list.len(), counts.begin());
        let make_child = {
            let Write { io, shared, .. } = &*write;
            let data = if io.op.has_data() { Some(Rc::clone(shared)) } else { None };
            let (op, lba, blocks, submitted) = (io.op, io.lba, io.blocks, io.submitted);
            move |tag: Tag<32>| {
                let data = data.as_ref().map_or(SgList::Empty, |d| SgList::Shared(Rc::clone(d)));
                let io = Io::with_data(op, lba, blocks, data, tag.as_u32().into());
                Io { submitted, ..io }
            }
        };
        // It was not full.
        let Ok(tag) = self.flights.slots.insert(Flight::Write(write)) else { return Ok(()) };
        self.outbox.extend(self.legs.list.iter().map(|leg| (leg.serial, make_child(tag))));
        // So that the buffers are shared by those that are out only.
        drop(make_child);
        self.send();
        Ok(())
    }

    /// Hands out what the bases take.
    fn send(&mut self) {
        while let Some((serial, mut io)) = self.outbox.pop_front() {
            let leg = self.legs.find(serial);
            let in_sync = leg.as_ref().is_some_and(|leg| leg.in_sync);
            let sent = leg.map_or(Err(RejectReason::Removed), |leg| leg.channel.submit(&mut io));
            match sent {
                Ok(()) => {}
                Err(RejectReason::QueueFull) => return self.outbox.push_front((serial, io)),
                Err(reason) => {
                    io.status = Err(reason.into());
                    self.take_back(serial, in_sync, io);
                }
            }
        }
    }

    fn take_back(&mut self, serial: Serial, in_sync: bool, mut io: Io) {
        match self.flights.judge(&self.legs.view(), serial, in_sync, &mut io) {
            Verdict::Ended | Verdict::ParentEnded => self.ended.push(io),
            Verdict::Again(serial) => self.outbox.push_back((serial, io)),
            Verdict::Waits => {}
        }
    }
}

impl Flights {
    /// Takes what a base has handed back.
    fn judge(&mut self, view: &View<'_>, serial: Serial, in_sync: bool, io: &mut Io) -> Verdict {
        let slot = Tag::from_u32(io.tag as u32);
        match self.slots.get_mut(slot) {
            Ok(Flight::Read(tag, tried)) => {
                // One that has been left out meanwhile does not count as tried.
                let counts = view.readers.iter().any(|(_, reader)| *reader == serial);
                if io.status.is_err() && *tried < view.readers.len() + usize::from(!counts) {
                    *tried += usize::from(counts);
                    io.status = Ok(());
                    return Verdict::Again(after(view.readers, serial));
                }
                io.tag = *tag;
                let _ = self.slots.remove(slot);
                return Verdict::Ended;
            }
            Ok(Flight::Write(write)) => match write.votes.count(serial, in_sync, io.status) {
                Vote::Again => {
                    io.status = Ok(());
                    return Verdict::Again(serial);
                }
                Vote::Waits => {
                    io.data = SgList::Empty;
                    return Verdict::Waits;
                }
                Vote::Last => io.data = SgList::Empty,
            },
            Err(_) => return Verdict::Waits,
        }
        if let Ok(Flight::Write(mut write)) = self.slots.remove(slot) {
            view.group.end_write(view.core, write.lot);
            *io = write.end(view.group);
            self.spare.push(write);
        }
        Verdict::ParentEnded
    }
}

/// The base after that one, from the last to the first.
fn after(readers: &[(usize, Serial)], serial: Serial) -> Serial {
    let at = readers.iter().position(|(_, reader)| *reader == serial);
    let next = at.map_or(0, |at| (at + 1) % readers.len().max(1));
    readers.get(next).map_or(serial, |(_, next)| *next)
}

impl Default for Write {
    fn default() -> Self {
        Self {
            io: Io::new(Op::Flush, 0, 0, 0),
            shared: Rc::default(),
            was_one: false,
            votes: Votes::default(),
            lot: 0,
        }
    }
}

impl Write {
    fn begin(&mut self, io: &mut Io, children: usize, lot: usize) {
        self.io = io.take();
        let data = core::mem::take(&mut self.io.data);
        self.was_one = matches!(data, SgList::One(_));
        match (data, Rc::get_mut(&mut self.shared)) {
            (SgList::One(buf), Some(bufs)) => bufs.push(buf),
            (SgList::Many(list), Some(bufs)) => *bufs = list,
            (SgList::Many(list), None) => self.shared = Rc::new(list),
            (SgList::One(buf), None) => self.shared = Rc::new(alloc::vec![buf]),
            (SgList::Shared(list), _) => self.shared = list,
            (SgList::Empty | SgList::Blocks(_) | SgList::Nvme(_), _) => {}
        }
        self.votes.begin(children);
        self.lot = lot;
    }

    /// The Io as it ends.
    fn end(&mut self, group: &Redundant) -> Io {
        let mut io = self.io.take();
        io.data = self.take_data();
        io.status = self.votes.outcome(group);
        io
    }

    /// The data as it came, and as far as it was not shared before.
    fn take_data(&mut self) -> SgList {
        let Some(bufs) = Rc::get_mut(&mut self.shared) else {
            self.shared = Rc::default();
            return SgList::Empty;
        };
        match self.was_one {
            true => bufs.pop().map_or(SgList::Empty, SgList::One),
            false if bufs.is_empty() => SgList::Empty,
            false => SgList::Many(core::mem::take(bufs)),
        }
    }
}

impl IoChannel for MirrorChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.legs.refresh();
        if !self.outbox.is_empty() {
            return Err(RejectReason::QueueFull);
        }
        if io.op == Op::Read { self.read(io) } else { self.write(io) }
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.legs.refresh();
        let mut count = 0;
        let Self { legs, flights, outbox, .. } = self;
        let (view, all) = legs.split();
        for Leg { serial, in_sync, channel, .. } in all {
            let _ = channel.poll(|io| match flights.judge(&view, *serial, *in_sync, io) {
                Verdict::Ended | Verdict::ParentEnded => {
                    count += 1;
                    done(io);
                }
                Verdict::Again(serial) => outbox.push_back((serial, io.take())),
                Verdict::Waits => {}
            });
        }
        self.legs.drop_idle();
        if !self.outbox.is_empty() {
            self.send();
        }
        for mut io in self.ended.drain(..) {
            count += 1;
            done(&mut io);
        }
        Work(count)
    }
}

impl Drop for MirrorChannel {
    fn drop(&mut self) {
        let view = self.legs.view();
        for (_, flight) in self.flights.slots.iter() {
            if let Flight::Write(write) = flight {
                view.group.end_write(view.core, write.lot);
            }
        }
    }
}
