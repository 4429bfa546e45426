use core::time::Duration;

use basalt_env::{DmaPool, Instant, OutOfDmaMemory, Registers, Work};
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{Command, NvmOpcode, Status};
use basalt_ring::{Full, Rest, Slots, StaleTag, Tag};
use zerocopy::little_endian::U16;

use crate::describe::{Describe, Lists, Segments};
use crate::registers::{Health, health};
use crate::rings::{RawCompletion, Rings};
use crate::{
    IoQueueStats, Namespace, NotQuiesced, Payload, QueueAddress, QueueError, QueueSpec, Quiesced,
    RejectReason, Rejected, Sgls, Ticket, prp,
};

/// Most blocks one command names.
pub(crate) const BLOCKS_MAX: u32 = 65_536;

/// Which way a transfer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the device to the buffers.
    Read = NvmOpcode::READ.0,
    /// From the buffers to the device.
    Write = NvmOpcode::WRITE.0,
    /// As well, to be compared with what is there.
    Compare = NvmOpcode::COMPARE.0,
}

impl Direction {
    pub(crate) const fn opcode(self) -> NvmOpcode {
        NvmOpcode(self as u8)
    }
}

#[derive(Debug)]
struct InFlight<T> {
    payload: T,
    /// When [`IoQueue::check`] first saw it, or [`UNSEEN`]; the I/O path reads no clock.
    seen: Instant,
}

/// How a command ended, as its completion tells.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a, R> {
    completion: &'a RawCompletion,
    rings: &'a Rings<R>,
}

impl<R: Registers> Ended<'_, R> {
    /// Its status.
    #[inline(always)]
    pub fn status(&self) -> Status {
        self.completion.status
    }

    /// Its result: dwords 0 and 1.
    pub fn result(&self) -> u64 {
        self.rings.result(self.completion)
    }
}

/// Later than any time: nothing is overdue since then.
const UNSEEN: Instant = Instant::from_ns(u64::MAX);
/// Set in the time that a command was first seen at, once it was told to be late.
const ASKED: u64 = 1;

/// An I/O queue pair, owned by one core.
///
/// ```text
///   allocate ──1 Controller::create_io_queue──> live ──2 lie, timeout, fatal, removed──> failed
///                                                │                                        │
///                                                └──────3 Controller::stop / delete───────┤
///                                                                                         v
///                     4 abort_all(proof): each outstanding payload once ──────────────> stopped
/// ```
///
/// Dropped with commands outstanding and without proof that the device is quiet, it leaks its
/// rings, lists and payloads on purpose: freed memory must not be under DMA.
#[derive(Debug)]
pub struct IoQueue<R: Registers, T> {
    rings: Rings<R>,
    slots: Slots<InFlight<T>>,
    lists: Lists,
    fault: Option<QueueError>,
    transfer_max: u64,
    oncs: Oncs,
    sgls: Option<Sgls>,
    /// What has been submitted is not counted, but is what has ended and what has not.
    stats: IoQueueStats,
    aborted: u64,
    timeout: Duration,
    where_to: QueueAddress,
}

impl<R: Registers, T> IoQueue<R, T> {
    /// Allocates rings, lists and slots from this core's pool. The device learns of it by
    /// [`crate::Controller::create_io_queue`].
    pub fn allocate(pool: &DmaPool, spec: QueueSpec<R>) -> Result<Self, OutOfDmaMemory> {
        let QueueSpec { registers, stride, qid, entries, elsewhere, .. } = spec.clone();
        let rings = Rings::allocate(pool, registers, qid, entries, stride, elsewhere)?;
        let depth = usize::from(entries - 1);
        let lists = Lists::allocate(pool, depth)?;
        let slots = Slots::with_capacity(depth).map_err(|_| OutOfDmaMemory { requested: depth })?;
        let (sq, cq) = (rings.sq_bus(), rings.cq_bus());
        Ok(Self {
            rings,
            slots,
            lists,
            fault: None,
            transfer_max: spec.transfer_max,
            oncs: spec.oncs,
            sgls: spec.sgls,
            stats: IoQueueStats::default(),
            aborted: 0,
            timeout: spec.timeout,
            where_to: spec.with_rings_at(sq, cq),
        })
    }

    /// Where the rings are, for [`crate::Controller::create_io_queue`].
    pub const fn address(&self) -> QueueAddress {
        self.where_to
    }

    /// Commands that can be outstanding at once.
    pub fn depth(&self) -> usize {
        self.slots.capacity()
    }

    /// Commands outstanding now.
    pub fn outstanding(&self) -> usize {
        self.slots.len()
    }

    /// Most bytes one command moves.
    pub const fn transfer_max(&self) -> u64 {
        self.transfer_max
    }

    /// Whether and how the controller takes SGLs with I/O commands.
    pub(crate) const fn sgls(&self) -> Option<Sgls> {
        self.sgls
    }

    /// What its commands are described by, beside themselves.
    pub(crate) const fn lists(&self) -> &Lists {
        &self.lists
    }

    /// Optional commands the controller does.
    pub(crate) const fn oncs(&self) -> Oncs {
        self.oncs
    }

    /// Why it takes no more commands, if so.
    pub const fn fault(&self) -> Option<QueueError> {
        self.fault
    }

    /// What it has seen and done.
    pub fn stats(&self) -> IoQueueStats {
        let ended = self.stats.completed + self.aborted;
        IoQueueStats {
            submitted: ended + self.outstanding() as u64,
            doorbells: self.rings.rung(),
            ..self.stats
        }
    }

    /// Keeps the payload, has `data` describe what it carries, and writes the entry.
    #[inline(always)]
    pub(crate) fn submit(
        &mut self,
        mut command: Command,
        payload: T,
        data: impl Describe<T>,
    ) -> Result<Ticket, Rejected<T>> {
        let ticket = self.place(&mut command, payload, data)?;
        self.push(&command);
        Ok(ticket)
    }

    /// Writes the entry of a command that was placed.
    #[inline(always)]
    pub(crate) fn push(&mut self, command: &Command) {
        self.rings.push(command);
    }

    /// Keeps the payload, and has `data` describe what it carries.
    ///
    /// Always inlined, so that the payload moves but once, from its maker to its slot; and it is
    /// described from there, so that its maker's copy need not be in memory.
    #[inline(always)]
    pub(crate) fn place(
        &mut self,
        command: &mut Command,
        payload: T,
        data: impl Describe<T>,
    ) -> Result<Ticket, Rejected<T>> {
        if let Some(error) = self.fault {
            return Err(Rejected { payload, reason: RejectReason::Failed(error) });
        }
        let (tag, kept) = match self.slots.insert_ref(InFlight { payload, seen: UNSEEN }) {
            Ok(inserted) => inserted,
            Err(Full(InFlight { payload, .. })) => {
                return Err(Rejected { payload, reason: RejectReason::QueueFull });
            }
        };
        match data.describe(&kept.payload, tag, &self.lists) {
            Ok(prp::Prps { prp1, prp2 }) => command.set_prps(prp1, prp2),
            Err(reason) => return self.hand_back(Ticket(tag.as_u16()), reason),
        }
        command.cid = U16::new(tag.as_u16());
        Ok(Ticket(tag.as_u16()))
    }

    /// Refuses a command that was placed, of which the device has not heard.
    #[cold]
    #[inline(never)]
    pub(crate) fn hand_back(
        &mut self,
        ticket: Ticket,
        reason: RejectReason,
    ) -> Result<Ticket, Rejected<T>> {
        match self.slots.remove(Tag::from_u16(ticket.0)) {
            Ok(InFlight { payload, .. }) => Err(Rejected { payload, reason }),
            // Not so: the ticket is that of the slot just filled.
            Err(StaleTag) => Ok(ticket),
        }
    }

    /// Tells the device about everything submitted since the last time, if anything was: one
    /// doorbell a round.
    #[inline]
    pub fn commit(&mut self) -> Work {
        self.rings.commit()
    }

    /// Takes up to `budget` completions and hands back what each command carried.
    ///
    /// A completion that names nothing outstanding fails the queue: see [`Self::fault`].
    #[inline]
    pub fn poll(&mut self, budget: u32, done: impl FnMut(T, Status)) -> Work {
        if self.rings.is_idle() {
            self.stats.polls += 1;
            return Work::IDLE;
        }
        self.poll_some(budget, done)
    }

    // Apart, so that finding nothing costs next to nothing.
    #[inline(never)]
    fn poll_some(&mut self, budget: u32, mut done: impl FnMut(T, Status)) -> Work {
        self.reap(budget, |slots, tag, ended| {
            slots.remove(tag).map(|entry| done(entry.payload, ended.status()))
        })
    }

    /// As [`Self::poll`], but `done` sees what each command carried where it lies, and takes from
    /// it what it wants; the rest is dropped. It spares a large payload the moves.
    #[inline]
    pub fn poll_in_place(&mut self, budget: u32, mut done: impl FnMut(&mut T, Ended<'_, R>)) -> Work
    where
        T: Payload,
    {
        self.reap(budget, |slots, tag, ended| {
            slots.remove_with(tag, |entry| {
                done(&mut entry.payload, ended);
                ((), if entry.payload.is_hollow() { Rest::Hollow } else { Rest::Kept })
            })
        })
    }

    #[inline(always)]
    fn reap(
        &mut self,
        budget: u32,
        mut end: impl FnMut(&mut Slots<InFlight<T>>, Tag, Ended<'_, R>) -> Result<(), StaleTag>,
    ) -> Work {
        let mut found = 0;
        if self.fault.is_some() {
            return Work::IDLE;
        }
        while found < budget {
            let Some(completion) = self.rings.next_completion() else { break };
            let tag = Tag::from_u16(completion.cid);
            let ended = Ended { completion: &completion, rings: &self.rings };
            if end(&mut self.slots, tag, ended).is_err() {
                self.quarantine(completion.cid);
                break;
            }
            found += 1;
            if !completion.status.is_success() {
                self.stats.failed += 1;
            }
        }
        self.stats.polls += 1;
        if found != 0 {
            self.stats.busy_polls += 1;
            self.stats.completed += u64::from(found);
        }
        self.rings.release();
        Work(found)
    }

    #[cold]
    fn quarantine(&mut self, cid: u16) {
        self.stats.bad_completions += 1;
        self.fail(QueueError::BadCompletion { cid });
    }

    fn fail(&mut self, error: QueueError) {
        log::error!("nvme {} queue {}: {error}", self.where_to.address, self.where_to.qid);
        self.fault.get_or_insert(error);
    }

    /// Tells the device of all completions that were taken, which polls do now and then only. To be
    /// called before its interrupts are relied on: it need not send another before.
    pub fn settle(&mut self) {
        self.rings.release_all();
    }

    /// Looks for what a poll cannot see: a device that is gone or broken, commands past their time.
    ///
    /// To be called a few times per time limit. A command's age counts from the first call that saw
    /// it, so it is found late by one period at most. One past its time is handed to `late`, once:
    /// the controller should be asked to abort it. If that has not ended it after half the time
    /// again, the queue fails; so it does for what else is found.
    pub fn check(&mut self, now: Instant, late: impl FnMut(Ticket)) -> Option<QueueError> {
        if self.fault.is_some() {
            return self.fault;
        }
        let error = match health(self.rings.registers()) {
            Health::Removed => Some(QueueError::Removed),
            Health::Fatal => Some(QueueError::Fatal),
            Health::Fine { .. } => self.find_overdue(now, late),
        };
        if let Some(error) = error {
            self.fail(error);
        }
        self.fault
    }

    fn find_overdue(&mut self, now: Instant, mut late: impl FnMut(Ticket)) -> Option<QueueError> {
        let limit = self.timeout + self.timeout / 2;
        let mut is_overdue = false;
        for (tag, entry) in self.slots.iter_mut() {
            if entry.seen == UNSEEN {
                entry.seen = Instant::from_ns(now.as_ns() & !ASKED);
                continue;
            }
            let (seen, age) = (entry.seen.as_ns(), now.since(entry.seen));
            if seen & ASKED != 0 {
                is_overdue |= age > limit;
            } else if age > self.timeout {
                self.stats.timeouts += 1;
                entry.seen = Instant::from_ns(seen | ASKED);
                late(Ticket(tag.as_u16()));
            }
        }
        is_overdue.then_some(QueueError::Timeout)
    }

    /// What is outstanding, in no order.
    pub fn outstanding_mut(&mut self) -> impl Iterator<Item = (Ticket, &mut T)> {
        let entries = self.slots.iter_mut();
        entries.map(|(tag, entry)| (Ticket(tag.as_u16()), &mut entry.payload))
    }

    /// Hands back what every outstanding command carried, each once, now that `proof` shows that
    /// the device is quiet. The queue is stopped afterwards and frees its memory on drop.
    pub fn abort_all(
        &mut self,
        proof: Quiesced,
        mut aborted: impl FnMut(T),
    ) -> Result<usize, NotQuiesced> {
        if !proof.covers(&self.where_to) {
            return Err(NotQuiesced);
        }
        self.fault.get_or_insert(QueueError::Stopped);
        let count = self.slots.len();
        self.aborted += count as u64;
        self.slots.drain().for_each(|entry| aborted(entry.payload));
        Ok(count)
    }
}

impl<R: Registers, T: Payload> IoQueue<R, T> {
    /// Reads `blocks` (1 to 65,536) from `lba` into the payload's buffers.
    #[inline]
    pub fn read(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        self.transfer_any(Direction::Read, ns, lba, blocks, payload)
    }

    /// Writes `blocks` (1 to 65,536) at `lba` from the payload's buffers.
    #[inline]
    pub fn write(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        self.transfer_any(Direction::Write, ns, lba, blocks, payload)
    }

    /// Compares `blocks` (1 to 65,536) at `lba` with the payload's buffers, where the controller
    /// can ([`Oncs::COMPARE`]).
    pub fn compare(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        if !self.oncs.contains(Oncs::COMPARE) || !ns.can_compare() {
            return Err(Rejected { payload, reason: RejectReason::Unsupported });
        }
        self.transfer_any(Direction::Compare, ns, lba, blocks, payload)
    }

    #[inline]
    fn transfer_any(
        &mut self,
        direction: Direction,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let is_scattered = payload.segments().len() > 1 && self.sgls.is_some();
        if ns.has_metadata() || is_scattered {
            return self.transfer_closely(direction, ns, lba, blocks, payload);
        }
        self.transfer(direction, ns, lba, blocks, payload)
    }

    /// [`Self::read`] or [`Self::write`], for callers that do both alike, on a namespace without
    /// metadata: on another, no block is in range.
    ///
    /// Always inlined: see `Self::place`.
    #[inline(always)]
    pub fn transfer(
        &mut self,
        direction: Direction,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let command = Command::on_range(direction.opcode(), ns.nsid(), lba, blocks);
        let bytes = ns.bytes(blocks);
        let transfer_max = self.transfer_max;
        if blocks > BLOCKS_MAX || !ns.contains_plain(lba, blocks) {
            return Err(Rejected { payload, reason: RejectReason::OutOfRange });
        }
        if bytes > transfer_max {
            return Err(Rejected { payload, reason: RejectReason::MaxTransfer });
        }
        self.submit(command, payload, Segments { bytes })
    }
}

impl<R: Registers, T> Drop for IoQueue<R, T> {
    fn drop(&mut self) {
        if self.slots.is_empty() {
            return;
        }
        log::error!(
            "nvme {} queue {}: dropped with {} commands outstanding; their memory is given up",
            self.where_to.address,
            self.where_to.qid,
            self.slots.len()
        );
        self.rings.leak();
        self.lists.leak();
        self.slots.drain().for_each(core::mem::forget);
    }
}
