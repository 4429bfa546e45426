use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::{DmaMem, DmaPool, Instant, OutOfDmaMemory, PciAddress, Registers, Work};
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{
    Command, DSM_RANGES_MAX, DsmAttributes, DsmRange, PAGE_SIZE, QueueId, Status,
};
use basalt_ring::{Full, Slots, Tag};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use crate::registers::{Health, health};
use crate::rings::Rings;
use crate::{Namespace, NotQuiesced, Payload, QueueError, Quiesced, RejectReason, Rejected, prp};

/// Most blocks one command names.
const BLOCKS_MAX: u32 = 65_536;

/// What a core needs to make an I/O queue of a controller, which makes it and sends it there.
#[derive(Clone, Debug)]
pub struct QueueSpec<R> {
    pub(crate) registers: R,
    pub(crate) stride: usize,
    pub(crate) address: PciAddress,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
    pub(crate) qid: QueueId,
    pub(crate) entries: u16,
    pub(crate) transfer_max: u64,
    pub(crate) oncs: Oncs,
    pub(crate) timeout: Duration,
}

impl<R> QueueSpec<R> {
    /// Commands that can be outstanding at once.
    pub const fn depth(&self) -> u16 {
        self.entries - 1
    }

    /// Most bytes one command moves.
    pub const fn transfer_max(&self) -> u64 {
        self.transfer_max
    }

    /// Optional commands the controller does.
    pub const fn optional_commands(&self) -> Oncs {
        self.oncs
    }
}

/// Where a queue's rings are, for the core that sends the admin commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueAddress {
    pub(crate) qid: QueueId,
    pub(crate) entries: u16,
    pub(crate) sq: u64,
    pub(crate) cq: u64,
    pub(crate) address: PciAddress,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
}

impl QueueAddress {
    /// Queue identifier.
    pub const fn qid(&self) -> QueueId {
        self.qid
    }
}

/// Names a submitted command until it completes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(u16);

impl Ticket {
    /// The command identifier, as Abort names it.
    pub const fn cid(self) -> u16 {
        self.0
    }
}

/// What a queue has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoQueueStats {
    /// Commands submitted.
    pub submitted: u64,
    /// Commands completed.
    pub completed: u64,
    /// Completions with an error status.
    pub failed: u64,
    /// Completions that named nothing outstanding.
    pub bad_completions: u64,
    /// Commands found past their time limit.
    pub timeouts: u64,
}

#[derive(Debug)]
struct InFlight<T> {
    payload: T,
    /// When [`IoQueue::check`] first saw it; the I/O path reads no clock.
    seen: Option<Instant>,
}

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
    /// One page per slot: a PRP list or the ranges of a Dataset Management.
    lists: Vec<DmaMem>,
    slot_mask: u16,
    fault: Option<QueueError>,
    transfer_max: u64,
    oncs: Oncs,
    stats: IoQueueStats,
    timeout: Duration,
    where_to: QueueAddress,
}

impl<R: Registers, T> IoQueue<R, T> {
    /// Allocates rings, lists and slots from this core's pool. The device learns of it by
    /// [`crate::Controller::create_io_queue`].
    pub fn allocate(pool: &DmaPool, spec: QueueSpec<R>) -> Result<Self, OutOfDmaMemory> {
        let QueueSpec { registers, stride, address, epoch, serial, qid, entries, .. } = spec;
        let rings = Rings::allocate(pool, registers, qid, entries, stride)?;
        let depth = usize::from(entries - 1);
        let lists: Result<Vec<_>, _> = (0..depth).map(|_| pool.alloc_shared(PAGE_SIZE)).collect();
        let slots = Slots::with_capacity(depth).map_err(|_| OutOfDmaMemory { requested: depth })?;
        let (sq, cq) = (rings.sq_bus(), rings.cq_bus());
        Ok(Self {
            rings,
            slots,
            lists: lists?,
            slot_mask: (depth.next_power_of_two() - 1) as u16,
            fault: None,
            transfer_max: spec.transfer_max,
            oncs: spec.oncs,
            stats: IoQueueStats::default(),
            timeout: spec.timeout,
            where_to: QueueAddress { qid, entries, sq, cq, address, epoch, serial },
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

    /// Why it takes no more commands, if so.
    pub const fn fault(&self) -> Option<QueueError> {
        self.fault
    }

    /// What it has seen.
    pub const fn stats(&self) -> IoQueueStats {
        self.stats
    }

    /// Flushes `ns`: all completed writes become durable.
    pub fn flush(&mut self, ns: &Namespace, payload: T) -> Result<Ticket, Rejected<T>> {
        self.submit(Command::flush(ns.nsid()), payload)
    }

    /// Makes blocks read as zeroes, where the controller can ([`Oncs::WRITE_ZEROES`]).
    pub fn write_zeroes(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        if !self.oncs.contains(Oncs::WRITE_ZEROES) {
            return Err(Rejected { payload, reason: RejectReason::Unsupported });
        }
        if blocks > BLOCKS_MAX || !ns.contains(lba, blocks) {
            return Err(Rejected { payload, reason: RejectReason::OutOfRange });
        }
        self.submit(Command::write_zeroes(ns.nsid(), lba, blocks), payload)
    }

    /// Tells the controller that ranges (1 to 256) are no longer needed, where it can
    /// ([`Oncs::DATASET_MANAGEMENT`]).
    pub fn deallocate(
        &mut self,
        ns: &Namespace,
        ranges: &[DsmRange],
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let inside = |range: &DsmRange| ns.contains(range.lba.get(), range.blocks.get());
        let reason = if !self.oncs.contains(Oncs::DATASET_MANAGEMENT) {
            RejectReason::Unsupported
        } else if ranges.is_empty() || ranges.len() > DSM_RANGES_MAX || !ranges.iter().all(inside) {
            RejectReason::OutOfRange
        } else {
            let count = ranges.len() as u32;
            let command = Command::dataset_management(ns.nsid(), count, DsmAttributes::DEALLOCATE);
            return self.submit_with(command, payload, |_, list| {
                list.copy_in(0, ranges.as_bytes());
                Ok(prp::Prps { prp1: list.phys().as_u64(), prp2: 0 })
            });
        };
        Err(Rejected { payload, reason })
    }

    fn submit(&mut self, command: Command, payload: T) -> Result<Ticket, Rejected<T>> {
        self.submit_with(command, payload, |_, _| Ok(prp::Prps { prp1: 0, prp2: 0 }))
    }

    /// Fills in data pointer and identifier, keeps the payload and writes the entry.
    #[inline]
    fn submit_with(
        &mut self,
        mut command: Command,
        payload: T,
        describe: impl FnOnce(&T, &DmaMem) -> Result<prp::Prps, RejectReason>,
    ) -> Result<Ticket, Rejected<T>> {
        if let Some(error) = self.fault {
            return Err(Rejected { payload, reason: RejectReason::Failed(error) });
        }
        let full = RejectReason::QueueFull;
        let Some(tag) = self.slots.next_tag() else {
            return Err(Rejected { payload, reason: full });
        };
        let Some(list) = self.lists.get(usize::from(tag.as_u16() & self.slot_mask)) else {
            return Err(Rejected { payload, reason: full });
        };
        match describe(&payload, list) {
            Ok(prp::Prps { prp1, prp2 }) => command.set_prps(prp1, prp2),
            Err(reason) => return Err(Rejected { payload, reason }),
        }
        command.cid = U16::new(tag.as_u16());
        if let Err(Full(entry)) = self.slots.insert(InFlight { payload, seen: None }) {
            return Err(Rejected { payload: entry.payload, reason: full });
        }
        self.rings.push(&command);
        self.stats.submitted += 1;
        Ok(Ticket(tag.as_u16()))
    }

    /// Tells the device about everything submitted since the last time: one doorbell a round.
    #[inline]
    pub fn commit(&mut self) {
        self.rings.commit();
    }

    /// Takes up to `budget` completions and hands back what each command carried.
    ///
    /// A completion that names nothing outstanding fails the queue: see [`Self::fault`].
    #[inline]
    pub fn poll(&mut self, budget: u32, mut done: impl FnMut(T, Status)) -> Work {
        let mut found = 0;
        while found < budget && self.fault.is_none() {
            let Some(completion) = self.rings.next_completion() else { break };
            let Ok(entry) = self.slots.remove(Tag::from_u16(completion.cid)) else {
                self.quarantine(completion.cid);
                break;
            };
            found += 1;
            self.stats.failed += u64::from(!completion.status.is_success());
            done(entry.payload, completion.status);
        }
        self.stats.completed += u64::from(found);
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

    /// Looks for what a poll cannot see: a device that is gone or broken, commands past their time.
    ///
    /// To be called a few times per time limit. A command's age counts from the first call that saw
    /// it, so it is found late by one period at most. What it finds fails the queue.
    pub fn check(&mut self, now: Instant) -> Option<QueueError> {
        if self.fault.is_some() {
            return self.fault;
        }
        let error = match health(self.rings.registers()) {
            Health::Removed => Some(QueueError::Removed),
            Health::Fatal => Some(QueueError::Fatal),
            Health::Fine { .. } => self.find_overdue(now),
        };
        if let Some(error) = error {
            self.fail(error);
        }
        self.fault
    }

    fn find_overdue(&mut self, now: Instant) -> Option<QueueError> {
        let limit = self.timeout;
        let late = |(_, entry): &(_, &mut InFlight<T>)| match entry.seen {
            Some(seen) => now.since(seen) > limit,
            None => false,
        };
        let mut overdue = 0;
        for slot in self.slots.iter_mut() {
            overdue += u64::from(late(&slot));
            slot.1.seen.get_or_insert(now);
        }
        self.stats.timeouts += overdue;
        (overdue != 0).then_some(QueueError::Timeout)
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
        self.transfer(Command::read(ns.nsid(), lba, blocks), ns, lba, blocks, payload)
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
        self.transfer(Command::write(ns.nsid(), lba, blocks), ns, lba, blocks, payload)
    }

    #[inline]
    fn transfer(
        &mut self,
        command: Command,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let bytes = ns.bytes(blocks);
        let transfer_max = self.transfer_max;
        if blocks > BLOCKS_MAX || !ns.contains(lba, blocks) {
            return Err(Rejected { payload, reason: RejectReason::OutOfRange });
        }
        self.submit_with(command, payload, |payload, list| {
            let segments = payload.segments();
            if bytes > transfer_max {
                return Err(RejectReason::MaxTransfer);
            }
            // The common case, one buffer, is told apart once.
            if let [only] = segments {
                return if only.len() as u64 == bytes {
                    prp::build_one(only, list)
                } else {
                    Err(RejectReason::BadLength)
                };
            }
            if segments.iter().map(|segment| segment.len() as u64).sum::<u64>() != bytes {
                return Err(RejectReason::BadLength);
            }
            prp::build(segments, list)
        })
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
        core::mem::take(&mut self.lists).into_iter().for_each(core::mem::forget);
        self.slots.drain().for_each(core::mem::forget);
    }
}
