//! Commands that move no data of their sender's.

use basalt_env::Registers;
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{Command, CopyRange, DSM_RANGES_MAX, DsmAttributes, DsmRange};

use crate::describe::{NoData, Ranges};
use crate::io_queue::BLOCKS_MAX;
use crate::{IoQueue, Namespace, RejectReason, Rejected, Ticket};

impl<R: Registers, T> IoQueue<R, T> {
    /// Flushes `ns`: all completed writes become durable.
    pub fn flush(&mut self, ns: &Namespace, payload: T) -> Result<Ticket, Rejected<T>> {
        self.submit(Command::flush(ns.nsid()), payload, NoData)
    }

    /// Makes blocks read as zeroes, where the controller can ([`Oncs::WRITE_ZEROES`]).
    pub fn write_zeroes(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let mut command = Command::write_zeroes(ns.nsid(), lba, blocks);
        ns.protection().ask(&mut command, lba);
        self.on_blocks(Oncs::WRITE_ZEROES, command, ns, blocks, payload)
    }

    /// Has the controller check that blocks can be read and are as they were written, where it can
    /// ([`Oncs::VERIFY`]).
    pub fn verify(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let mut command = Command::verify(ns.nsid(), lba, blocks);
        ns.protection().ask(&mut command, lba);
        self.on_blocks(Oncs::VERIFY, command, ns, blocks, payload)
    }

    /// Makes blocks fail to be read until they are written, where the controller can
    /// ([`Oncs::WRITE_UNCORRECTABLE`]).
    pub fn write_uncorrectable(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let command = Command::write_uncorrectable(ns.nsid(), lba, blocks);
        self.on_blocks(Oncs::WRITE_UNCORRECTABLE, command, ns, blocks, payload)
    }

    fn on_blocks(
        &mut self,
        needed: Oncs,
        command: Command,
        ns: &Namespace,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        if !self.oncs().contains(needed) {
            return Err(Rejected { payload, reason: RejectReason::Unsupported });
        }
        let lba = command.lba();
        if blocks > BLOCKS_MAX || !ns.contains(lba, blocks) {
            return Err(Rejected { payload, reason: RejectReason::OutOfRange });
        }
        self.submit(command, payload, NoData)
    }

    /// Copies blocks, all from one range, to `lba` and after, where the controller can: no more of
    /// them than [`Namespace::copy_max`], and to a place that has none of them.
    pub fn copy(
        &mut self,
        ns: &Namespace,
        from: u64,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let reason = if blocks > ns.copy_max() {
            RejectReason::Unsupported
        } else if !ns.contains(from, blocks) || !ns.contains(lba, blocks) {
            RejectReason::OutOfRange
        } else {
            let command = Command::copy(ns.nsid(), lba, 1);
            return self.submit(command, payload, Ranges(&[CopyRange::new(from, blocks)]));
        };
        Err(Rejected { payload, reason })
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
        let reason = if !self.oncs().contains(Oncs::DATASET_MANAGEMENT) {
            RejectReason::Unsupported
        } else if ranges.is_empty() || ranges.len() > DSM_RANGES_MAX || !ranges.iter().all(inside) {
            RejectReason::OutOfRange
        } else {
            let count = ranges.len() as u32;
            let command = Command::dataset_management(ns.nsid(), count, DsmAttributes::DEALLOCATE);
            return self.submit(command, payload, Ranges(ranges));
        };
        Err(Rejected { payload, reason })
    }
}
