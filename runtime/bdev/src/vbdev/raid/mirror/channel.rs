use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use basalt_env::{DmaBuf, Work};
use basalt_reactor::Local;
use basalt_ring::{Slots, Tag};

use super::{Loss, Mirror, Serial};
use crate::vbdev::frames::Frames;
use crate::{BaseChannel, Io, IoChannel, IoError, IoStatus, Op, OpenError, RejectReason, SgList};

/// How often a part of a write that was aborted, as by a reset of its device, is tried again.
const RETRIES_MAX: u8 = 8;

/// One core's way to all bases.
///
/// ```text
///   a read      to the base with the least to do; if it fails there, to the next, and so on
///   any other   (1) its data shared, a child for each base
///               (2) all are back: bases that failed it are left out, unless all have; ended
/// ```
pub(super) struct MirrorChannel {
    mirror: Arc<Mirror>,
    local: Local,
    /// The generation of the members that `legs` are of.
    seen: u32,
    legs: Vec<Leg>,
    /// Of members that were left out, until all is back from them.
    retired: Vec<Leg>,
    flights: Flights,
    /// What the next base to take it is to get. While there is any, the channel takes no more Ios.
    outbox: VecDeque<(Serial, Io)>,
    ended: Vec<Io>,
}

/// A base.
struct Leg {
    serial: Serial,
    /// Whether it has all blocks, so that it may be read.
    in_sync: bool,
    channel: BaseChannel,
}

/// What is under way.
struct Flights {
    slots: Slots<Flight, 32>,
    /// The bases that may be read, in order.
    readers: Vec<Serial>,
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
    /// Of the first base that failed it.
    status: IoStatus,
    /// Whether a base has it that has all blocks.
    took: bool,
    failed: Vec<Serial>,
    retries: u8,
    /// Children that are not back.
    left: usize,
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
    pub(super) fn new(mirror: Arc<Mirror>, local: &Local) -> Result<Self, OpenError> {
        let slots = Slots::with_capacity(Frames::<()>::DEPTH).map_err(|_| OpenError::NoMemory)?;
        let mut channel = Self {
            seen: mirror.generation.load(Ordering::Acquire).wrapping_sub(1),
            mirror,
            local: local.clone(),
            legs: Vec::new(),
            retired: Vec::new(),
            flights: Flights { slots, readers: Vec::new(), spare: Vec::new() },
            outbox: VecDeque::new(),
            ended: Vec::new(),
        };
        channel.refresh();
        if channel.flights.readers.is_empty() { Err(OpenError::NoMemory) } else { Ok(channel) }
    }

    /// Sees to it that the legs are those of the members.
    #[inline]
    fn refresh(&mut self) {
        while self.mirror.generation.load(Ordering::Acquire) != self.seen {
            self.renew_legs();
        }
    }

    #[cold]
    fn renew_legs(&mut self) {
        self.seen = self.mirror.generation.load(Ordering::Acquire);
        let current: Vec<_> = {
            let members = self.mirror.members.lock();
            let there = members.iter().filter_map(|member| {
                Some((member.serial, member.in_sync, member.descriptor.clone()?))
            });
            there.collect()
        };
        let gone = |leg: &mut Leg| !current.iter().any(|(serial, ..)| *serial == leg.serial);
        self.retired.extend(self.legs.extract_if(.., gone));
        for (serial, in_sync, descriptor) in current {
            if let Some(leg) = self.legs.iter_mut().find(|leg| leg.serial == serial) {
                leg.in_sync = in_sync;
                continue;
            }
            match descriptor.base_channel(&self.local) {
                Ok(channel) => self.legs.push(Leg { serial, in_sync, channel }),
                // It cannot be written from here, so it would be left behind.
                Err(error) => {
                    self.mirror.drop_member(serial, &error);
                }
            }
        }
        self.flights.readers.clear();
        let readers = self.legs.iter().filter(|leg| leg.in_sync).map(|leg| leg.serial);
        self.flights.readers.extend(readers);
    }

    fn read(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let readers = self.legs.iter_mut().filter(|leg| leg.in_sync);
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
        if self.flights.readers.is_empty() {
            return Err(RejectReason::Removed);
        }
        let full = self.flights.slots.is_full() || self.mirror.is_in_window(io.lba, blocks);
        let counts = self.mirror.writes(self.local.core());
        let Some(counts) = counts.filter(|_| !full) else { return Err(RejectReason::QueueFull) };
        let mut write = self.flights.spare.pop().unwrap_or_default();
        write.begin(io, self.legs.len(), counts.begin());
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
        self.outbox.extend(self.legs.iter().map(|leg| (leg.serial, make_child(tag))));
        // So that the buffers are shared by those that are out only.
        drop(make_child);
        self.send();
        Ok(())
    }

    /// Hands out what the bases take.
    fn send(&mut self) {
        while let Some((serial, mut io)) = self.outbox.pop_front() {
            let leg = self.legs.iter_mut().find(|leg| leg.serial == serial);
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
        match self.flights.judge(&self.mirror, &self.local, serial, in_sync, &mut io) {
            Verdict::Ended | Verdict::ParentEnded => self.ended.push(io),
            Verdict::Again(serial) => self.outbox.push_back((serial, io)),
            Verdict::Waits => {}
        }
    }
}

impl Flights {
    /// Takes what a base has handed back.
    fn judge(
        &mut self,
        mirror: &Mirror,
        local: &Local,
        serial: Serial,
        in_sync: bool,
        io: &mut Io,
    ) -> Verdict {
        let slot = Tag::from_u32(io.tag as u32);
        match self.slots.get_mut(slot) {
            Ok(Flight::Read(tag, tried)) => {
                // One that has been left out meanwhile does not count as tried.
                let counts = self.readers.contains(&serial);
                if io.status.is_err() && *tried < self.readers.len() + usize::from(!counts) {
                    *tried += usize::from(counts);
                    io.status = Ok(());
                    return Verdict::Again(after(&self.readers, serial));
                }
                io.tag = *tag;
                let _ = self.slots.remove(slot);
                return Verdict::Ended;
            }
            Ok(Flight::Write(write)) => match write.child_ended(serial, in_sync, io) {
                Verdict::ParentEnded => {}
                verdict => return verdict,
            },
            Err(_) => return Verdict::Waits,
        }
        if let Ok(Flight::Write(mut write)) = self.slots.remove(slot) {
            if let Some(counts) = mirror.writes(local.core()) {
                counts.end(write.lot);
            }
            *io = write.end(mirror);
            self.spare.push(write);
        }
        Verdict::ParentEnded
    }
}

/// The base after that one, from the last to the first.
fn after(readers: &[Serial], serial: Serial) -> Serial {
    let at = readers.iter().position(|reader| *reader == serial);
    let next = at.map_or(0, |at| (at + 1) % readers.len().max(1));
    readers.get(next).copied().unwrap_or(serial)
}

impl Default for Write {
    fn default() -> Self {
        Self {
            io: Io::new(Op::Flush, 0, 0, 0),
            shared: Rc::default(),
            was_one: false,
            status: Ok(()),
            took: false,
            failed: Vec::new(),
            retries: 0,
            left: 0,
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
        (self.status, self.took, self.retries) = (Ok(()), false, 0);
        (self.left, self.lot) = (children, lot);
        self.failed.clear();
    }

    fn child_ended(&mut self, serial: Serial, in_sync: bool, child: &mut Io) -> Verdict {
        if child.status == Err(IoError::Aborted) && self.retries < RETRIES_MAX {
            self.retries += 1;
            child.status = Ok(());
            return Verdict::Again(serial);
        }
        child.data = SgList::Empty;
        match child.status {
            Ok(()) => self.took |= in_sync,
            Err(_) => {
                self.status = self.status.and(child.status);
                self.failed.push(serial);
            }
        }
        self.left -= 1;
        if self.left == 0 { Verdict::ParentEnded } else { Verdict::Waits }
    }

    /// The Io as it ends.
    fn end(&mut self, mirror: &Mirror) -> Io {
        let mut io = self.io.take();
        io.data = self.take_data();
        io.status = if self.took { self.leave_out_failed(mirror) } else { self.status };
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

    /// It has not failed if all bases that are left have it.
    fn leave_out_failed(&self, mirror: &Mirror) -> IoStatus {
        for serial in &self.failed {
            let why: &dyn core::fmt::Display = match &self.status {
                Err(error) => error,
                Ok(()) => &"it failed a write",
            };
            if mirror.drop_member(*serial, why) == Loss::Last {
                return self.status;
            }
        }
        Ok(())
    }
}

impl IoChannel for MirrorChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.refresh();
        if !self.outbox.is_empty() {
            return Err(RejectReason::QueueFull);
        }
        if io.op == Op::Read { self.read(io) } else { self.write(io) }
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.refresh();
        let mut count = 0;
        let Self { mirror, local, legs, retired, flights, outbox, .. } = self;
        for Leg { serial, in_sync, channel } in legs.iter_mut().chain(retired.iter_mut()) {
            let _ = channel.poll(|io| match flights.judge(mirror, local, *serial, *in_sync, io) {
                Verdict::Ended | Verdict::ParentEnded => {
                    count += 1;
                    done(io);
                }
                Verdict::Again(serial) => outbox.push_back((serial, io.take())),
                Verdict::Waits => {}
            });
        }
        if !self.retired.is_empty() {
            self.retired.retain(|leg| leg.channel.in_flight() > 0);
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
}

impl Drop for MirrorChannel {
    fn drop(&mut self) {
        let Some(counts) = self.mirror.writes(self.local.core()) else { return };
        for (_, flight) in self.flights.slots.iter() {
            if let Flight::Write(write) = flight {
                counts.end(write.lot);
            }
        }
    }
}
