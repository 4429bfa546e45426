//! Commands that have got an error that was injected.

use alloc::boxed::Box;

use basalt_bdev::{Io, Op, SgList};
use basalt_nvme_spec::{Hold, NvmOpcode, Status};

use super::{Carrier, Pending};

/// Bits 1:0 of the opcode of a command that brings data.
const FROM_DEVICE: u8 = 2;

impl Pending {
    /// The command in flight is said to end with `status` if it succeeds.
    pub(crate) fn forge(&mut self, status: Status) {
        let carrier = core::mem::replace(&mut self.carrier, Carrier::Whole);
        self.carrier = Carrier::Forged(Box::new((carrier, status)));
    }

    /// The command that was prepared is not sent. What the device does not get brings nothing: if
    /// that counts as done, it brings zeroes.
    pub(crate) fn hold(&mut self, hold: Hold) {
        if hold.status.is_success() && opcode_of(&self.io) & 3 == FROM_DEVICE {
            self.io.data.as_mut_slice().iter_mut().for_each(|buf| buf.as_mut_slice().fill(0));
        }
        self.carrier = Carrier::Held(Box::new(hold));
    }

    /// Whether what is held back is so no longer, at `now_ns` or because nobody wants it.
    pub(crate) fn is_held_until(&mut self, now_ns: u64) -> bool {
        let is_given_up = self.is_given_up();
        match &mut self.carrier {
            Carrier::Held(hold) => is_given_up || hold.is_over(now_ns),
            _ => true,
        }
    }

    /// Takes note that what was held back ends. Whether there is another piece to do, or the same
    /// once more.
    pub(crate) fn held_ended(&mut self) -> bool {
        let carrier = core::mem::replace(&mut self.carrier, Carrier::Whole);
        let status = match carrier {
            Carrier::Held(hold) if !self.is_given_up() => hold.status,
            _ => Status::ABORT_REQUESTED,
        };
        if !status.is_success() {
            return self.piece_failed(status);
        }
        self.blocks_done += self.blocks;
        self.io.status = Ok(());
        self.blocks_done < self.io.blocks
    }
}

/// The opcode of the commands for an Io; of a compare and write, that of the first of two.
pub(crate) fn opcode_of(io: &Io) -> u8 {
    let NvmOpcode(opcode) = match io.op {
        Op::Read => NvmOpcode::READ,
        Op::Write => NvmOpcode::WRITE,
        Op::Unmap => NvmOpcode::DATASET_MANAGEMENT,
        Op::WriteZeroes => NvmOpcode::WRITE_ZEROES,
        Op::Compare | Op::CompareAndWrite => NvmOpcode::COMPARE,
        Op::Verify => NvmOpcode::VERIFY,
        Op::WriteUncorrectable => NvmOpcode::WRITE_UNCORRECTABLE,
        Op::Copy => NvmOpcode::COPY,
        Op::ZoneAppend => NvmOpcode::ZONE_APPEND,
        Op::ZoneOpen | Op::ZoneClose | Op::ZoneFinish | Op::ZoneReset => NvmOpcode::ZONE_SEND,
        Op::ZoneReport => NvmOpcode::ZONE_RECEIVE,
        Op::Flush | Op::NvmeIo | Op::NvmeAdmin | Op::Reset => match &io.data {
            SgList::Nvme(passthru) => NvmOpcode(passthru.command[0] as u8),
            _ => NvmOpcode::FLUSH,
        },
    };
    opcode
}
