//! One remapping unit.

use core::time::Duration;

use basalt_env::{Instant, PhysAddr, Registers};

use crate::fault::Fault;
use crate::iommu::StartError;
use crate::regs::{self, Capability};

/// How long a unit may take over anything; it is a matter of microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// A clock.
pub(crate) type Now<'a> = &'a dyn Fn() -> Instant;

/// A unit's registers.
pub(crate) struct Unit<R> {
    registers: R,
    capability: Capability,
}

impl<R: Registers> Unit<R> {
    /// The unit whose registers these are, if it answers.
    pub(crate) fn find(registers: R) -> Result<Self, StartError> {
        let capability = Capability(registers.read64(regs::CAPABILITY));
        if registers.read32(regs::VERSION) == u32::MAX || capability.0 == u64::MAX {
            return Err(StartError::NoAnswer);
        }
        Ok(Self { registers, capability })
    }

    pub(crate) const fn capability(&self) -> Capability {
        self.capability
    }

    /// Makes it translate by the tables at `root`, whatever firmware left it doing.
    pub(crate) fn enable(&self, root: PhysAddr, now: Now<'_>) -> Result<(), StartError> {
        self.switch_off(regs::TRANSLATION, now)?;
        self.switch_off(regs::QUEUED_INVALIDATION, now)?;
        self.flush_write_buffer(now)?;
        self.registers.write64(regs::ROOT_TABLE, root.as_u64());
        self.command(regs::SET_ROOT_TABLE);
        self.wait_for_status(regs::SET_ROOT_TABLE, regs::SET_ROOT_TABLE, now)?;
        self.invalidate(now)?;
        self.command(regs::TRANSLATION);
        self.wait_for_status(regs::TRANSLATION, regs::TRANSLATION, now)
    }

    /// Makes it forget what it has read of the tables.
    pub(crate) fn invalidate(&self, now: Now<'_>) -> Result<(), StartError> {
        self.flush_write_buffer(now)?;
        let context = regs::CONTEXT_INVALIDATE | regs::CONTEXT_GLOBAL;
        self.registers.write64(regs::CONTEXT_COMMAND, context);
        self.wait(now, |unit| {
            unit.registers.read64(regs::CONTEXT_COMMAND) & regs::CONTEXT_INVALIDATE == 0
        })?;
        let iotlb = regs::iotlb(self.registers.read64(regs::EXTENDED_CAPABILITY)) + 8;
        let all = regs::IOTLB_INVALIDATE | regs::IOTLB_GLOBAL | regs::IOTLB_DRAIN;
        self.registers.write64(iotlb, all);
        self.wait(now, |unit| unit.registers.read64(iotlb) & regs::IOTLB_INVALIDATE == 0)
    }

    /// Hands the faults since the last time to `tell`; whether there were more than it could keep.
    pub(crate) fn faults(&self, segment: u16, tell: &mut dyn FnMut(Fault)) -> bool {
        let status = self.registers.read32(regs::FAULT_STATUS);
        if status == u32::MAX || status & (regs::FAULT_PENDING | regs::FAULT_OVERFLOW) == 0 {
            return false;
        }
        let (start, count) = self.capability.fault_records();
        for record in (0..count).map(|index| start + 16 * index) {
            let high = self.registers.read64(record + 8);
            if high & regs::RECORD_FULL != 0 && high != u64::MAX {
                tell(Fault::from_record(segment, self.registers.read64(record), high));
                self.registers.write32(record + 12, (regs::RECORD_FULL >> 32) as u32);
            }
        }
        self.registers.write32(regs::FAULT_STATUS, regs::FAULT_OVERFLOW);
        status & regs::FAULT_OVERFLOW != 0
    }

    fn flush_write_buffer(&self, now: Now<'_>) -> Result<(), StartError> {
        if !self.capability.flushes_by_command() {
            return Ok(());
        }
        self.command(regs::FLUSH_WRITE_BUFFER);
        self.wait_for_status(regs::FLUSH_WRITE_BUFFER, 0, now)
    }

    fn status(&self) -> u32 {
        self.registers.read32(regs::GLOBAL_STATUS)
    }

    /// Commands go one at a time, each beside what is on already (§11.4.4).
    fn command(&self, bit: u32) {
        let on = self.status() & regs::STATUS_KEPT;
        self.registers.write32(regs::GLOBAL_COMMAND, on | bit);
    }

    fn switch_off(&self, bit: u32, now: Now<'_>) -> Result<(), StartError> {
        let on = self.status() & regs::STATUS_KEPT;
        if on & bit == 0 {
            return Ok(());
        }
        self.registers.write32(regs::GLOBAL_COMMAND, on & !bit);
        self.wait_for_status(bit, 0, now)
    }

    fn wait_for_status(&self, mask: u32, wanted: u32, now: Now<'_>) -> Result<(), StartError> {
        self.wait(now, |unit| unit.status() & mask == wanted)
    }

    fn wait(&self, now: Now<'_>, done: impl Fn(&Self) -> bool) -> Result<(), StartError> {
        let late = now() + PATIENCE;
        while !done(self) {
            if now() > late {
                return Err(StartError::Stuck);
            }
            core::hint::spin_loop();
        }
        Ok(())
    }
}
