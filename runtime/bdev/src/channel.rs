use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use core::fmt;

use basalt_env::{Instant, Work};
use basalt_metrics::{Tpoint, TraceGroup};
use basalt_reactor::Local;

use crate::emulate::Emulator;
use crate::gate::{self, OpenChannels};
use crate::limited::Limited;
use crate::watch::{UnderWay, Watch};
use crate::{Descriptor, Io, IoChannel, Op, OpSet, RejectReason, Rejected, SgList};

/// One core's checked and counted way to one bdev.
///
/// Life cycle of an Io in it:
///
/// ```text
///             (1) refused: handed back with the reason
///  submit ----+
///             (2) accepted, stamped ----> device ----> (3) counted, handed to `done` by poll
/// ```
///
/// It refuses what no device should see: blocks outside the device or none, data of the wrong
/// length, operations the bdev does not do or the descriptor does not allow, and everything once
/// the bdev was removed. Ios accepted before a removal still come back.
pub struct Channel {
    // Read by every submission.
    block_shift: u32,
    /// Operations that the bdev does itself, as far as they are allowed.
    native: OpSet,
    below: BaseChannel,
    /// Made when it is first needed.
    extra: Option<Box<Extra>>,
}

/// What a channel has that does more than pass Ios on.
#[derive(Default)]
struct Extra {
    /// For operations that the bdev does not do itself.
    emulator: Option<Emulator>,
    /// What is under way, where that may take so long and no longer.
    watch: Watch,
}

impl Channel {
    /// Bytes that [`Op::ZoneReport`] tells of each zone.
    pub const ZONE_LEN: usize = 64;

    pub(crate) fn new(below: BaseChannel) -> Self {
        let native = below.descriptor.native();
        OpenChannels::of(&below.local).add(below.descriptor.node(), &below.in_flight);
        Self { block_shift: below.block_shift, native, below, extra: None }
    }

    /// Hands over an Io; a refused one comes straight back.
    #[inline]
    pub fn submit(&mut self, mut io: Io) -> Result<(), Rejected> {
        self.submit_in_place(&mut io).map_err(|reason| Rejected { io, reason })
    }

    /// Takes `io`, or leaves it as it is and says why. It spares the Io a move.
    #[inline]
    pub fn submit_in_place(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if !self.native.has(io.op) {
            return self.emulate(io);
        }
        if self.below.descriptor.node().claims.has_attention() {
            return self.submit_closely(io);
        }
        if let Some(reason) = self.refusal(io) {
            return Err(reason);
        }
        io.submitted = self.below.local.now();
        self.below.submit(io)
    }

    /// Hands each finished Io to `done`.
    #[inline]
    pub fn poll(&mut self, mut done: impl FnMut(Io)) -> Work {
        self.poll_in_place(|io| done(io.take()))
    }

    /// Shows each finished Io to `done`, which may take it; what it leaves is dropped.
    #[inline]
    pub fn poll_in_place(&mut self, mut done: impl FnMut(&mut Io)) -> Work {
        if self.extra.is_some() {
            return self.poll_both(&mut done);
        }
        self.below.poll(done)
    }

    #[cold]
    fn poll_both(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let Some(extra) = &mut self.extra else { return Work::IDLE };
        let Extra { emulator, watch } = &mut **extra;
        let mut done = |io: &mut Io| {
            watch.remove(io);
            done(io);
        };
        let emulated = emulator.as_mut().map_or(Work::IDLE, |emulator| emulator.poll(&mut done));
        self.below.poll(done) + emulated
    }

    /// Shows each Io to `late` that has taken longer than its descriptor allows
    /// ([`Descriptor::set_timeout`]), once. To be called a few times per time limit.
    pub fn find_late(&mut self, late: impl FnMut(&UnderWay)) {
        let limit = self.below.descriptor.timeout();
        if let (Some(limit), Some(extra)) = (limit, &mut self.extra) {
            extra.watch.find_late(self.below.local.now(), limit, late);
        }
    }

    fn emulator(&mut self) -> Option<&mut Emulator> {
        self.extra.as_mut()?.emulator.as_mut()
    }

    /// `io` was taken, if all went well.
    fn watch(&mut self, io: UnderWay, submitted: Result<(), RejectReason>) {
        if submitted.is_ok() && self.below.descriptor.timeout().is_some() {
            self.extra.get_or_insert_default().watch.add(io);
        }
    }

    /// Ends the Ios with that tag early, as far as the bdev can ([`Bdev::can_abort`]): they are
    /// handed back by a later poll, as [`IoError::Aborted`] or as they would have ended. Whether
    /// there may be any.
    ///
    /// [`Bdev::can_abort`]: crate::Bdev::can_abort
    /// [`IoError::Aborted`]: crate::IoError::Aborted
    pub fn abort(&mut self, tag: u64) -> bool {
        let emulated = self.emulator().is_some_and(|emulator| emulator.abort(tag));
        self.below.abort(tag) || emulated
    }

    /// Ios accepted and not yet handed back.
    pub fn in_flight(&self) -> u32 {
        let emulator = self.extra.as_ref().and_then(|extra| extra.emulator.as_ref());
        self.below.in_flight() + emulator.map_or(0, Emulator::in_flight)
    }

    /// What it was made of.
    pub fn descriptor(&self) -> &Descriptor {
        &self.below.descriptor
    }

    /// What the bdev does not do itself, if other operations make up for it.
    #[cold]
    #[inline(never)]
    fn emulate(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let descriptor = &self.below.descriptor;
        if !descriptor.is_removed() && !descriptor.allows(io.op) {
            return Err(RejectReason::Unsupported);
        }
        if self.below.descriptor.node().claims.has_attention() {
            self.attend(io)?;
        }
        if let Some(reason) = self.refusal(io).or_else(|| self.source_refusal(io)) {
            return Err(reason);
        }
        let unit = self.below.descriptor.bdev().write_unit();
        if io.op.changes_blocks() && !io.is_of_units(unit) {
            return Err(RejectReason::Unaligned);
        }
        io.submitted = self.below.local.now();
        let taken = UnderWay::of(io);
        let submitted = self.begin(io);
        self.watch(taken, submitted);
        submitted
    }

    /// Whether the bdev does this one itself, of those that it does not always.
    fn is_native(&self, io: &Io) -> bool {
        let bdev = self.below.descriptor.bdev();
        match io.op {
            Op::Copy => !io.overlaps_itself() && bdev.supports(io.op),
            Op::CompareAndWrite => io.blocks <= bdev.compare_and_write_max(),
            _ => false,
        }
    }

    /// Has it made of other operations, if the bdev cannot do it.
    fn begin(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.is_native(io) {
            return self.below.submit(io);
        }
        if let Some(emulator) = self.emulator() {
            return emulator.begin(io);
        }
        let emulator = Emulator::new(&self.below.descriptor, &self.below.local)?;
        self.extra.get_or_insert_default().emulator.insert(emulator).begin(io)
    }

    /// What is copied must lie inside as well.
    fn source_refusal(&self, io: &Io) -> Option<RejectReason> {
        let end = match (io.op, &io.data) {
            (Op::Copy, SgList::Blocks(from)) => from.checked_add(io.blocks.into()),
            (Op::Copy, _) => return Some(RejectReason::BadBuffer),
            _ => return None,
        };
        let size = self.below.descriptor.node().num_blocks.get();
        end.is_none_or(|end| end > size).then_some(RejectReason::OutOfRange)
    }

    #[inline]
    fn refusal(&self, io: &Io) -> Option<RejectReason> {
        let node = self.below.descriptor.node();
        if !matches!(io.op, Op::Read | Op::Write | Op::Compare) {
            return self.refusal_of_others(io);
        }
        // No blocks end where they begin, and too many wrap round to before it.
        let end = io.lba.wrapping_add(u64::from(io.blocks));
        if end <= io.lba || end > node.num_blocks.get() {
            return Some(RejectReason::OutOfRange);
        }
        let len = u64::from(io.blocks) << self.block_shift;
        (io.data.len() as u64 != len).then_some(RejectReason::BadBuffer)
    }

    /// Submits what is to be looked at, because the bdev is gone, held or limited.
    #[cold]
    #[inline(never)]
    fn submit_closely(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.attend(io)?;
        if let Some(reason) = self.refusal(io) {
            return Err(reason);
        }
        let qos = &self.below.descriptor.node().qos;
        if let Err(again) = qos.take(io, self.block_shift, self.below.local.now()) {
            return Err(self.keep_out(again));
        }
        io.submitted = self.below.local.now();
        let taken = UnderWay::of(io);
        let submitted = self.below.submit(io);
        if submitted.is_err() {
            self.below.descriptor.node().qos.give_back(io, self.block_shift);
        }
        self.watch(taken, submitted);
        submitted
    }

    /// Whether anything is in the way of `io` now.
    fn attend(&self, io: &Io) -> Result<(), RejectReason> {
        let (node, local) = (self.below.descriptor.node(), &self.below.local);
        if node.claims.is_removed() {
            return Err(RejectReason::Removed);
        }
        // Those that take the gate themselves wait for it elsewhere.
        let takes_gate = matches!(io.op, Op::CompareAndWrite | Op::Reset) && !self.is_native(io);
        if !takes_gate && node.gate.bars(local.core(), io) {
            return Err(self.keep_out(local.now() + gate::AGAIN));
        }
        Ok(())
    }

    fn keep_out(&self, again: Instant) -> RejectReason {
        OpenChannels::of(&self.below.local).try_again(again);
        RejectReason::QueueFull
    }

    /// Of those that are no plain transfers.
    #[cold]
    fn refusal_of_others(&self, io: &Io) -> Option<RejectReason> {
        let size = self.below.descriptor.node().num_blocks.get();
        let end = io.lba.checked_add(u64::from(io.blocks));
        if io.op.has_blocks() && (io.blocks == 0 || end.is_none_or(|end| end > size)) {
            return Some(RejectReason::OutOfRange);
        }
        if matches!(io.op, Op::NvmeIo | Op::NvmeAdmin) {
            let is_command = matches!(io.data, SgList::Nvme(_));
            return (!is_command).then_some(RejectReason::BadBuffer);
        }
        if io.op == Op::ZoneReport {
            let whole = !io.data.is_empty() && io.data.len().is_multiple_of(Self::ZONE_LEN);
            return (!whole).then_some(RejectReason::BadBuffer);
        }
        let len = match io.op {
            Op::ZoneAppend => u64::from(io.blocks) << self.block_shift,
            Op::CompareAndWrite => u64::from(io.blocks) << self.block_shift << 1,
            _ => 0,
        };
        (io.data.len() as u64 != len).then_some(RejectReason::BadBuffer)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.descriptor().info().name;
        write!(
            f,
            "Channel({name}, core {}, {} in flight)",
            self.below.local.core(),
            self.in_flight()
        )
    }
}

/// A channel for a layer that has its Ios from a [`Channel`] above it, and so passes on only what
/// its base does too, inside the base, with data of the right length. It counts and does not check;
/// an Io's time runs from when the layer got it, unless the layer says otherwise.
pub struct BaseChannel {
    inner: Box<dyn IoChannel>,
    in_flight: Rc<Cell<u32>>,
    limits: Limits,
    block_shift: u32,
    local: Local,
    descriptor: Descriptor,
}

/// Who sees to the limits of the bdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limits {
    /// The [`Channel`] around it.
    Above,
    /// It does itself, once there are some.
    ToCome,
    /// It does.
    Kept,
}

impl BaseChannel {
    pub(crate) fn new(
        inner: Box<dyn IoChannel>,
        descriptor: Descriptor,
        local: Local,
        limits: Limits,
    ) -> Self {
        let block_shift = descriptor.info().block_size.trailing_zeros();
        Self { inner, in_flight: Rc::default(), limits, block_shift, local, descriptor }
    }

    /// Takes `io`, or leaves it as it is and says why.
    #[inline]
    pub fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.local.traces(TraceGroup::Bdev) {
            return self.submit_traced(io);
        }
        self.inner.submit(io)?;
        self.in_flight.set(self.in_flight.get() + 1);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn submit_traced(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let (op, blocks) = (io.op.index() as u16, io.blocks.into());
        let values = [io.lba, blocks, 0];
        self.inner.submit(io)?;
        self.in_flight.set(self.in_flight.get() + 1);
        self.local.trace(Tpoint::BdevIoStart, (op, self.descriptor.node().number), values);
        Ok(())
    }

    /// Shows each finished Io to `done`, which may take it; what it leaves is dropped.
    #[inline]
    pub fn poll(&mut self, mut done: impl FnMut(&mut Io)) -> Work {
        if self.in_flight.get() == 0 {
            return Work::IDLE;
        }
        let node = self.descriptor.node();
        let closely = node.claims.has_attention() || self.local.traces(TraceGroup::Bdev);
        let (Some(stat), false) = (node.stats.writer(self.local.core()), closely) else {
            return self.poll_closely(&mut done);
        };
        let now = self.local.now();
        let mut finished = 0;
        let work = self.inner.poll(&mut |io| {
            stat.record(io, now);
            finished += 1;
            done(io);
        });
        self.in_flight.set(self.in_flight.get().saturating_sub(finished));
        work
    }

    /// The same, with all that may be wanted to know of them.
    #[cold]
    fn poll_closely(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let (now, core) = (self.local.now(), self.local.core());
        let node = self.descriptor.node();
        if self.limits == Limits::ToCome && node.qos.is_limited() {
            Limited::wrap(&mut self.inner, node, &self.local);
            self.limits = Limits::Kept;
        }
        let (stat, latencies) = (node.stats.writer(core), node.latencies());
        let traced = self.local.traces(TraceGroup::Bdev).then_some((&self.local, node.number));
        let mut finished = 0;
        let work = self.inner.poll(&mut |io| {
            stat.into_iter().for_each(|stat| stat.record(io, now));
            traced.iter().for_each(|(local, bdev)| trace_done(local, *bdev, io));
            latencies.iter().for_each(|latencies| latencies.record(core, io, now));
            finished += 1;
            done(io);
        });
        self.in_flight.set(self.in_flight.get().saturating_sub(finished));
        work
    }

    /// Ends the Ios with that tag early, if the bdev can; see [`IoChannel::abort`].
    pub fn abort(&mut self, tag: u64) -> bool {
        self.inner.abort(tag)
    }

    /// What it was made of.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Ios passed on and not yet handed back.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }
}

#[cold]
fn trace_done(local: &Local, bdev: u32, io: &Io) {
    let ns = local.now().as_ns().saturating_sub(io.submitted.as_ns());
    let (small, values) = ((io.op.index() as u16, bdev), [io.lba, io.blocks.into(), ns]);
    match io.status {
        Ok(()) => local.trace(Tpoint::BdevIoDone, small, values),
        Err(_) => local.trace_failed(Tpoint::BdevIoDone, small, values),
    }
}
