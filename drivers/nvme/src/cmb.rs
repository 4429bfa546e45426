//! Submission queues in the controller's own memory (base specification 2.0 §8.5): it need not
//! fetch commands, for they are brought to it.

use core::fmt;

use basalt_env::{BarError, Device, DmaMem, Registers};
use basalt_nvme_spec::registers::{CMBLOC, CMBMSC, CMBSTS, CMBSZ, sq_tail_doorbell};
use basalt_nvme_spec::{CmbControl, CmbLocation, CmbSize, Command, PAGE_SIZE, QueueId};

use crate::Controller;

/// A controller's memory buffer, turned on.
#[derive(Debug)]
pub(crate) struct Cmb<R> {
    registers: R,
    /// Where the controller finds it.
    bus: u64,
}

/// A submission ring in it.
#[derive(Clone, Debug)]
pub(crate) struct CmbRing<R> {
    registers: R,
    bus: u64,
}

/// Why a memory buffer is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unusable {
    /// It is in units that do not exist.
    Unit,
    /// Its BAR cannot be used.
    Bar(BarError),
    /// It begins beyond the end of its BAR.
    BeyondBar,
    /// It begins among the registers.
    AmongRegisters,
    /// The controller does not take its address on the bus.
    Address,
}

impl From<BarError> for Unusable {
    fn from(error: BarError) -> Self {
        Self::Bar(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "its size is in units that do not exist",
            Self::Bar(error) => return error.fmt(f),
            Self::BeyondBar => "it begins beyond the end of its BAR",
            Self::AmongRegisters => "it begins among the registers",
            Self::Address => "the controller does not take its address",
        })
    }
}

impl<R: Registers> Cmb<R> {
    /// The place of a queue's ring; `None` if the buffer ends before.
    fn ring(&self, qid: QueueId, entries: u16) -> Option<CmbRing<R>> {
        let len = (usize::from(entries) * size_of::<Command>()).next_multiple_of(PAGE_SIZE);
        let at = len.checked_mul(usize::from(qid).checked_sub(1)?)?;
        let registers = self.registers.window(at, len)?;
        Some(CmbRing { registers, bus: self.bus + at as u64 })
    }
}

impl<R: Registers> CmbRing<R> {
    /// Where the controller finds it.
    pub(crate) const fn bus(&self) -> u64 {
        self.bus
    }

    /// Brings the entries from `start` up to `end` (both below `entries`) there.
    pub(crate) fn bring(&self, ring: &DmaMem, start: usize, end: usize, entries: usize) {
        let mut index = start;
        while index != end {
            let at = index * size_of::<Command>();
            for at in (at..at + size_of::<Command>()).step_by(size_of::<u64>()) {
                self.registers.write64(at, ring.load64(at));
            }
            index = if index + 1 == entries { 0 } else { index + 1 };
        }
    }
}

impl<D: Device> Controller<D> {
    /// Turns the memory buffer on, if there is one that is to be used and can be. The controller is
    /// disabled.
    pub(crate) fn take_memory_buffer(&self) {
        let is_wanted = self.options.controller_memory_buffer;
        let found = if is_wanted { self.find_memory_buffer() } else { Ok(None) };
        let cmb = found.unwrap_or_else(|reason| {
            log::warn!("nvme {}: its memory buffer is not used: {reason}", self.address);
            None
        });
        match &cmb {
            Some(cmb) => {
                let kib = cmb.registers.len() >> 10;
                log::info!("nvme {}: submission queues in its own {kib} KiB", self.address);
            }
            None => self.turn_off_memory_buffer(),
        }
        *self.cmb.borrow_mut() = cmb;
    }

    /// Else what firmware has set could make the controller take memory of ours for its own.
    fn turn_off_memory_buffer(&self) {
        if self.cap.controller_memory() && self.registers.read64(CMBMSC) != CmbControl::OFF.0 {
            self.registers.write64(CMBMSC, CmbControl::OFF.0);
        }
    }

    fn find_memory_buffer(&self) -> Result<Option<Cmb<D::Registers>>, Unusable> {
        if self.cap.controller_memory() {
            self.registers.write64(CMBMSC, CmbControl::TELLS.0);
        }
        // Where that is not so, these registers are zero, or the buffer is on as before 1.4.
        let size = CmbSize(self.registers.read32(CMBSZ));
        if !size.is_present() || !size.takes_submission_queues() {
            return Ok(None);
        }
        let location = CmbLocation(self.registers.read32(CMBLOC));
        let (unit, bytes) = size.unit().zip(size.bytes()).ok_or(Unusable::Unit)?;
        // Units are powers of two up to 2³⁶ and fewer than 2²⁰: no overflow.
        let offset = unit * u64::from(location.offset());
        let mut device = self.device.borrow_mut();
        let bar = device.bar(location.bar())?;
        // Beyond the end of the BAR there is nothing, whatever the controller says (§3.1.3, CMBSZ).
        let room = (bar.len() as u64).saturating_sub(offset).min(bytes);
        let registers = bar.window(offset as usize, room as usize).filter(|_| room != 0);
        let registers = registers.ok_or(Unusable::BeyondBar)?;
        let doorbells_end = sq_tail_doorbell(self.options.queues, self.cap.doorbell_stride())
            + 2 * self.cap.doorbell_stride();
        if location.bar() == 0 && offset < doorbells_end as u64 {
            return Err(Unusable::AmongRegisters);
        }
        let base = device.bar_address(location.bar())?.as_u64();
        // Its own address on the bus is one where nothing else is.
        let bus = base.checked_add(offset).filter(|bus| bus.checked_add(room).is_some());
        let bus = bus.ok_or(Unusable::Address)?;
        self.turn_on_memory_buffer(bus)?;
        Ok(Some(Cmb { registers, bus }))
    }

    fn turn_on_memory_buffer(&self, bus: u64) -> Result<(), Unusable> {
        if !self.cap.controller_memory() {
            return Ok(());
        }
        self.registers.write64(CMBMSC, CmbControl::at(bus).0);
        let is_refused = self.registers.read32(CMBSTS) & 1 != 0;
        if is_refused { Err(Unusable::Address) } else { Ok(()) }
    }

    /// Whether it is on.
    pub(crate) fn has_memory_buffer(&self) -> bool {
        self.cmb.borrow().is_some()
    }

    /// The place of a queue's ring in it, if there is one.
    pub(crate) fn cmb_ring(&self, qid: QueueId, entries: u16) -> Option<CmbRing<D::Registers>> {
        self.cmb.borrow().as_ref()?.ring(qid, entries)
    }
}
