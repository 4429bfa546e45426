use alloc::boxed::Box;
use alloc::rc::Rc;
use core::sync::atomic::{Ordering, fence};

use basalt_env::{DmaMem, DmaPool, OutOfDmaMemory, Registers, Work};
use basalt_nvme_spec::registers::{cq_head_doorbell, sq_tail_doorbell};
use basalt_nvme_spec::{Command, Completion, QueueId, Status};
use basalt_ring::Cursor;
use zerocopy::IntoBytes;

use crate::DoorbellStats;
use crate::elsewhere::Elsewhere;

/// The memory both ends see. Shared so that dropping a queue in use can leak it.
#[derive(Debug)]
pub(crate) struct RingMemory {
    sq: DmaMem,
    cq: DmaMem,
}

/// Where in a completion the eight bytes are that end with its identifier, status and phase.
const UPPER_HALF: usize = Completion::STATUS_PHASE - 6;

/// What a completion says, before anyone believes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawCompletion {
    pub(crate) cid: u16,
    pub(crate) status: Status,
    at: usize,
}

/// The device is told of completions taken once they are one in so many entries.
const TAKEN_PART: u32 = 4;

/// A submission and a completion ring of one size, and their doorbells.
///
/// Writing an entry ([`Self::push`]) and telling the device ([`Self::commit`]) are separate, so
/// that a round of commands costs one doorbell. The caller keeps fewer commands outstanding than
/// there are entries; the device fetches in order, so an entry that comes round again has been
/// fetched, and neither ring can overflow, whatever heads the device reports. Completions are given
/// back late: the device has room for the others, and for as long as none comes nothing waits.
#[derive(Debug)]
pub(crate) struct Rings<R> {
    memory: Rc<RingMemory>,
    sq: Cursor,
    cq: Cursor,
    sq_rung: usize,
    /// Completions taken that the device has not been told of.
    taken: u32,
    /// So many are worth telling it: the write may leave a guest, and the ring has room meanwhile.
    taken_max: u32,
    sq_doorbell: usize,
    cq_doorbell: usize,
    rung: DoorbellStats,
    /// What few devices need. Apart, so that the others pay for no more than a look.
    elsewhere: Option<Box<Elsewhere<R>>>,
    registers: R,
}

impl<R: Registers> Rings<R> {
    /// Empty rings of `entries` each, not yet known to the device. `stride` in bytes.
    pub(crate) fn allocate(
        pool: &DmaPool,
        registers: R,
        qid: QueueId,
        entries: u16,
        stride: usize,
        elsewhere: Option<Elsewhere<R>>,
    ) -> Result<Self, OutOfDmaMemory> {
        let entries = entries.max(2);
        // A ring must start on a page: smaller blocks of the pool are not aligned to one.
        let bytes = |size: usize| (usize::from(entries) * size).max(basalt_nvme_spec::PAGE_SIZE);
        let sq = pool.alloc_shared(bytes(size_of::<Command>()))?;
        let cq = pool.alloc_shared(bytes(size_of::<Completion>()))?;
        Ok(Self {
            memory: Rc::new(RingMemory { sq, cq }),
            sq: Cursor::new(entries.into()),
            cq: Cursor::new(entries.into()),
            sq_rung: 0,
            taken: 0,
            taken_max: u32::from(entries).div_ceil(TAKEN_PART),
            sq_doorbell: sq_tail_doorbell(qid, stride),
            cq_doorbell: cq_head_doorbell(qid, stride),
            rung: DoorbellStats::default(),
            elsewhere: elsewhere.map(Box::new),
            registers,
        })
    }

    pub(crate) fn registers(&self) -> &R {
        &self.registers
    }

    /// How often the doorbells were rung.
    pub(crate) const fn rung(&self) -> DoorbellStats {
        self.rung
    }

    pub(crate) fn entries(&self) -> u16 {
        self.sq.ring_len() as u16
    }

    pub(crate) fn sq_bus(&self) -> u64 {
        let elsewhere = self.elsewhere.as_ref().and_then(|elsewhere| elsewhere.entries_bus());
        elsewhere.unwrap_or(self.memory.sq.phys().as_u64())
    }

    pub(crate) fn cq_bus(&self) -> u64 {
        self.memory.cq.phys().as_u64()
    }

    /// Writes the next submission entry. The device learns of it at the next [`Self::commit`].
    #[inline]
    pub(crate) fn push(&mut self, command: &Command) {
        self.memory.sq.copy_in(self.sq.index() * size_of::<Command>(), command.as_bytes());
        self.sq.advance();
    }

    /// Rings the submission doorbell if anything was pushed since the last time.
    #[inline]
    pub(crate) fn commit(&mut self) -> Work {
        if self.sq.index() == self.sq_rung {
            return Work::IDLE;
        }
        let before = core::mem::replace(&mut self.sq_rung, self.sq.index());
        // The entries and what they point to must be in memory before the device is told.
        fence(Ordering::Release);
        if let Some(elsewhere) = &self.elsewhere {
            self.rung.sq_shadow += u64::from(elsewhere.has_doorbells());
            if !elsewhere.set_tail(&self.memory.sq, self.sq.ring_len(), before, self.sq_rung) {
                return Work(1);
            }
        }
        self.rung.sq_mmio += 1;
        self.registers.write32(self.sq_doorbell, self.sq_rung as u32);
        Work(1)
    }

    /// Whether the device has written no completion.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        let at = self.cq.index() * size_of::<Completion>() + Completion::STATUS_PHASE;
        (self.memory.cq.load16(at) & 1 != 0) != self.cq.phase()
    }

    /// Takes the next completion, if the device has written one.
    #[inline]
    pub(crate) fn next_completion(&mut self) -> Option<RawCompletion> {
        let at = self.cq.index() * size_of::<Completion>();
        // One load for phase, status and identifier, so that none can be older than the phase;
        // with acquire: what is read later, the data too, the device has written before.
        let upper = self.memory.cq.load64(at + UPPER_HALF);
        let (cid, status_phase) = ((upper >> 32) as u16, (upper >> 48) as u16);
        if (status_phase & 1 != 0) != self.cq.phase() {
            return None;
        }
        self.cq.advance();
        self.taken += 1;
        Some(RawCompletion { cid, status: Status::from_bits(status_phase >> 1), at })
    }

    /// Dword 0 of a completion that was just taken. Before [`Self::release`], or the device may
    /// have written the entry again.
    pub(crate) fn dw0(&self, completion: &RawCompletion) -> u32 {
        self.memory.cq.load32(completion.at)
    }

    /// Dwords 0 and 1 likewise.
    pub(crate) fn result(&self, completion: &RawCompletion) -> u64 {
        self.memory.cq.load64(completion.at)
    }

    /// Rings the completion doorbell if it is worth it.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.taken >= self.taken_max {
            self.release_all();
        }
    }

    /// Rings the completion doorbell if anything was taken since the last time.
    #[inline(never)]
    pub(crate) fn release_all(&mut self) {
        if self.taken == 0 {
            return;
        }
        self.taken = 0;
        let head = self.cq.index();
        if let Some(elsewhere) = &self.elsewhere {
            self.rung.cq_shadow += u64::from(elsewhere.has_doorbells());
            elsewhere.set_head(head as u16);
        }
        self.rung.cq_mmio += 1;
        self.registers.write32(self.cq_doorbell, head as u32);
    }

    /// Gives the ring memory up for good, for the device may still use it.
    pub(crate) fn leak(&self) {
        core::mem::forget(Rc::clone(&self.memory));
    }
}
