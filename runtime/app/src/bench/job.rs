//! The measured loop.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::{Channel, Io, IoError, Op, RejectReason, SgList};
use basalt_env::{DmaBuf, Ticks};

use super::aim::Aim;
use super::tally::{Failure, Tally};
use super::workload::{Kind, Workload};
use super::{Instruments, pattern};

/// How often Ios that take too long are looked for.
const LOOKS_PER_S: u64 = 1000;

/// What each Io looks like, and where it may lie.
#[derive(Clone, Copy)]
pub struct Shape {
    pub workload: Workload,
    /// Of 100 Ios of a mixed workload, how many read.
    pub read_percent: u8,
    /// Blocks per Io.
    pub blocks: u32,
    /// The first of this core's places; a place is as long as an Io.
    pub first_place: u64,
    /// How many places this core has.
    pub places: u64,
    /// What the places and the data are derived from.
    pub seed: u64,
}

/// When no more Ios are submitted: at either of the two, whichever comes first.
#[derive(Clone, Copy)]
pub struct Stop {
    deadline_ticks: u64,
    ios: u64,
}

impl Stop {
    /// After `time` from now.
    pub fn after(ticks: impl Ticks, time: Duration) -> Self {
        let length = time.as_nanos() * u128::from(ticks.hz()) / 1_000_000_000;
        Self { deadline_ticks: ticks.ticks().saturating_add(length as u64), ios: u64::MAX }
    }

    /// After `ios` Ios.
    pub fn after_ios(ios: u64) -> Self {
        Self { deadline_ticks: u64::MAX, ios }
    }
}

/// Whether a job is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Running,
    Finished,
}

/// Keeps Ios in flight on one channel. Nothing is allocated once it is made.
///
/// Life cycle: made with all its Ios at rest -> [`Self::start`] -> [`Self::round`] until it is
/// finished, with all Ios at rest again -> started anew, or its [`Tally`] read.
pub struct Job<T: Ticks> {
    channel: Channel,
    with: Instruments<T>,
    aim: Aim,
    rest: Rest,
    stop: Stop,
    began: u64,
    round_began: u64,
    /// Whether the last round found or submitted Ios.
    was_busy: bool,
    /// When Ios that take too long are looked for.
    look_at: u64,
    tally: Box<Tally>,
}

/// Room for all Ios. Those not in flight are the first; an Io's tag is the tick at which it was
/// submitted.
struct Rest {
    ios: Box<[Io]>,
    count: usize,
    /// What the data of verified places is derived from.
    verified: Option<u64>,
    /// What was wrong with an Io that came back, or was refused.
    failure: Option<Failure>,
    /// Whether an Io may end as aborted.
    aborts: Aborts,
    timed_out: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Aborts {
    Fail,
    Count,
}

impl<T: Ticks> Job<T> {
    /// A job with one Io for each of `buffers`.
    pub fn new(
        channel: Channel,
        with: Instruments<T>,
        shape: Shape,
        buffers: Vec<Option<DmaBuf>>,
    ) -> Self {
        let make = |buffer: Option<DmaBuf>| {
            let data = buffer.map_or(SgList::Empty, |mut buffer| {
                // Whatever the memory held before does not belong on a drive.
                buffer.as_mut_slice().fill(shape.seed as u8);
                SgList::One(buffer)
            });
            let op = match shape.workload.kind {
                Kind::One(op) => op,
                // What has been read is due to be written next, where a place is verified.
                Kind::Mixed | Kind::Verify => Op::Read,
            };
            Io::with_data(op, 0, shape.blocks, data, 0)
        };
        let limited = channel.descriptor().timeout().is_some();
        Self {
            channel,
            with,
            aim: Aim::new(shape),
            rest: Rest {
                count: buffers.len(),
                ios: buffers.into_iter().map(make).collect(),
                verified: (shape.workload.kind == Kind::Verify).then_some(shape.seed),
                failure: None,
                aborts: if limited { Aborts::Count } else { Aborts::Fail },
                timed_out: 0,
            },
            stop: Stop { deadline_ticks: 0, ios: 0 },
            began: 0,
            round_began: 0,
            was_busy: false,
            look_at: if limited { 0 } else { u64::MAX },
            tally: Box::default(),
        }
    }

    /// Begins a run with nothing counted yet.
    pub fn start(&mut self, stop: Stop) {
        *self.tally = Tally { allocations: (self.with.allocations)(), ..Tally::default() };
        self.stop = stop;
        self.began = self.with.ticks.ticks();
        self.round_began = self.began;
        self.was_busy = false;
        self.rest.timed_out = 0;
    }

    /// Takes what has finished, and submits as much again.
    pub fn round(&mut self) -> Progress {
        let now = self.with.ticks.ticks();
        let found = self.reap();
        self.account(now, self.was_busy | found);
        if now >= self.stop.deadline_ticks {
            self.stop.ios = 0;
        }
        if now >= self.look_at {
            self.abort_late(now);
        }
        let submitted = self.submit();
        self.was_busy = found | submitted;
        if self.stop.ios != 0 || self.channel.in_flight() != 0 {
            return Progress::Running;
        }
        self.account(self.with.ticks.ticks(), true);
        self.tally.ticks = self.round_began - self.began;
        self.tally.timed_out = self.rest.timed_out;
        self.tally.allocations = (self.with.allocations)() - self.tally.allocations;
        Progress::Finished
    }

    /// Whether the last round found or submitted Ios.
    pub fn was_busy(&self) -> bool {
        self.was_busy
    }

    /// What the run has come to.
    pub fn into_tally(self) -> Result<Box<Tally>, Failure> {
        self.rest.failure.map_or(Ok(self.tally), Err)
    }

    /// Books the time since the last round, with everything that the core did in it. It was busy
    /// if that round found or submitted Ios, and also if this one found some: whoever shares the
    /// device, or a layer below, may have taken them in since.
    #[inline]
    fn account(&mut self, now: u64, is_busy: bool) {
        if is_busy {
            self.tally.ticks_busy += now.saturating_sub(self.round_began);
            self.tally.rounds_busy += 1;
        }
        self.round_began = now;
    }

    #[inline]
    fn reap(&mut self) -> bool {
        let Self { channel, with, rest, tally, .. } = self;
        let mut found = false;
        let _ = channel.poll_in_place(|io| {
            tally.latency.record(with.ticks.ticks().saturating_sub(io.tag));
            found = true;
            rest.take(io);
        });
        if self.rest.failure.is_some() {
            self.stop.ios = 0;
        }
        found
    }

    #[inline]
    fn submit(&mut self) -> bool {
        let mut submitted = false;
        while self.stop.ios != 0
            && let Some(io) = self.rest.last()
        {
            self.aim.direct(io);
            io.tag = self.with.ticks.ticks();
            if let Err(reason) = self.channel.submit_in_place(io) {
                let op = io.op;
                self.refused(op, reason);
                break;
            }
            // What it left behind has no data.
            self.rest.count -= 1;
            self.stop.ios -= 1;
            submitted = true;
        }
        submitted
    }

    /// Aborts what has taken too long.
    #[cold]
    fn abort_late(&mut self, now: u64) {
        self.look_at = now.saturating_add(self.with.ticks.hz() / LOOKS_PER_S);
        let mut late = Vec::new();
        self.channel.find_late(|io| late.push(io.tag));
        for tag in late {
            self.channel.abort(tag);
        }
    }

    #[cold]
    fn refused(&mut self, op: Op, reason: RejectReason) {
        // A queue shorter than the depth is filled again as Ios finish.
        if reason != RejectReason::QueueFull {
            self.rest.failure = Some(Failure::Refused(op, reason));
            self.stop.ios = 0;
        }
    }
}

impl Rest {
    #[inline]
    fn last(&mut self) -> Option<&mut Io> {
        self.ios.get_mut(self.count.checked_sub(1)?)
    }

    /// An Io has come back.
    #[inline(always)]
    fn take(&mut self, io: &mut Io) {
        let is_plain = io.status.is_ok() && self.verified.is_none();
        let Some(room) = self.ios.get_mut(self.count) else { return };
        core::mem::swap(room, io);
        self.count += 1;
        if !is_plain {
            self.look();
        }
    }

    /// What is wrong with the last Io, if anything is.
    #[cold]
    fn look(&mut self) {
        let (verified, before, aborts) = (self.verified, self.failure, self.aborts);
        let Some(io) = self.last() else { return };
        let differs = || verified.and_then(|seed| pattern::difference(io, seed));
        self.failure = match io.status {
            Err(IoError::Aborted) if aborts == Aborts::Count => {
                self.timed_out += 1;
                before
            }
            Err(error) => Some(Failure::Io(io.op, error)),
            Ok(()) => before.or_else(differs),
        };
    }
}
