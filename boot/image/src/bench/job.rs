//! The measured loop.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use basalt_bare::Clock;
use basalt_bdev::{Channel, Io, IoError, Op, RejectReason, SgList};
use basalt_env::DmaBuf;
use basalt_metrics::Histogram;
use basalt_rpc::RpcError;

use super::params::Bench;

/// What each Io looks like.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    op: Op,
    /// Blocks per Io.
    blocks: u32,
    /// Places on the bdev, one Io apart, at which one can start.
    places: u64,
}

impl Shape {
    /// The Ios of `bench` on a bdev of `num_blocks` blocks of `block_size` bytes.
    pub fn new(bench: &Bench, num_blocks: u64, block_size: u32) -> Result<Self, RpcError> {
        let blocks = bench.io_size as u32 / block_size;
        if blocks == 0 || !(bench.io_size as u32).is_multiple_of(block_size) {
            let message = format_args!("'io_size' must be a multiple of {block_size}");
            return Err(RpcError::params(message));
        }
        let places = num_blocks / u64::from(blocks);
        if places == 0 {
            return Err(RpcError::params("'io_size' is larger than the bdev"));
        }
        Ok(Self { op: bench.op, blocks, places })
    }
}

/// When no more Ios are submitted: at either of the two, whichever comes first.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    deadline_ticks: u64,
    ios: u64,
}

impl Stop {
    /// After `time` from now.
    pub fn after(clock: Clock, time: Duration) -> Self {
        let ticks = time.as_nanos() * u128::from(clock.hz()) / 1_000_000_000;
        Self { deadline_ticks: clock.ticks().saturating_add(ticks as u64), ios: u64::MAX }
    }

    /// After `ios` Ios.
    pub fn after_ios(ios: u64) -> Self {
        Self { deadline_ticks: u64::MAX, ios }
    }
}

/// What a run has come to.
#[derive(Default)]
pub(super) struct Tally {
    /// From submission to completion, ticks.
    pub latency: Histogram,
    /// Of the whole run.
    pub ticks: u64,
    /// Of rounds that found or submitted Ios.
    pub ticks_busy: u64,
    /// Those rounds.
    pub rounds_busy: u64,
}

/// Why a run is worth nothing.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    /// An Io failed.
    Io(IoError),
    /// An Io was refused.
    Refused(RejectReason),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "an Io failed: {error}"),
            Self::Refused(reason) => write!(f, "an Io was refused: {reason:?}"),
        }
    }
}

/// Whether a job is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Finished,
}

/// Keeps Ios in flight on one channel. Nothing is allocated once it is made.
///
/// Life cycle: made with all its Ios at rest -> [`Self::start`] -> [`Self::round`] until it is
/// finished, with all Ios at rest again -> started anew, or its [`Tally`] read.
pub(super) struct Job {
    channel: Channel,
    clock: Clock,
    shape: Shape,
    random: Random,
    /// Ios not in flight. An Io's tag is the tick at which it was submitted.
    at_rest: Vec<Io>,
    stop: Stop,
    began: u64,
    round_began: u64,
    /// Whether the last round found or submitted Ios.
    was_busy: bool,
    failure: Option<Failure>,
    tally: Box<Tally>,
}

impl Job {
    /// A job with one Io for each of `buffers`.
    pub fn new(
        channel: Channel,
        clock: Clock,
        shape: Shape,
        seed: u64,
        buffers: Vec<DmaBuf>,
    ) -> Self {
        let make = |mut buffer: DmaBuf| {
            // Whatever the memory held before does not belong on a drive.
            buffer.as_mut_slice().fill(seed as u8);
            Io::with_data(shape.op, 0, shape.blocks, SgList::One(buffer), 0)
        };
        Self {
            channel,
            clock,
            shape,
            random: Random::new(seed),
            at_rest: buffers.into_iter().map(make).collect(),
            stop: Stop { deadline_ticks: 0, ios: 0 },
            began: 0,
            round_began: 0,
            was_busy: false,
            failure: None,
            tally: Box::default(),
        }
    }

    /// Begins a run with nothing counted yet.
    pub fn start(&mut self, stop: Stop) {
        *self.tally = Tally::default();
        self.stop = stop;
        self.began = self.clock.ticks();
        self.round_began = self.began;
        self.was_busy = false;
    }

    /// Takes what has finished, and submits as much again.
    pub fn round(&mut self) -> Progress {
        let now = self.clock.ticks();
        let found = self.reap();
        self.account(now, self.was_busy | found);
        if now >= self.stop.deadline_ticks {
            self.stop.ios = 0;
        }
        let submitted = self.submit();
        self.was_busy = found | submitted;
        if self.stop.ios != 0 || self.channel.in_flight() != 0 {
            return Progress::Running;
        }
        self.account(self.clock.ticks(), true);
        self.tally.ticks = self.round_began - self.began;
        Progress::Finished
    }

    /// What the run has come to.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What went wrong, if anything did.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Books the time since the last round, with everything that the core did in it. It was busy
    /// if that round found or submitted Ios, and also if this one found some: the device's own
    /// poller has taken them in since.
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
        let Self { channel, clock, at_rest, failure, tally, .. } = self;
        let mut found = false;
        let _ = channel.poll(|io| {
            tally.latency.record(clock.ticks().saturating_sub(io.tag));
            if let Err(error) = io.status {
                *failure = Some(Failure::Io(error));
            }
            at_rest.push(io);
            found = true;
        });
        if failure.is_some() {
            self.stop.ios = 0;
        }
        found
    }

    #[inline]
    fn submit(&mut self) -> bool {
        let mut submitted = false;
        while self.stop.ios != 0
            && let Some(mut io) = self.at_rest.pop()
        {
            io.lba = self.random.below(self.shape.places) * u64::from(self.shape.blocks);
            io.tag = self.clock.ticks();
            if let Err(refused) = self.channel.submit(io) {
                self.at_rest.push(refused.io);
                self.refused(refused.reason);
                break;
            }
            self.stop.ios -= 1;
            submitted = true;
        }
        submitted
    }

    #[cold]
    fn refused(&mut self, reason: RejectReason) {
        // A queue shorter than the depth is filled again as Ios finish.
        if reason != RejectReason::QueueFull {
            self.failure = Some(Failure::Refused(reason));
            self.stop.ios = 0;
        }
    }
}

/// Xorshift (Marsaglia 2003): some instructions per number, and random enough to pick blocks.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero would stay zero; the odd factor spreads small seeds over all bits.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// A number below `bound`.
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}
