use basalt_bdev::SgList;
use basalt_env::DmaBuf;
use basalt_metrics::Operation;
use basalt_nvme_spec::{Command, Status};

use super::queue::{Phase, Queue, Role};
use super::slot::SlotState;
use crate::command::{self, Transfer};
use crate::group::Core;
use crate::pdu::{Admit, DataDigest, Fault, FaultKind, Pdu, Sink};

/// Takes received PDUs to their queue.
pub(super) struct Handler<'a> {
    queue: &'a mut Queue,
    core: &'a mut Core,
}

impl<'a> Handler<'a> {
    pub(super) const fn new(queue: &'a mut Queue, core: &'a mut Core) -> Self {
        Self { queue, core }
    }

    fn begin_command(&mut self, command: &Command, capsule_len: u32) -> Result<Admit, Fault> {
        if !self.queue.slots.has_free() {
            // More commands than the queue has entries.
            return Err(Fault::new(FaultKind::Sequence));
        }
        let is_io = matches!(self.queue.phase, Phase::Ready(Role::Io { .. }));
        if is_io && capsule_len > self.core.config.in_capsule_len {
            return Err(Fault::new(FaultKind::DataLimit));
        }
        let planned = self.plan(command, capsule_len);
        let mut buffer = None;
        if let Ok(Plan { transfer: Transfer::InCapsule { len, .. }, .. }) = planned {
            let Some(buf) = self.queue.capsule_buffer(len, self.core) else {
                return Ok(Admit::Wait);
            };
            buffer = Some(buf);
        }
        self.queue.receiving = self.take_slot(command, planned, buffer);
        Ok(Admit::Ready)
    }

    #[inline]
    fn take_slot(
        &mut self,
        command: &Command,
        planned: Result<Plan, Status>,
        buffer: Option<DmaBuf>,
    ) -> Option<u16> {
        let (generation, now) = (self.core.next_generation(), self.core.local.now());
        let (index, slot) = self.queue.slots.take(command, generation, now)?;
        match planned {
            Ok(plan) => {
                slot.transfer = plan.transfer;
                slot.channel = plan.channel;
            }
            Err(status) => slot.outcome = status.into(),
        }
        if let Some(buf) = buffer {
            slot.data = SgList::One(buf);
        }
        if let Transfer::InCapsule { offset, .. } = slot.transfer {
            slot.skip = offset;
        }
        self.queue.trace_new(command);
        self.queue.pair(index);
        Some(index)
    }

    /// Decides, before any data is accepted, whether and how a command may run.
    fn plan(&self, command: &Command, capsule_len: u32) -> Result<Plan, Status> {
        let is_io = matches!(self.queue.phase, Phase::Ready(Role::Io { .. }));
        if !is_io && command.flags & Command::FLAG_FUSE_MASK != 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let admin = || {
            let len_max = self.core.config.io_len_max;
            let transfer = command::transfer(command, capsule_len, len_max)?;
            Ok(Plan { transfer, channel: 0 })
        };
        match self.queue.phase {
            Phase::Greeted if command::is_connect(command) => admin(),
            Phase::Ready(Role::Admin { .. }) if !command::is_connect(command) => admin(),
            Phase::Ready(Role::Io { view, .. }) if !command::is_connect(command) => {
                super::io::plan(command, capsule_len, view, self.core)
            }
            _ => Err(Status::SEQUENCE_ERROR.with_dnr()),
        }
    }

    /// A command's capsule is complete.
    fn end_capsule(&mut self, index: u16) {
        let Some(slot) = self.queue.slots.get_mut(index) else { return };
        if !slot.outcome.status.is_success() {
            let outcome = slot.outcome;
            return self.queue.finish(index, outcome);
        }
        if slot.data_damaged {
            return self.queue.finish(index, Status::TRANSIENT_TRANSPORT.into());
        }
        slot.state = SlotState::Running;
        match slot.transfer {
            Transfer::None | Transfer::InCapsule { .. } => self.queue.execute(index, self.core),
            Transfer::FromHost { .. } | Transfer::ToHost { .. } => {
                self.queue.want_buffer(index, self.core);
            }
        }
    }

    /// One H2CData PDU is complete; the transfer may be.
    fn end_data(&mut self, index: u16) {
        let Some(slot) = self.queue.slots.get_mut(index) else { return };
        if slot.received < slot.expected() {
            return;
        }
        slot.state = SlotState::Running;
        if slot.data_damaged {
            return self.queue.finish(index, Status::TRANSIENT_TRANSPORT.into());
        }
        if !slot.outcome.status.is_success() {
            // Half of what came to nothing meanwhile.
            let outcome = slot.outcome;
            return self.queue.finish(index, outcome);
        }
        self.queue.execute(index, self.core);
    }
}

/// How a command will move data and which channel it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) transfer: Transfer,
    pub(super) channel: u16,
}

impl Sink for Handler<'_> {
    fn begin(&mut self, pdu: &Pdu<'_>, data_len: u32) -> Result<Admit, Fault> {
        self.queue.trace_received(pdu, data_len);
        self.queue.receiving = None;
        match pdu {
            Pdu::IcReq(request) => Ok(Admit::Negotiated(self.queue.greet(*request, self.core))),
            Pdu::TermReq(fes) => {
                log::warn!(
                    target: "nvmf",
                    "{}: the host terminated the connection, status {fes:#x}",
                    self.queue.name()
                );
                self.queue.host_left = true;
                Ok(Admit::Ready)
            }
            Pdu::Command(bytes) => {
                let command: Command = zerocopy::transmute!(**bytes);
                self.begin_command(&command, data_len)
            }
            Pdu::Data(data) => self.queue.begin_data(data).map(|()| Admit::Ready),
        }
    }

    fn bare(&mut self, pdu: &Pdu<'_>) -> Result<Admit, Fault> {
        let Pdu::Command(bytes) = pdu else {
            let admit = self.begin(pdu, 0)?;
            self.end(DataDigest::Good)?;
            return Ok(admit);
        };
        self.queue.trace_received(pdu, 0);
        let command: &Command = zerocopy::transmute_ref!(*bytes);
        if self.queue.read_at_once(command, self.core) {
            return Ok(Admit::Ready);
        }
        if !self.queue.slots.has_free() {
            return Err(Fault::new(FaultKind::Sequence));
        }
        let planned = self.plan(command, 0);
        if let Some(index) = self.take_slot(command, planned, None) {
            self.end_capsule(index);
        }
        Ok(Admit::Ready)
    }

    fn data(&mut self, bytes: &[u8]) {
        if let Some(slot) = self.queue.receiving.and_then(|at| self.queue.slots.get_mut(at)) {
            slot.receive(bytes);
        }
    }

    fn digested(&mut self, data_len: u32) {
        self.queue.local.operations().add(Operation::Crc32c, 1, data_len as usize);
    }

    fn end(&mut self, digest: DataDigest) -> Result<(), Fault> {
        let Some(index) = self.queue.receiving.take() else { return Ok(()) };
        let Some(slot) = self.queue.slots.get_mut(index) else { return Ok(()) };
        slot.data_damaged |= digest == DataDigest::Bad;
        match slot.state {
            SlotState::Capsule => self.end_capsule(index),
            SlotState::HostData => self.end_data(index),
            _ => {}
        }
        Ok(())
    }
}
