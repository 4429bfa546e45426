//! Commands that are carried out together or not at all (base specification 2.0 §3.4.1.2).

use basalt_env::Registers;
use basalt_nvme_spec::{Command, NvmOpcode};

use crate::describe::Segments;
use crate::{IoQueue, Namespace, Payload, RejectReason, Rejected};

impl<R: Registers, T: Payload> IoQueue<R, T> {
    /// Compares `blocks` at `lba` with the buffers of `compare` and, if they are the same, writes
    /// those of `write`, with nobody else's write in between: at most
    /// [`Namespace::compare_and_write_max`] blocks. Both commands complete; of an unequal
    /// comparison the second one as
    /// [`Status::FAILED_FUSED`](basalt_nvme_spec::Status::FAILED_FUSED).
    ///
    /// # Errors
    /// Gives both payloads back.
    pub fn compare_and_write(
        &mut self,
        ns: &Namespace,
        lba: u64,
        blocks: u32,
        compare: T,
        write: T,
    ) -> Result<(), Rejected<(T, T)>> {
        let reason = if blocks > ns.compare_and_write_max() {
            Some(RejectReason::Unsupported)
        } else if !ns.contains(lba, blocks) {
            Some(RejectReason::OutOfRange)
        } else if ns.bytes(blocks) > self.transfer_max() {
            Some(RejectReason::MaxTransfer)
        } else if self.depth() - self.outstanding() < 2 {
            Some(RejectReason::QueueFull)
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Rejected { payload: (compare, write), reason });
        }
        let command = |opcode, fuse| {
            let mut command = Command::on_range(opcode, ns.nsid(), lba, blocks);
            ns.protection().ask(&mut command, lba);
            command.flags |= fuse;
            command
        };
        let mut first = command(NvmOpcode::COMPARE, Command::FUSE_FIRST);
        let mut second = command(NvmOpcode::WRITE, Command::FUSE_SECOND);
        let bytes = ns.bytes(blocks);
        let placed = match self.place(&mut first, compare, Segments { bytes }) {
            Ok(placed) => placed,
            Err(Rejected { payload, reason }) => {
                return Err(Rejected { payload: (payload, write), reason });
            }
        };
        let Err(Rejected { payload: write, reason }) =
            self.place(&mut second, write, Segments { bytes })
        else {
            // One after the other, and the device hears of both at once.
            self.push(&first);
            self.push(&second);
            return Ok(());
        };
        self.hand_back(placed, reason).map(drop).map_err(|Rejected { payload: compare, .. }| {
            Rejected { payload: (compare, write), reason }
        })
    }
}
