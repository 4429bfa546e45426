use core::mem::offset_of;

use basalt_metrics::Operation;
use basalt_nvme_spec::{Completion, Status};
use basalt_ring::Tag;

use super::send::Terms;
use super::slot::{Outgoing, Slot};
use super::{Ended, Inner};
use basalt_nvmf_pdu::wire;
use basalt_nvmf_pdu::{
    Admit, C2hData, DataDigest, DataRest, Fault, FaultKind, FromController, IcResp,
    ReadyToTransfer, Sink, ToHost,
};

impl Inner {
    /// The command that a controller means; it must have been sent.
    fn named(&mut self, cid: u16, offset: usize) -> Result<(Tag, &mut Slot), Fault> {
        let tag = Tag::from_u16(cid);
        match self.slots.get_mut(tag) {
            Ok(slot) if slot.outgoing != Outgoing::Capsule => Ok((tag, slot)),
            _ => Err(Fault::field(offset)),
        }
    }

    fn greeted(&mut self, response: &IcResp) -> Result<Admit, Fault> {
        let IcResp { data_align, digests, h2c_data_max } = *response;
        let unasked = digests.header && !self.wanted.header || digests.data && !self.wanted.data;
        if unasked {
            return Err(Fault::field(offset_of!(wire::IcResp, digest)));
        }
        self.sender.agree(Terms { digests, data_align, h2c_data_max });
        Ok(Admit::Negotiated(digests))
    }

    fn begin_data(&mut self, data: &C2hData) -> Result<(), Fault> {
        let (tag, slot) = self.named(data.cid, offset_of!(wire::Data, cccid))?;
        // Data comes in order (§3.3.2.1).
        let end = data.offset.checked_add(data.len);
        let fits = end.is_some_and(|end| end <= slot.data.in_len());
        if data.offset != slot.received || !fits {
            return Err(Fault::new(FaultKind::DataOutOfRange));
        }
        self.receiving = Some((tag, data.rest));
        Ok(())
    }

    fn ready_to_transfer(&mut self, wanted: &ReadyToTransfer) -> Result<(), Fault> {
        let is_sending = self.sender.is_sending(Tag::from_u16(wanted.cid));
        let (tag, slot) = self.named(wanted.cid, offset_of!(wire::R2t, cccid))?;
        let end = wanted.offset.checked_add(wanted.len);
        if slot.early.is_some() || end.is_none_or(|end| end > slot.data.out_len()) {
            return Err(Fault::new(FaultKind::DataOutOfRange));
        }
        // We said that we take one at a time (MAXR2T).
        if slot.outgoing != Outgoing::Nothing || is_sending {
            return Err(Fault::new(FaultKind::DataLimit));
        }
        slot.outgoing = Outgoing::Data(*wanted);
        self.sender.enqueue(tag);
        Ok(())
    }

    fn responded(&mut self, entry: &[u8; 16]) -> Result<(), Fault> {
        let completion: Completion = zerocopy::transmute!(*entry);
        let (tag, _) = self.named(completion.cid.get(), CID)?;
        self.complete(tag, completion);
        Ok(())
    }

    /// The command has been answered. It ends once none of its data is on the way out.
    fn complete(&mut self, tag: Tag, completion: Completion) {
        if self.sender.is_sending(tag) {
            if let Ok(slot) = self.slots.get_mut(tag) {
                slot.early = Some(completion);
            }
            return;
        }
        if let Ok(slot) = self.slots.remove(tag) {
            self.ended.push(Ended::new(slot, completion));
        }
    }
}

/// Where the command identifier is in a response capsule.
const CID: usize = offset_of!(wire::CapsuleResp, cqe) + offset_of!(Completion, cid);

impl Sink<ToHost> for Inner {
    fn begin(&mut self, pdu: &FromController<'_>, _: u32) -> Result<Admit, Fault> {
        self.receiving = None;
        match pdu {
            FromController::IcResp(response) => return self.greeted(response),
            FromController::TermReq(status) => self.terminated = Some(*status),
            FromController::Response(entry) => self.responded(entry)?,
            FromController::Data(data) => self.begin_data(data)?,
            FromController::R2t(wanted) => self.ready_to_transfer(wanted)?,
        }
        Ok(Admit::Ready)
    }

    fn data(&mut self, bytes: &[u8]) {
        let Some((tag, _)) = self.receiving else { return };
        if let Ok(slot) = self.slots.get_mut(tag) {
            slot.receive(bytes);
        }
    }

    fn digested(&mut self, data_len: u32) {
        self.sender.local.operations().add(Operation::Crc32c, 1, data_len as usize);
    }

    fn end(&mut self, digest: DataDigest) -> Result<(), Fault> {
        let Some((tag, rest)) = self.receiving.take() else { return Ok(()) };
        if digest == DataDigest::Bad
            && let Ok(slot) = self.slots.get_mut(tag)
        {
            slot.told = Status::TRANSIENT_TRANSPORT;
        }
        if rest == DataRest::Nothing {
            self.complete(tag, Completion::new(tag.as_u16(), Status::SUCCESS));
        }
        Ok(())
    }
}
