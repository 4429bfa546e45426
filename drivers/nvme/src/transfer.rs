//! Transfers of which more has to be told than where a few pages are.

use basalt_env::Registers;
use basalt_nvme_spec::Command;

use crate::describe::{Interleaved, Segments, SglSegments};
use crate::io_queue::BLOCKS_MAX;
use crate::metadata::Metadata;
use crate::payload::pieces;
use crate::{Direction, IoQueue, Namespace, Payload, RejectReason, Rejected, Sgls, Ticket, prp};

impl<R: Registers, T: Payload> IoQueue<R, T> {
    /// [`Self::transfer`] where blocks may carry protection information, and buffers may lie so
    /// that lists of pages cannot describe them.
    #[cold]
    #[inline(never)]
    pub(crate) fn transfer_closely(
        &mut self,
        direction: Direction,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let mut command = Command::on_range(direction.opcode(), ns.nsid(), lba, blocks);
        ns.protection().ask(&mut command, lba);
        let bytes = ns.bytes(blocks);
        if blocks > BLOCKS_MAX || !ns.contains(lba, blocks) {
            return Err(Rejected { payload, reason: RejectReason::OutOfRange });
        }
        if bytes > ns.transfer_max(self.transfer_max()) {
            return Err(Rejected { payload, reason: RejectReason::MaxTransfer });
        }
        match ns.metadata() {
            Metadata::None => self.submit_data(command, bytes, payload),
            Metadata::Separate(_) => match self.lists().metadata(direction) {
                Ok(place) => {
                    command.mptr = place.as_u64().into();
                    self.submit_data(command, bytes, payload)
                }
                Err(reason) => Err(Rejected { payload, reason }),
            },
            Metadata::Interleaved(size) => {
                command.flags = Command::FLAG_SGL;
                let block = ns.bytes(1);
                self.submit(command, payload, Interleaved { bytes, block, size, direction })
            }
        }
    }

    /// Sends a command with so many bytes of data, which may lie anywhere.
    pub(crate) fn submit_data(
        &mut self,
        mut command: Command,
        bytes: u64,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        match self.sgls() {
            Some(Sgls { granule, .. }) if !prp::can_describe(pieces(&payload)) => {
                command.flags = Command::FLAG_SGL;
                self.submit(command, payload, SglSegments { bytes, granule: granule as u64 })
            }
            _ => self.submit(command, payload, Segments { bytes }),
        }
    }
}
