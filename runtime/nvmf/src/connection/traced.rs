//! What a connection writes down where it is traced.

use basalt_metrics::{Tpoint, TraceGroup};
use basalt_nvme_spec::Command;
use basalt_reactor::Local;

use super::queue::{Phase, Queue, Role};
use crate::command::Outcome;
use crate::pdu::Pdu;
use crate::pdu::wire::kind;

impl Queue {
    /// A command has come.
    #[inline(always)]
    pub(super) fn trace_new(&self, command: &Command) {
        if self.local.traces(TraceGroup::NvmfTcp) {
            self.write_new(command);
        }
    }

    #[cold]
    fn write_new(&self, command: &Command) {
        let qid = match self.phase {
            Phase::Ready(Role::Io { qid, .. }) => qid,
            _ => 0,
        };
        let lba = if qid == 0 { 0 } else { command.lba() };
        let small = (command.cid.get(), self.id.slot.into());
        self.local.trace(Tpoint::TcpReqNew, small, [command.opcode.into(), qid.into(), lba]);
    }

    /// The command in slot `index` has ended.
    #[inline(always)]
    pub(super) fn trace_completed(&self, index: u16) {
        if self.local.traces(TraceGroup::NvmfTcp) {
            self.write_completed(index);
        }
    }

    #[cold]
    fn write_completed(&self, index: u16) {
        let Some(slot) = self.slots.get(index) else { return };
        let Outcome { status, .. } = slot.outcome;
        let ns = self.local.now().since(slot.since).as_nanos() as u64;
        let small = (slot.cid(), self.id.slot.into());
        let status_bits = u64::from(status.sct()) << 8 | u64::from(status.sc());
        let values = [slot.command.opcode.into(), status_bits, ns];
        match status.is_success() {
            true => self.local.trace(Tpoint::TcpReqCompleted, small, values),
            false => self.local.trace_failed(Tpoint::TcpReqCompleted, small, values),
        }
    }

    /// The header of a PDU has come, with that much data behind it.
    #[inline(always)]
    pub(super) fn trace_received(&self, pdu: &Pdu<'_>, data_len: u32) {
        if self.local.traces(TraceGroup::NvmfTcp) {
            let kind = match pdu {
                Pdu::IcReq(_) => kind::IC_REQ,
                Pdu::TermReq(_) => kind::H2C_TERM_REQ,
                Pdu::Command(_) => kind::CAPSULE_CMD,
                Pdu::Data(_) => kind::H2C_DATA,
            };
            trace_pdu(&self.local, Tpoint::TcpPduReceived, (kind, self.id.slot), data_len as usize);
        }
    }

    /// So many bytes have been taken from the connection, or handed to it.
    #[inline(always)]
    pub(super) fn trace_bytes(&self, tpoint: Tpoint, bytes: usize) {
        if self.local.traces(TraceGroup::Sock) {
            self.local.trace(tpoint, (0, self.id.slot.into()), [bytes as u64, 0, 0]);
        }
    }
}

/// A PDU of that type with so many bytes of data, on that connection.
#[cold]
#[inline(never)]
pub(super) fn trace_pdu(local: &Local, tpoint: Tpoint, (kind, slot): (u8, u16), data_len: usize) {
    local.trace(tpoint, (kind.into(), slot.into()), [data_len as u64, 0, 0]);
}
