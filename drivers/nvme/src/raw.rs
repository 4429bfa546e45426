//! Commands as somebody else wrote them. Whatever they say, the device reaches the buffer that came
//! with them and nothing else.

use basalt_env::{DmaBuf, Registers};
use basalt_nvme_spec::{Command, CopyRange, IoFlags, NvmOpcode, SglDescriptor, ZoneAction};
use basalt_ring::Tag;

use crate::describe::{Describe, Lists, NoData, Segments, sgl_pointer};
use crate::metadata::Metadata;
use crate::{IoQueue, Namespace, Payload, RejectReason, Rejected, Ticket, prp};

/// Bits 1:0 of an opcode: which way data goes (base specification §3.3.3.1, figure 87).
const DATA_DIRECTION: u8 = 0b11;

impl<R: Registers, T: Payload> IoQueue<R, T> {
    /// Sends `command` on `ns`, whose identifier it gets, with the payload's one buffer or none.
    ///
    /// Its data pointer, metadata pointer and fused bits are cleared. Where the controller takes
    /// SGLs, one tells the buffer's length, and the device refuses a command that moves more. Where
    /// it does not, only commands whose length is known are sent, with just that much data.
    /// Metadata is not moved: on a namespace that has some, those commands are left that have the
    /// controller add it (PRACT) or have nothing to do with it.
    pub fn raw(
        &mut self,
        ns: &Namespace,
        mut command: Command,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let moves_metadata = ns.has_metadata() && !leaves_metadata(&command, ns);
        let moves_data = command.opcode & DATA_DIRECTION != 0;
        let bytes = payload.segments().iter().map(|data| data.len() as u64).sum();
        let reason = match payload.segments() {
            _ if moves_metadata => Some(RejectReason::Unsupported),
            // An empty buffer is no place for data either.
            _ if bytes == 0 => {
                let lacks = moves_data && data_len(&command, ns) != Some(0);
                lacks.then_some(RejectReason::BadLength)
            }
            [data] => self.check_data(&command, ns, data),
            _ => Some(RejectReason::BadLength),
        };
        if let Some(reason) = reason {
            return Err(Rejected { payload, reason });
        }
        command.nsid = ns.nsid().into();
        command.mptr = Default::default();
        command.flags = 0;
        if bytes == 0 {
            return self.submit(command, payload, NoData);
        }
        if self.sgls().is_some() {
            command.flags = Command::FLAG_SGL;
            return self.submit(command, payload, OneBlock);
        }
        self.submit(command, payload, Segments { bytes })
    }

    fn check_data(&self, command: &Command, ns: &Namespace, data: &DmaBuf) -> Option<RejectReason> {
        if data.len() as u64 > self.transfer_max() {
            return Some(RejectReason::MaxTransfer);
        }
        match data_len(command, ns) {
            Some(len) => (len != data.len() as u64).then_some(RejectReason::BadLength),
            None if self.sgls().is_some() => None,
            None => Some(RejectReason::Unsupported),
        }
    }
}

/// Whether a command moves no metadata between memory and device.
fn leaves_metadata(command: &Command, ns: &Namespace) -> bool {
    match NvmOpcode(command.opcode) {
        NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::COMPARE => {
            let none = ns.metadata() == Metadata::None;
            none && command.io_flags().contains(IoFlags::PRACT)
        }
        NvmOpcode::DATASET_MANAGEMENT => true,
        _ => command.opcode & DATA_DIRECTION == 0,
    }
}

/// How many bytes an I/O command moves, if that is known.
fn data_len(command: &Command, ns: &Namespace) -> Option<u64> {
    match NvmOpcode(command.opcode) {
        NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::COMPARE => Some(ns.bytes(command.blocks())),
        NvmOpcode::FLUSH
        | NvmOpcode::WRITE_ZEROES
        | NvmOpcode::WRITE_UNCORRECTABLE
        | NvmOpcode::VERIFY => Some(0),
        NvmOpcode::ZONE_APPEND => Some(ns.bytes(command.blocks())),
        NvmOpcode::ZONE_RECEIVE => Some((u64::from(command.cdw12.get()) + 1) * 4),
        // All but the one that sets what is told of a zone beside its descriptor.
        NvmOpcode::ZONE_SEND if ZoneAction::of(command.cdw13.get() as u8).is_some() => Some(0),
        NvmOpcode::DATASET_MANAGEMENT => Some(u64::from(command.dsm_ranges()) * 16),
        NvmOpcode::COPY if command.copy_format() == 0 => {
            Some(u64::from(command.copy_ranges()) * size_of::<CopyRange>() as u64)
        }
        _ => None,
    }
}

/// The payload's one buffer as an SGL data block.
struct OneBlock;

impl<T: Payload> Describe<T> for OneBlock {
    fn describe(self, payload: &T, _: Tag, _: &Lists) -> Result<prp::Prps, RejectReason> {
        let [data] = payload.segments() else { return Err(RejectReason::BadLength) };
        let block = SglDescriptor::data_block(data.phys().as_u64(), data.len() as u32);
        Ok(sgl_pointer(block))
    }
}
